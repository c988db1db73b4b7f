"""Cuts a file as Xet does (huggingface.co/docs/xet/chunking): who holds all its bytes makes the list of its pieces."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from p2pmodel.content.digest import Bytes
from p2pmodel.content.pieces import PIECE_ENTRY_BYTES, PieceList, piece_entry
from p2pmodel.limits import PIECES_MAX, XET_CHUNK_BYTES_MAX

if TYPE_CHECKING:
    from p2pmodel.content.gear import Gear

_PIECE_BYTES_MIN: Final = 8 * 1024  # of all but a file's last


class Cutter:
    """Fed a file's bytes in order, in buffers of any size: those of a few MiB cost 4 s of a core for a GiB. Raises ValueError
    for a file of more pieces than a list may have."""

    def __init__(self) -> None:
        self._gear: Gear | None = None
        self._entries = bytearray()
        self._open = bytearray()  # a piece that has not ended yet

    def feed(self, data: Bytes) -> None:
        view, places = memoryview(data), self._places(data)
        start = -len(self._open)
        while (stop := _end(places, start)) <= len(view):
            self._close(view[max(start, 0) : stop])
            start = stop
        self._open += view[max(start, 0) :]

    def finish(self) -> PieceList:
        """All of the file has come."""
        if self._open:
            self._close(memoryview(b""))
        return PieceList.read(bytes(self._entries))

    def _places(self, data: Bytes) -> list[int]:
        """Numpy is loaded with the first bytes: its 0.1 s are spent in the thread that cuts, its 16 MB by those only who do."""
        if self._gear is None:
            from p2pmodel.content.gear import Gear  # noqa: PLC0415

            self._gear = Gear()
        return self._gear.places(data)

    def _close(self, rest: memoryview) -> None:
        self._entries += piece_entry(self._open + rest if self._open else rest)
        self._open.clear()
        if len(self._entries) > PIECES_MAX * PIECE_ENTRY_BYTES:
            raise ValueError(f"a file of more than {PIECES_MAX} pieces")


def _end(places: list[int], start: int) -> int:
    """Where the piece ends that begins at `start`; what lies beyond the known bytes is not known yet."""
    at = bisect_left(places, start + _PIECE_BYTES_MIN)
    return min([*places[at : at + 1], start + XET_CHUNK_BYTES_MAX])
