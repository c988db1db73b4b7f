"""Handing sealed files out into a directory of the user's: a hard link, else a reflink, else a copy.

The directory may be anybody's: names are checked and walked by descriptors without following links, and a file that is
there is left alone if it is the same, else the export is refused.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from p2pmodel.content import check_path
from p2pmodel.errors import StoreError
from p2pmodel.limits import MIB
from p2pmodel.store.beneath import directory
from p2pmodel.store.disk import Disk, disk_errors
from p2pmodel.store.tree import Leaf

_UNFINISHED: Final = ".p2pmodel-unfinished"
_NO_LINK: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP})


def export(leaves: Sequence[Leaf], target: Path) -> None:
    """Raises StoreError (which names the file in the way), StoreFullError."""
    with disk_errors(f"exporting to {target}"):
        target.mkdir(parents=True, exist_ok=True)
        for leaf in leaves:
            *parents, name = _checked(leaf.path).split("/")
            with directory(target, parents, mode=0o755) as fd, leaf.fresh.our_change(leaf.sealed):
                _hand_out(leaf, fd, name, target / leaf.path)


def _checked(path: str) -> str:
    try:
        return check_path(path)
    except ValueError as error:
        raise StoreError(f"Not exported: {error}.") from error


def _hand_out(leaf: Leaf, fd: int, name: str, shown: Path) -> None:
    sealed = leaf.sealed
    if _is_there(fd, name):
        if not _same(sealed, fd, name):
            raise StoreError(f"{shown} exists and is another file.", next_step="Move it away, or export to another directory.")
        return
    if leaf.adopted:  # who edits what we hand out shall not change somebody's cache by it
        _copy(sealed, fd, name)
        return
    try:
        os.link(sealed, name, dst_dir_fd=fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        _copy(sealed, fd, name)


def _is_there(fd: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _copy(sealed: Path, fd: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(_UNFINISHED, dir_fd=fd)  # pathlib knows no dir_fd
    source = os.open(sealed, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        copy = os.open(_UNFINISHED, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=fd)
        try:
            Disk().copy(source, copy, os.fstat(source).st_size)
        finally:
            os.close(copy)
        os.rename(_UNFINISHED, name, src_dir_fd=fd, dst_dir_fd=fd)  # pathlib knows no dir_fd
    finally:
        os.close(source)


def _same(sealed: Path, fd: int, name: str) -> bool:
    try:
        there = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
    except OSError:
        return False
    try:
        with sealed.open("rb") as ours:
            mine, other = os.fstat(ours.fileno()), os.fstat(there)
            if os.path.samestat(mine, other):
                return True
            if not stat.S_ISREG(other.st_mode) or mine.st_size != other.st_size:
                return False
            offset = 0
            while piece := ours.read(MIB):
                if os.pread(there, len(piece), offset) != piece:
                    return False
                offset += len(piece)
            return True
    finally:
        os.close(there)
