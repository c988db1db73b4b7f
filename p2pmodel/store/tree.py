"""A Hugging Face cache tree over the sealed files: `models--org--name/{blobs,refs,snapshots}`, nothing stored twice.

`blobs/<etag>` is a hard link to the sealed file, `snapshots/<commit>/<path>` a relative symlink to it, `refs/<revision>`
a file with the commit; all of it durable before anybody is told of the path. Paths and revisions come from a hub: they are
checked, walked by descriptors, and every link is made aside and renamed into place, so that whatever lies there before is
replaced (a file, a link) or refused (a directory), never followed.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from p2pmodel.content import Repo, check_path
from p2pmodel.errors import StoreError
from p2pmodel.store.beneath import directory
from p2pmodel.store.disk import Disk, disk_errors
from p2pmodel.store.freshness import Freshness

_COMMIT: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}")
_REF_BYTES_MAX: Final = 129  # of a commit, and one to see that there are more
_ETAG: Final = re.compile(r"[0-9a-f]{40,64}")
_NO_HARD_LINKS: Final = frozenset({errno.EPERM, errno.EMLINK, errno.EXDEV, errno.EOPNOTSUPP})


@dataclass(frozen=True, slots=True)
class Leaf:
    """A file of a snapshot that is sealed here."""

    path: str
    etag: str
    sealed: Path
    fresh: Freshness  # a new link moves the file's ctime, which must not count as somebody's change
    adopted: bool = False  # it is a file of somebody's cache as well
    elsewhere: bool = False  # and has no name in the store: none is given to it, as a new link would look like a change


class CacheTree:
    """One hub's tree on one shelf. `aside` is a directory of ours on the same file system, for links in the making."""

    def __init__(self, root: Path, aside: Path, *, mode: int, disk: Disk) -> None:
        self.root = root
        self._disk = disk
        self._changed: set[tuple[str, ...]] = set()  # directories below the root in which there is a new name
        self._aside = aside / f"link-{root.name}"
        self._mode = mode
        self._lock = threading.Lock()

    def materialise(self, repo: Repo, commit: str, revisions: Iterable[str], leaves: Sequence[Leaf]) -> Path:
        """The snapshot's directory. A leaf whose file is gone meanwhile is left out. Raises StoreError."""
        if not _COMMIT.fullmatch(commit) or ".." in commit:
            raise StoreError(f"{commit[:200]!r} is no name for a snapshot's directory.")
        folder = folder_of(repo)
        with self._lock, disk_errors(f"linking {repo} into the cache tree"):
            self._changed.clear()  # of one that failed
            with directory(self.root, (folder, "snapshots", commit), mode=self._mode):
                pass
            for leaf in leaves:
                if self._link(folder, leaf):
                    self._point(folder, commit, leaf)
            for revision in revisions:
                self._refer(folder, revision, commit)
            self._sync()
        return self.root / folder / "snapshots" / commit

    def forget(self, etags: Iterable[str]) -> None:
        """Take the links of a damaged or removed blob away from every repo."""
        names = [etag for etag in etags if _ETAG.fullmatch(etag)]
        with self._lock, disk_errors("unlinking from the cache tree"):
            for folder in os.listdir(self.root):  # noqa: PTH208  # names are what is wanted
                for name in names:
                    with suppress(FileNotFoundError, NotADirectoryError):
                        (self.root / folder / "blobs" / name).unlink()

    def remove(self, repo: Repo, commit: str) -> None:
        """Take a snapshot's directory and the revisions that lead to it away; with the last one, the repo's folder."""
        if not _COMMIT.fullmatch(commit) or ".." in commit:
            return
        folder = self.root / folder_of(repo)
        with self._lock, disk_errors(f"removing {repo} from the cache tree"):
            _remove_tree(folder / "snapshots" / commit)
            for ref in list((folder / "refs").rglob("*")):
                if ref.is_file() and ref.read_bytes() == commit.encode():
                    ref.unlink()
            snapshots = folder / "snapshots"
            if snapshots.is_dir() and not any(snapshots.iterdir()):
                _remove_tree(folder)

    def _link(self, folder: str, leaf: Leaf) -> bool:
        if not _ETAG.fullmatch(leaf.etag):
            raise StoreError(f"{leaf.etag[:200]!r} is no name for a blob.")
        names = (folder, "blobs")
        with directory(self.root, names, mode=self._mode) as fd:
            try:
                sealed = leaf.sealed.lstat()
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.stat(leaf.etag, dir_fd=fd), sealed):
                        return True
                with leaf.fresh.our_change(leaf.sealed):
                    self._make_hard_or_soft(leaf)
                    self._put(fd, names, leaf.etag)
            except FileNotFoundError:
                return False
        return True

    def _make_hard_or_soft(self, leaf: Leaf) -> None:
        sealed = leaf.sealed
        self._aside.unlink(missing_ok=True)
        if leaf.elsewhere:
            self._aside.symlink_to(sealed)
            return
        try:
            os.link(sealed, self._aside, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            self._aside.symlink_to(Path("../..") / os.path.relpath(sealed, self.root))

    def _point(self, folder: str, commit: str, leaf: Leaf) -> None:
        *parents, name = check_path(leaf.path).split("/")
        target = "../" * (len(parents) + 2) + f"blobs/{leaf.etag}"
        names = (folder, "snapshots", commit, *parents)
        with directory(self.root, names, mode=self._mode) as fd:
            with suppress(OSError):  # not there, or no link: made below
                if os.readlink(name, dir_fd=fd) == target:  # pathlib knows no dir_fd
                    return
            self._aside.unlink(missing_ok=True)
            self._aside.symlink_to(target)
            self._put(fd, names, name)

    def _refer(self, folder: str, revision: str, commit: str) -> None:
        try:
            *parents, name = check_path(revision).split("/")
        except ValueError:
            return  # a branch that no file can be named after is found through the gateway alone
        names = (folder, "refs", *parents)
        with directory(self.root, names, mode=self._mode) as fd:
            if _says(fd, name, commit):
                return
            self._aside.unlink(missing_ok=True)
            with self._aside.open("x", encoding="ascii") as file:
                file.write(commit)
                file.flush()
                self._disk.sync(file.fileno())
            self._aside.chmod(0o644)
            self._put(fd, names, name)

    def _put(self, fd: int, names: tuple[str, ...], name: str) -> None:
        os.rename(self._aside, name, dst_dir_fd=fd)  # pathlib knows no dir_fd
        self._changed.add(names)

    def _sync(self) -> None:
        """Names that are not on the disk would be lost with the power, and the path that somebody was told of with them."""
        ways = {names[:depth] for names in self._changed for depth in range(len(names) + 1)}
        for names in sorted(ways, key=len, reverse=True):
            with directory(self.root, names, mode=self._mode) as fd:
                self._disk.sync(fd)


def _says(fd: int, name: str, commit: str) -> bool:
    """Whether a ref is a file of ours that leads to that commit."""
    try:
        ref = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
    except OSError:  # not there, or no file
        return False
    with open(ref, "rb") as file:  # noqa: PTH123  # a descriptor
        there = os.fstat(ref)
        return stat.S_ISREG(there.st_mode) and there.st_nlink == 1 and file.read(_REF_BYTES_MAX) == commit.encode()


def _remove_tree(path: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(path)


def folder_of(repo: Repo) -> str:
    """`models--org--name`, as huggingface_hub names it. A `--` within a name (which it refuses) is written so that no two
    repos share a folder: `%` is in no repo's name."""
    return "--".join([f"{repo.kind}s", *(segment.replace("--", "-%2D") for segment in repo.name.split("/"))])
