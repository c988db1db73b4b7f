"""Where things lie in the state directory, whose they must be, and the lock that keeps a second daemon out.

    VERSION  lock  index.sqlite
    blobs/<algorithm>/<hex[:2]>/<hex>      sealed, read-only
    partial/<algorithm>-<hex>[.log|.words] on the way in, the record of what is durable, and the words that it came with
    hub/  modelscope/                      cache trees of links over the sealed files
    private/                               the same four again, for this uid alone
    pieces/<algorithm>-<hex>               lists of sealed files' pieces, of both, for this uid alone

Every name here is made from a checked BlobId: nothing from a hub or a peer becomes a path in this module.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from p2pmodel.content import BlobId, Hub
from p2pmodel.errors import StoreBusyError, StoreDamagedError, StoreError, StoreTooNewError
from p2pmodel.store.disk import disk_errors

FORMAT: Final = 1
_ALGORITHMS: Final = ("sha256", "git-sha1")
_TREES: Final = {Hub.HUGGINGFACE: "hub", Hub.MODELSCOPE: "modelscope"}
_RECORD_SUFFIX: Final = ".log"
_WORDS_SUFFIX: Final = ".words"
_OURS_ALONE: Final = 0o700


@dataclass(frozen=True, slots=True)
class Shelf:
    """One of the two halves of the store: what everybody on this machine may read, and what is this uid's alone."""

    root: Path
    private: bool

    @property
    def directory_mode(self) -> int:
        return _OURS_ALONE if self.private else 0o755

    @property
    def file_mode(self) -> int:
        return 0o400 if self.private else 0o444

    def sealed(self, blob: BlobId) -> Path:
        return self.root / "blobs" / blob.algorithm / blob.hex[:2] / blob.hex

    @property
    def partials(self) -> Path:
        return self.root / "partial"

    def partial(self, blob: BlobId) -> Path:
        return self.partials / _file_name(blob)

    def record(self, blob: BlobId) -> Path:
        return self.partials / f"{_file_name(blob)}{_RECORD_SUFFIX}"

    def words(self, blob: BlobId) -> Path:
        return self.partials / f"{_file_name(blob)}{_WORDS_SUFFIX}"

    def tree(self, hub: Hub) -> Path:
        return self.root / _TREES[hub]

    def trees(self) -> list[Path]:
        return [self.root / name for name in _TREES.values()]

    def make(self) -> None:
        """Create what is missing; refuse what is there and not ours."""
        own_directory(self.root, self.directory_mode)
        own_directory(self.partials, _OURS_ALONE)
        own_directory(self.root / "blobs", self.directory_mode)
        for algorithm in _ALGORITHMS:
            own_directory(self.root / "blobs" / algorithm, self.directory_mode)
        for tree in self.trees():
            own_directory(tree, self.directory_mode)

    def sealed_blobs(self) -> Iterator[tuple[BlobId, os.DirEntry[str]]]:
        """Every sealed file, by its name. Other names are left alone."""
        for algorithm in _ALGORITHMS:
            for directory in _listing(self.root / "blobs" / algorithm):
                if directory.is_dir(follow_symlinks=False):
                    for file in _listing(Path(directory.path)):
                        blob = _parsed(f"{algorithm}:{file.name}")
                        if blob is not None and file.is_file(follow_symlinks=False):
                            yield blob, file

    def partial_blobs(self) -> set[BlobId]:
        """Every blob with a partial file or what stands beside one."""
        names = {file.name.removesuffix(_RECORD_SUFFIX).removesuffix(_WORDS_SUFFIX) for file in _listing(self.partials)}
        return {blob for name in names if (blob := _named(name)) is not None}


class Layout:
    """The state directory, made and locked. Raises StoreBusyError, StoreTooNewError, StoreDamagedError, StoreError."""

    def __init__(self, state_dir: Path) -> None:
        with disk_errors(f"making the state directory {state_dir}"):
            state_dir.parent.mkdir(parents=True, exist_ok=True)
            check_way(state_dir)
            self.root = state_dir.resolve()  # a link to another disk is fine where only root or we could have set it
            self.public = Shelf(self.root, private=False)
            self.private = Shelf(self.root / "private", private=True)
            self.index = self.root / "index.sqlite"
            self._pieces = self.root / "pieces"
            own_directory(self.root, 0o755)
            self._lock = _lock(self.root / "lock")
            try:
                _check_version(self.root / "VERSION")
                for shelf in self.shelves():
                    shelf.make()
                own_directory(self._pieces, _OURS_ALONE)
            except BaseException:
                self.unlock()
                raise

    def shelves(self) -> tuple[Shelf, Shelf]:
        return self.public, self.private

    def shelf(self, *, private: bool) -> Shelf:
        return self.private if private else self.public

    def pieces(self, blob: BlobId) -> Path:
        return self._pieces / _file_name(blob)

    def piece_files(self) -> Iterator[tuple[BlobId | None, Path]]:
        """Every file with a list, or with what a crash left of one."""
        for file in _listing(self._pieces):
            yield _named(file.name), Path(file.path)

    def unlock(self) -> None:
        os.close(self._lock)


def own_directory(path: Path, mode: int) -> bool:
    """Make a directory of ours; whether it is new. What is there already is checked, never put right: who planted it may
    hold it open. Raises StoreError."""
    try:
        path.mkdir(mode=mode)
    except FileExistsError:
        there = path.lstat()
        if not stat.S_ISDIR(there.st_mode):
            _refuse(path, "is not a directory")
        if there.st_uid != os.geteuid():
            _refuse(path, f"belongs to uid {there.st_uid}, not to {os.geteuid()}")
        if there.st_mode & (0o077 if mode == _OURS_ALONE else 0o002):
            _refuse(path, f"may be used by others (mode {stat.S_IMODE(there.st_mode):04o})")
        return False
    path.chmod(mode)  # whatever the umask is
    return True


def check_way(path: Path) -> None:
    """Nobody but root and us may be able to swap a component on the way to `path`. Raises StoreError."""
    absolute, real = path.absolute(), path.resolve()
    way = {*absolute.parents, *real.parents} | ({absolute} if absolute.is_symlink() else set())
    for part in way:
        there = part.lstat()
        if there.st_uid not in {0, os.geteuid()}:
            _refuse(part, f"on the way to the state directory belongs to uid {there.st_uid}")
        if stat.S_ISDIR(there.st_mode) and there.st_mode & stat.S_IWOTH and not there.st_mode & stat.S_ISVTX:
            _refuse(part, "on the way to the state directory may be changed by everybody")


def _refuse(path: Path, why: str) -> NoReturn:
    raise StoreError(
        f"{path} {why}.", next_step="Set node.state_dir to a directory of this user's own, or remove what is there."
    )


def _lock(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise StoreBusyError(
            f"Another p2pmodel daemon (pid {owner}) uses {path.parent}.", next_step="Use that one, or set node.state_dir."
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    return fd


def _check_version(path: Path) -> None:
    try:
        text = path.read_text("ascii", "replace")
    except FileNotFoundError:
        _write_version(path)
        return
    if not text.strip().isdecimal() or int(text) < 1:
        raise StoreDamagedError(
            f"{path} does not hold a format version.", next_step=f"If the state is from this version, write {FORMAT}."
        )
    if int(text) > FORMAT:
        raise StoreTooNewError(
            f"{path.parent} was written by a newer p2pmodel (format {int(text)}, this one knows {FORMAT}).",
            next_step="Upgrade p2pmodel, or set node.state_dir to another directory.",
        )


def _write_version(path: Path) -> None:
    """Whole on disk before it has its name: a power cut that emptied it would have every later start refused."""
    new = path.with_suffix(".new")
    with new.open("w", encoding="ascii") as file:
        file.write(f"{FORMAT}\n")
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)


def _listing(path: Path) -> list[os.DirEntry[str]]:
    with disk_errors(f"reading {path}"), os.scandir(path) as entries:
        return list(entries)


def _file_name(blob: BlobId) -> str:
    return f"{blob.algorithm}-{blob.hex}"


def _named(name: str) -> BlobId | None:
    return _parsed(":".join(name.rsplit("-", 1)))


def _parsed(text: str) -> BlobId | None:
    try:
        return BlobId.parse(text)
    except ValueError:
        return None
