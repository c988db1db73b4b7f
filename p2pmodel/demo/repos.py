"""What the demo hub holds: repos, their commits, and the contents of their files. Nothing here knows HTTP.

Everything is a function of what was put in: the same files give the same commit ids, dates and hashes on every run.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from p2pmodel.content import RepoKind
from p2pmodel.content.cutting import Cutter
from p2pmodel.content.xet import xet_text
from p2pmodel.demo import git

LFS_BYTES: Final = 1024 * 1024  # larger files are LFS whatever their name
_LFS_SUFFIX: Final = re.compile(
    r"\.(7z|arrow|bin|bz2|ckpt|ftz|gguf|gz|h5|joblib|mlmodel|model|msgpack|npy|npz|onnx|ot|parquet|pb|pickle|pkl|pt|pth|rar"
    r"|safetensors|tar|tflite|tgz|wasm|xz|zip|zst)$"
)
_PIECE_BYTES: Final = 1024 * 1024
_FIRST_COMMIT: Final = datetime(2024, 1, 1, tzinfo=UTC)
_ONE_NAME: Final = {"main": "master", "master": "main"}  # Hugging Face's and ModelScope's word for the default branch


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Content:
    """The bytes of one file, in memory or on disk, and the names that hubs give them.

    Build it directly to spare a large file the hashing; `git_sha1` may stay empty for what is LFS anyway.
    """

    body: bytes | Path = field(repr=False)
    size: int
    sha256: str
    git_sha1: str = ""
    xet_root: str = ""

    @classmethod
    def of(cls, body: bytes | Path, *, xet: bool = False) -> Content:
        """Hash `body` once, in pieces. `xet`: find its true Xet root as well, at 4 s for a GiB. Raises OSError if it is
        a path that cannot be read."""
        size = len(body) if isinstance(body, bytes) else body.stat().st_size
        sha256 = hashlib.sha256()
        git_sha1 = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        for piece in _pieces(body):
            sha256.update(piece)
            if size <= LFS_BYTES:
                git_sha1.update(piece)
        return cls(
            body, size, sha256.hexdigest(), git_sha1.hexdigest() if size <= LFS_BYTES else "", _xet_root(body) if xet else ""
        )

    @property
    def xet_hash(self) -> str:
        """What is told as the Xet root: what was not found out is right in shape only. No Xet server knows of either."""
        return self.xet_root or hashlib.sha256(b"xet " + self.sha256.encode()).hexdigest()

    @property
    def pointer(self) -> bytes:
        """The LFS pointer that git holds in the file's place."""
        return b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n" % (self.sha256.encode(), self.size)

    def read(self, start: int, count: int) -> bytes:
        if isinstance(self.body, bytes):
            return self.body[start : start + count]
        with self.body.open("rb") as file:
            return os.pread(file.fileno(), count, start)


@dataclass(frozen=True, slots=True)
class HubFile:
    path: str
    content: Content
    commit: str  # that last touched it

    @property
    def lfs(self) -> bool:
        return not self.content.git_sha1 or lfs_by_name_or_size(self.path, self.content.size)

    @property
    def etag(self) -> str:
        """What Hugging Face names the bytes by: sha256 in LFS, the git blob's sha1 otherwise."""
        return self.content.sha256 if self.lfs else self.content.git_sha1

    @property
    def git_oid(self) -> str:
        return git_blob_sha1(self.content.pointer) if self.lfs else self.content.git_sha1


@dataclass(frozen=True, slots=True)
class Directory:
    path: str
    commit: str

    @property
    def git_oid(self) -> str:
        return hashlib.sha1(f"{self.commit} {self.path}".encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Commit:
    id: str
    title: str
    date: datetime
    parent: Commit | None = field(repr=False)
    files: Mapping[str, HubFile] = field(repr=False)  # by path, sorted
    git_body: bytes = field(repr=False, default=b"")  # the object that git names `id`

    def history(self) -> Iterator[Commit]:
        """This commit, then its ancestors."""
        commit: Commit | None = self
        while commit is not None:
            yield commit
            commit = commit.parent

    def listing(self, root: str = "", *, recursive: bool) -> list[HubFile | Directory] | None:
        """What lies under the directory `root`, sorted by path; None if there is no such directory."""
        prefix = f"{root}/" if root else ""
        entries: dict[str, HubFile | Directory] = {}
        for path, file in self.files.items():
            if not path.startswith(prefix):
                continue
            steps = path[len(prefix) :].split("/")
            for depth in range(1, len(steps) if recursive else min(len(steps), 2)):
                directory = prefix + "/".join(steps[:depth])
                entries[directory] = Directory(directory, self.id)
            if recursive or len(steps) == 1:
                entries[path] = file
        if root and not entries:
            return None
        return [entries[path] for path in sorted(entries)]


class HubRepo:
    """A repo: a line of commits for each branch, and tags."""

    def __init__(self, kind: RepoKind, name: str, *, private: bool = False, gated: bool = False) -> None:
        self.kind = kind
        self.name = name
        self.private = private
        self.gated = gated
        self.commits: dict[str, Commit] = {}
        self.branches: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.pull_requests: dict[str, str] = {}  # "refs/pr/1" to commit id

    @property
    def number(self) -> int:
        """The numeric id that ModelScope gives to datasets."""
        return int(hashlib.sha256(f"{self.kind} {self.name}".encode()).hexdigest()[:7], 16)

    @property
    def owner(self) -> str:
        return self.name.partition("/")[0]

    def label(self, path: str) -> str:
        """The name under which a file's bytes are counted, whatever dialect or host sends them."""
        return f"{self.kind}s/{self.name}/{path}"

    @property
    def default_branch(self) -> str:
        return next((name for name in _ONE_NAME if name in self.branches), next(iter(self.branches)))

    @property
    def head(self) -> Commit:
        return self.commits[self.branches[self.default_branch]]

    def commit(
        self, changes: Mapping[str, bytes | Path | Content | None], *, branch: str = "main", title: str = "Add files"
    ) -> str:
        """Add a commit to `branch` (made from the default branch if new): None deletes a file. Returns its 40 hex digits."""
        known = self.resolve(branch)
        parent = known or (self.head if self.commits else None)
        contents = {path: file.content for path, file in parent.files.items()} if parent else {}
        for path, body in changes.items():
            if body is None:
                contents.pop(path, None)
            else:
                contents[path] = body if isinstance(body, Content) else Content.of(body)
        date = _FIRST_COMMIT + timedelta(hours=len(self.commits))
        body = self._commit_body(parent, title, contents, date)
        commit_id = git.object_id(1, body)
        files = {path: self._file(path, contents[path], commit_id, parent) for path in sorted(contents)}
        self.commits[commit_id] = Commit(commit_id, title, date, parent, files, body)
        if branch.startswith("refs/pr/"):
            self.pull_requests[branch] = commit_id
        else:
            self.branches[branch] = commit_id
        return commit_id

    def take(
        self, commit_id: str, body: bytes, tree: str, contents: Mapping[str, Content], *, parent: str | None, title: str
    ) -> None:
        """Keep a commit that git made. Raises ValueError where its files, as they are kept here, are not those of its tree."""
        before = self.commits[parent] if parent else None
        files = {path: self._file(path, contents[path], commit_id, before) for path in sorted(contents)}
        if [*git.trees({path: file.git_oid for path, file in files.items()})][-1] != tree:
            raise ValueError("what is large or binary belongs into LFS; links and executable files are not kept here")
        date = _FIRST_COMMIT + timedelta(hours=len(self.commits))
        self.commits[commit_id] = Commit(commit_id, title, date, before, files, body)

    def tag(self, name: str, at: str = "HEAD") -> None:
        """Raises KeyError if `at` names no commit."""
        commit = self.resolve(at)
        if commit is None:
            raise KeyError(at)
        self.tags[name] = commit.id

    def resolve(self, revision: str) -> Commit | None:
        """The commit that a branch, tag, refs/…, HEAD or a commit id names. The names main and master mean the same."""
        if revision == "HEAD":
            return self.head
        named = self.pull_requests | self.tags | self.branches
        short = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        for name in (revision, short, _ONE_NAME.get(short, "")):
            if name in named:
                return self.commits[named[name]]
        return self.commits.get(revision)

    def _commit_body(self, parent: Commit | None, title: str, contents: Mapping[str, Content], date: datetime) -> bytes:
        oids = {path: HubFile(path, content, "").git_oid for path, content in contents.items()}
        tree = list(git.trees(oids))[-1]
        return git.commit_body(tree, parent.id if parent else None, f"{self.kind}s {self.name}", title, date)

    @staticmethod
    def _file(path: str, content: Content, commit_id: str, parent: Commit | None) -> HubFile:
        before = parent.files.get(path) if parent else None
        return before if before is not None and before.content.sha256 == content.sha256 else HubFile(path, content, commit_id)


@dataclass(frozen=True, slots=True)
class User:
    name: str
    grants: frozenset[str] | None  # names of the private and gated repos that this user may read; None: all

    def granted(self, repo: HubRepo) -> bool:
        return self.grants is None or repo.name in self.grants or repo.name.startswith(f"{self.name}/")


def lfs_by_name_or_size(path: str, size: int) -> bool:
    return size > LFS_BYTES or _LFS_SUFFIX.search(path) is not None


def git_blob_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _xet_root(body: bytes | Path) -> str:
    cutter = Cutter()
    for piece in _pieces(body):
        cutter.feed(piece)
    return xet_text(cutter.finish().root())


def _pieces(body: bytes | Path) -> Iterator[bytes]:
    if isinstance(body, bytes):
        yield body
        return
    with body.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece
