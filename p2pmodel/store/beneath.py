"""Going down from a directory we trust, one name at a time, by descriptors: no symbolic link is ever followed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from p2pmodel.errors import StoreError


@contextmanager
def directory(top: Path, names: Sequence[str], *, mode: int) -> Iterator[int]:
    """A descriptor of top/names…, made with `mode` where missing. Raises StoreError if anything else is on the way."""
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for depth, name in enumerate(names):
            below = _step(fd, name, mode, top.joinpath(*names[: depth + 1]))
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)


def _step(fd: int, name: str, mode: int, path: Path) -> int:
    if not name or name in {".", ".."} or "/" in name or "\0" in name:
        raise StoreError(f"{name[:200]!r} is no name for a directory.")
    made = False
    with suppress(FileExistsError):
        os.mkdir(name, mode, dir_fd=fd)  # pathlib knows no dir_fd
        made = True
    try:
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    except NotADirectoryError:
        raise StoreError(
            f"{path} is in the way: not a directory.", next_step="Remove it and run the same command again."
        ) from None
    if made:
        os.fchmod(below, mode)  # whatever the umask is
    return below
