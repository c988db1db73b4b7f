"""The caches that hub clients keep, found by how they lie on disk (contracts of both hubs, "client cache").

Hugging Face: `models--org--name/{blobs,refs,snapshots}`, where a blob's file name is its hash; without symlinks the files lie
in `snapshots/<commit>`. ModelScope, oldest first: `org/name`, `models/org/<name with . as ___>` with marks `.msc .mdl .mv`,
`models/org--name/snapshots/<revision>`. Names found here are claims: what a file is, its hash says, and whose it is, the hub.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from p2pmodel.content import BlobId, Hub, Repo, RepoKind
from p2pmodel.store.disk import disk_errors

_HUGGINGFACE_FOLDER: Final = re.compile(r"(model|dataset|space)s--(.+)")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_MARKS: Final = frozenset({".msc", ".mdl", ".mv"})
_LEFT_OVER: Final = re.compile(
    r"\.msc|\.mdl|\.mv|\._____temp|\.lock|\.locks|.*\.lock|.*\.incomplete|.*\.parallel_tmp|.+_\d+_\d+"
)
_BLOB: Final = {40: "git-sha1", 64: "sha256"}
_MODELSCOPE_KINDS: Final = {"models": RepoKind.MODEL, "datasets": RepoKind.DATASET}


@dataclass(frozen=True, slots=True)
class CachedFile:
    path: Path
    size: int
    name: BlobId | None = None  # the hash that it claims


@dataclass(frozen=True, slots=True)
class CachedRepo:
    """`revisions` are what to ask the hub for; `refs` the branches and tags that the client was told of, by name."""

    repo: Repo
    revisions: tuple[str, ...]
    refs: dict[str, str]
    files: tuple[CachedFile, ...]
    root: Path | None = None  # of the files, where it is one folder of one revision


def find_caches(folder: Path) -> list[CachedRepo]:
    """Every repo in a cache's folder, its `hub` below, or the folder itself if it is one repo. Raises StoreError."""
    with disk_errors(f"reading {folder}"):
        folder = folder.resolve(strict=True)
        if (one := _huggingface(folder)) is not None:
            return [one]
        found: dict[Repo, list[CachedRepo]] = {}
        for root in (folder, folder / "hub"):
            for repo in (*_huggingface_repos(root), *_modelscope_repos(root)):
                found.setdefault(repo.repo, []).append(repo)
        return [_merged(parts) for parts in found.values()]


def one_repo(folder: Path, repo: Repo, revision: str) -> list[CachedRepo]:
    """A folder of somebody's that is what the hub has at `revision`, as after an upload. Raises StoreError."""
    with disk_errors(f"reading {folder}"):
        root = folder.resolve(strict=True)
        return [CachedRepo(repo, (revision,), {}, tuple(_files(root)), root)]


def _merged(parts: list[CachedRepo]) -> CachedRepo:
    """One repo in two layouts, as an upgraded client leaves it."""
    revisions = dict.fromkeys(revision for part in parts for revision in part.revisions)
    refs = {revision: commit for part in parts for revision, commit in part.refs.items()}
    return CachedRepo(parts[0].repo, tuple(revisions), refs, tuple(file for part in parts for file in part.files))


# Hugging Face


def _huggingface_repos(root: Path) -> Iterator[CachedRepo]:
    for folder in _folders(root):
        if (found := _huggingface(folder)) is not None:
            yield found


def _huggingface(folder: Path) -> CachedRepo | None:
    match = _HUGGINGFACE_FOLDER.fullmatch(folder.name)
    repo = _repo(Hub.HUGGINGFACE, match[1], match[2].replace("--", "/", 1)) if match else None
    if repo is None:
        return None
    blobs = [
        CachedFile(file.path, file.size, BlobId(_BLOB[len(file.path.name)], file.path.name))  # type: ignore[arg-type]
        for file in _files(folder / "blobs", deep=False)
        if len(file.path.name) in _BLOB and re.fullmatch("[0-9a-f]+", file.path.name)
    ]
    refs = {str(file.path.relative_to(folder / "refs")): _commit_in(file.path) for file in _files(folder / "refs")}
    refs = {revision: commit for revision, commit in refs.items() if commit}
    snapshots = [each for each in _folders(folder / "snapshots") if _COMMIT.fullmatch(each.name)]
    copies = [file for snapshot in snapshots for file in _files(snapshot)]
    commits = dict.fromkeys([*refs.values(), *(snapshot.name for snapshot in snapshots)])
    return CachedRepo(repo, tuple(commits), refs, (*blobs, *copies))


def _commit_in(ref: Path) -> str:
    with suppress(OSError):
        text = ref.read_bytes()[:64].decode("ascii", "replace").strip()
        return text if _COMMIT.fullmatch(text) else ""
    return ""


# ModelScope


def _modelscope_repos(root: Path) -> Iterator[CachedRepo]:
    for below, kind in _MODELSCOPE_KINDS.items():
        for owner in _folders(root / below):
            if (owner / "snapshots").is_dir():
                yield from _modelscope_snapshots(owner, kind)
                continue
            for folder in _folders(owner):
                yield from _modelscope(folder, kind, f"{owner.name}/{folder.name.replace('___', '.')}")
    for owner in _folders(root):
        if owner.name not in _MODELSCOPE_KINDS:
            for folder in _folders(owner):
                if any((folder / mark).exists() for mark in _MARKS):
                    yield from _modelscope(folder, RepoKind.MODEL, f"{owner.name}/{folder.name}")


def _modelscope(folder: Path, kind: RepoKind, name: str) -> Iterator[CachedRepo]:
    repo = _repo(Hub.MODELSCOPE, kind, name)
    if repo is not None and (files := tuple(_files(folder))):
        yield CachedRepo(repo, ("master",), {}, files)


def _modelscope_snapshots(folder: Path, kind: RepoKind) -> Iterator[CachedRepo]:
    repo = _repo(Hub.MODELSCOPE, kind, folder.name.replace("--", "/", 1))
    for snapshot in _folders(folder / "snapshots"):
        if repo is not None and (files := tuple(_files(snapshot))):
            yield CachedRepo(repo, (snapshot.name,), {}, files)


# Both


def _repo(hub: Hub, kind: str, name: str) -> Repo | None:
    try:
        return Repo(hub, RepoKind(kind), name)
    except ValueError:
        return None


def _folders(path: Path) -> list[Path]:
    """Real ones, sorted; none if there is no such place."""
    try:
        return sorted(each for each in path.iterdir() if each.is_dir() and not each.is_symlink())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _files(path: Path, *, deep: bool = True) -> Iterator[CachedFile]:
    """Plain files below, without what clients leave beside them."""
    try:
        below = sorted(path.iterdir())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    for each in below:
        if each.is_symlink() or _LEFT_OVER.fullmatch(each.name):
            continue
        if each.is_file():
            yield CachedFile(each, each.stat().st_size)
        elif deep and each.is_dir():
            yield from _files(each)
