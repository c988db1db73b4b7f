"""The flight recorder's lines on disk: a few files, appended to; when the newest is full, the oldest goes.

Not synced: a power cut may cost the last seconds of a record that nothing but `p2pmodel why` reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from p2pmodel.limits import FLIGHT_FILE_BYTES, FLIGHT_FILES_MAX
from p2pmodel.store.disk import disk_errors


class FlightFiles:
    """`<state>/flights/000001.jsonl` and so on. One writer at a time; readers need not wait for it."""

    def __init__(self, folder: Path, *, file_bytes: int = FLIGHT_FILE_BYTES, files_max: int = FLIGHT_FILES_MAX) -> None:
        self._folder = folder
        self._file_bytes = file_bytes
        self._files_max = files_max

    def append(self, lines: Sequence[bytes]) -> None:
        """Raises StoreError."""
        with disk_errors("writing the flight record"):
            self._folder.mkdir(mode=0o700, exist_ok=True)  # names of private blobs are in it
            with self._newest().open("a+b") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":  # torn by whatever ended the last writer
                        file.write(b"\n")
                file.writelines(line + b"\n" for line in lines)

    def lines(self) -> Iterator[bytes]:
        """All that is kept, oldest first, without line ends; the last may be torn. Raises StoreError."""
        with disk_errors("reading the flight record"):
            for path in self._files():
                try:
                    text = path.read_bytes()
                except FileNotFoundError:  # made room meanwhile
                    continue
                yield from text.splitlines()

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*.jsonl"))

    def _newest(self) -> Path:
        """The file to append to; begins a new one and drops the oldest when it is time."""
        files = self._files()
        number = int(files[-1].stem) if files else 0
        if files and files[-1].stat().st_size < self._file_bytes:
            return files[-1]
        for old in files[: max(0, len(files) + 1 - self._files_max)]:
            old.unlink()
        return self._folder / f"{number + 1:06}.jsonl"
