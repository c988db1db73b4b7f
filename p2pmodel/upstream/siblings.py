"""A Hugging Face listing out of the answer that names the commit, so that no request is made for the list itself.

`/revision/{revision}?blobs=true` tells the commit and the size and hash of every file in one answer: what each node has to
hear from the hub itself anyway (DESIGN §9.3). `/tree/` says the same, page by page; of it only the ids of directories are
missing here, and git computes them from what is in them. One that holds an executable file gets another id than git's, for
the hub does not tell modes; no client is known to look.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

_SIBLINGS_MAX: Final = 50_000  # of more files the hub may leave some out; its own clients read the tree then
_FILE_MODE: Final = b"100644"
_DIRECTORY_MODE: Final = b"40000"


class _Lfs(msgspec.Struct):
    sha256: str
    size: int
    pointer_size: int = msgspec.field(name="pointerSize", default=0)


class _Sibling(msgspec.Struct):
    rfilename: str
    size: int
    oid: str = msgspec.field(name="blobId")
    lfs: _Lfs | None = None


def tree_of(siblings: bytes) -> list[dict[str, Any]] | None:
    """The entries that `/tree/{commit}?recursive=true` would give. None if they cannot be had from this (a mirror that does
    not tell hashes, a repo of so many files that some may be missing): then the tree has to be asked for."""
    try:
        files = msgspec.json.decode(siblings, type=list[_Sibling])
        if len(files) > _SIBLINGS_MAX:
            return None
        directories = _directory_ids({file.rfilename: bytes.fromhex(file.oid) for file in files})
    except (ValueError, RecursionError):
        return None
    entries = [_file(file) for file in files]
    entries += [{"type": "directory", "oid": oid, "size": 0, "path": path} for path, oid in directories.items()]
    return sorted(entries, key=lambda entry: str(entry["path"]))


def _file(file: _Sibling) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "oid": file.oid, "size": file.size, "path": file.rfilename}
    if file.lfs is not None:
        entry["lfs"] = {"oid": file.lfs.sha256, "size": file.lfs.size, "pointerSize": file.lfs.pointer_size}
    return entry


def _directory_ids(files: Mapping[str, bytes]) -> dict[str, str]:
    """Git's tree ids of all directories but the root."""
    inside: defaultdict[str, list[tuple[str, bytes, bytes]]] = defaultdict(list)  # directory → (name, mode, id)
    for path, oid in files.items():
        parent, _, name = path.rpartition("/")
        inside[parent].append((name, _FILE_MODE, oid))
    for path in {parent for file in files for parent in _parents(file)}:
        inside.setdefault(path, [])
    ids: dict[str, str] = {}
    for path in sorted(filter(None, inside), key=lambda each: -each.count("/")):  # the deepest first
        oid = _tree_id(inside[path])
        ids[path] = oid.hex()
        parent, _, name = path.rpartition("/")
        inside[parent].append((name, _DIRECTORY_MODE, oid))
    return ids


def _parents(path: str) -> list[str]:
    steps = path.split("/")[:-1]
    return ["/".join(steps[: depth + 1]) for depth in range(len(steps))]


def _tree_id(entries: Sequence[tuple[str, bytes, bytes]]) -> bytes:
    """A directory sorts as if its name ended in a slash."""
    lines = [(name.encode() + b"/" * (mode == _DIRECTORY_MODE), name.encode(), mode, oid) for name, mode, oid in entries]
    body = b"".join(b"%b %b\0%b" % (mode, name, oid) for _, name, mode, oid in sorted(lines))
    return hashlib.sha1(b"tree %d\0" % len(body) + body, usedforsecurity=False).digest()
