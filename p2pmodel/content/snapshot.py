"""A repo at a commit: the list of its files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

from p2pmodel.content.naming import Repo, check_path
from p2pmodel.limits import SNAPSHOT_FILES_MAX

if TYPE_CHECKING:
    from p2pmodel.content.digest import Blob


_SHORT_COMMIT: Final = 7  # digits; as few as git shows


def commit_of(revision: str, commits: Iterable[str]) -> str:
    """The one of `commits` that people mean by its first digits, as lists show them; else the revision as it is."""
    if len(revision) < _SHORT_COMMIT:
        return revision
    meant = [commit for commit in commits if commit.startswith(revision.lower())]
    return meant[0] if len(meant) == 1 else revision


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of a snapshot. `blob` is None where the hub gives no usable hash: such a file is read from the hub alone."""

    path: str
    size: int
    blob: Blob | None

    def __post_init__(self) -> None:
        check_path(self.path)


@dataclass(frozen=True)
class Snapshot:
    """`listing` is the hub's own description of the files (JSON, Xet triggers removed), which only that hub's dialect reads.

    `public` is a fact of this node: the hub answered it without a token. `info` is what the hub said of the repo as a whole in
    the same breath; it is kept apart (`Delivery.info`), so one that comes out of the store has none.
    """

    repo: Repo
    commit: str
    files: tuple[FileEntry, ...]
    listing: bytes = field(repr=False)
    public: bool
    info: bytes | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.files) > SNAPSHOT_FILES_MAX:
            raise ValueError(f"a snapshot of {len(self.files)} files")
        if len(self._by_path) != len(self.files):
            raise ValueError("a snapshot names a file twice")

    @cached_property
    def _by_path(self) -> dict[str, FileEntry]:
        return {entry.path: entry for entry in self.files}

    def entry(self, path: str) -> FileEntry | None:
        return self._by_path.get(path)

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(entry.size for entry in self.files)
