"""A repo as git sees it: commit ids that git computes itself, and the smart HTTP protocol for clone and fetch (version 0).
Pushes: git_push.py.

A fetch gets everything that its wants reach, whatever it has already: correct, and the repos are small (large files are LFS
pointers here).
"""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from p2pmodel.demo.repos import Commit, HubRepo

COMMIT, _TREE, _BLOB = 1, 2, 3
_TYPES: Final = {COMMIT: b"commit", _TREE: b"tree", _BLOB: b"blob"}
FLUSH: Final = b"0000"
_NAK: Final = b"0008NAK\n"


def object_id(kind: int, body: bytes) -> str:
    return hashlib.sha1(_TYPES[kind] + b" %d\0" % len(body) + body, usedforsecurity=False).hexdigest()


def commit_body(tree: str, parent: str | None, author: str, title: str, date: datetime) -> bytes:
    who = f"{author} <demo@hub.example> {int(date.timestamp())} +0000"
    lines = [f"tree {tree}", *([f"parent {parent}"] if parent else []), f"author {who}", f"committer {who}", "", title, ""]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def trees(files: Mapping[str, str]) -> dict[str, bytes]:
    """All tree objects over files (ids by path); the root's is the last."""
    inside: dict[str, dict[str, tuple[bytes, str]]] = {"": {}}  # directory → name → mode, id
    for path, oid in files.items():
        directory, _, name = path.rpartition("/")
        inside.setdefault(directory, {})[name] = (b"100644", oid)
        while directory:
            parent, _, name = directory.rpartition("/")
            if name in inside.setdefault(parent, {}):
                break
            inside[parent][name] = (b"40000", "")  # its id comes when all below it is known
            directory = parent
    made: dict[str, bytes] = {}
    for directory in sorted(inside, key=lambda path: path.count("/") + bool(path), reverse=True):
        entries = sorted(inside[directory].items(), key=lambda entry: _encoded(entry[0]) + b"/" * (entry[1][0] == b"40000"))
        body = b"".join(mode + b" " + _encoded(name) + b"\0" + bytes.fromhex(oid) for name, (mode, oid) in entries)
        oid = object_id(_TREE, body)
        made.pop(oid, None)
        made[oid] = body
        if directory:
            parent, _, name = directory.rpartition("/")
            inside[parent][name] = (b"40000", oid)
    return made


def advertisement(repo: HubRepo) -> bytes:
    """The answer to ``GET info/refs?service=git-upload-pack``."""
    named = {f"refs/heads/{name}": commit for name, commit in repo.branches.items()}
    named |= {f"refs/tags/{name}": commit for name, commit in repo.tags.items()} | repo.pull_requests
    lines = [f"{repo.head.id} HEAD\0symref=HEAD:refs/heads/{repo.default_branch} agent=demo\n"]
    lines += [f"{commit} {name}\n" for name, commit in sorted(named.items())]
    refs = b"".join(line(text.encode()) for text in lines)
    return line(b"# service=git-upload-pack\n") + FLUSH + refs + FLUSH


def upload_pack(repo: HubRepo, asked: bytes, *, zipped: bool) -> bytes:
    """The answer to ``POST git-upload-pack``. Raises ValueError for wants that are none."""
    lines = list(_lines(gzip.decompress(asked) if zipped else asked))
    wants = [line[5:45].decode() for line in lines if line.startswith(b"want ")]
    if not wants or not all(want in repo.commits for want in wants):
        raise ValueError("not our ref")
    return _NAK + _pack(repo, wants) if b"done" in (line.strip() for line in lines) else _NAK


def _pack(repo: HubRepo, wants: list[str]) -> bytes:
    found: dict[str, tuple[int, bytes]] = {}
    for want in wants:
        for commit in repo.commits[want].history():
            found |= {oid: (kind, body) for oid, kind, body in objects(commit)}
    packed = bytearray(struct.pack(">4sII", b"PACK", 2, len(found)))
    for kind, body in found.values():
        packed += _size(kind, len(body)) + zlib.compress(body)
    return bytes(packed) + hashlib.sha1(packed, usedforsecurity=False).digest()


def objects(commit: Commit) -> Iterator[tuple[str, int, bytes]]:
    yield commit.id, COMMIT, commit.git_body
    for oid, body in trees({path: file.git_oid for path, file in commit.files.items()}).items():
        yield oid, _TREE, body
    for file in commit.files.values():
        yield file.git_oid, _BLOB, file.content.pointer if file.lfs else file.content.read(0, file.content.size)


def _size(kind: int, size: int) -> bytes:
    """An object's head in a pack: three bits of kind, then the size, seven bits a byte after the first four."""
    head = bytearray([kind << 4 | size & 15])
    size >>= 4
    while size:
        head[-1] |= 0x80
        head.append(size & 0x7F)
        size >>= 7
    return bytes(head)


def line(text: bytes) -> bytes:
    return b"%04x" % (len(text) + 4) + text


def _lines(data: bytes) -> Iterator[bytes]:
    at = 0
    while at + 4 <= len(data):
        length = int(data[at : at + 4], 16)
        if length:
            yield data[at + 4 : at + length]
        at += max(length, 4)


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")
