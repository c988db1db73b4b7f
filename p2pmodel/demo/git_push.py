"""`git push` as the hub takes it: what git asks for, the pack that it brings, and the commits in it as commits of a repo.

Large files came before, by LFS; here are the pointers to them. A push is taken when each commit's files, as this hub would
keep them, give the very tree that git named: so it refuses large files without LFS, links and executable files.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from p2pmodel.demo import git
from p2pmodel.demo.repos import Content, HubRepo

_NOBODY: Final = "0" * 40
_REF_DELTA: Final = 7
_ABILITIES: Final = "report-status delete-refs no-thin agent=demo"
_POINTER: Final = re.compile(rb"version https://git-lfs\S+\noid sha256:([0-9a-f]{64})\nsize [0-9]+\n")
_MARK: Final = 0x80  # of a number's bytes all but the last have it

Objects = dict[str, tuple[int, bytes]]  # kind and body, by id
Find = Callable[[str], Content | None]  # a large file by its sha256


@dataclass(frozen=True, slots=True)
class _Command:
    """Lead a ref from one commit to another."""

    old: str
    new: str
    ref: str


def advertisement(repo: HubRepo) -> bytes:
    """The answer to ``GET info/refs?service=git-receive-pack``."""
    lines = [f"{commit} {name}" for name, commit in sorted(_refs(repo).items())] or [f"{_NOBODY} capabilities^{{}}"]
    lines[0] += f"\0{_ABILITIES}"
    return (
        git.line(b"# service=git-receive-pack\n")
        + git.FLUSH
        + b"".join(git.line(f"{one}\n".encode()) for one in lines)
        + git.FLUSH
    )


def receive_pack(repo: HubRepo, body: bytes, find: Find, *, zipped: bool) -> bytes:
    """The answer to ``POST git-receive-pack``, whose refs then lead where it says. Raises ValueError for what is no pack."""
    body = gzip.decompress(body) if zipped else body
    commands, rest = _commands(body)
    if not commands:
        return b""  # git asks whether it may, before it sends much
    objects = dict(_unpacked(rest)) if rest else {}
    report = [git.line(b"unpack ok\n")]
    for command in commands:
        said = _obey(repo, command, objects, find)
        report.append(git.line((f"ng {command.ref} {said}\n" if said else f"ok {command.ref}\n").encode()))
    return b"".join(report) + git.FLUSH


def _refs(repo: HubRepo) -> dict[str, str]:
    named = {f"refs/heads/{name}": commit for name, commit in repo.branches.items()}
    return named | {f"refs/tags/{name}": commit for name, commit in repo.tags.items()}


def _obey(repo: HubRepo, command: _Command, objects: Objects, find: Find) -> str:
    """Why not; empty if it is done."""
    _, kind, name = command.ref.split("/", 2)
    place = {"heads": repo.branches, "tags": repo.tags}.get(kind)
    if place is None:
        return "only branches and tags"
    if place.get(name, _NOBODY) != command.old:
        return "fetch first"
    if command.new == _NOBODY:
        del place[name]
        return ""
    try:
        _take_commit(repo, command.new, objects, find)
    except (KeyError, ValueError) as error:
        return f"pre-receive hook declined: {error}"
    place[name] = command.new
    return ""


def _take_commit(repo: HubRepo, commit: str, objects: Objects, find: Find) -> None:
    """With all before it. Raises KeyError for what did not come, ValueError for what this hub does not keep."""
    fresh: list[str] = []
    while commit not in repo.commits:
        fresh.append(commit)
        parents = re.findall(rb"^parent ([0-9a-f]{40})$", _head(objects, commit), re.MULTILINE)
        if not parents:
            break
        commit = parents[0].decode()
    known = {oid: (kind, data) for before in repo.commits.values() for oid, kind, data in git.objects(before)} | objects
    for commit in reversed(fresh):
        body = known[commit][1]
        tree = body[5:45].decode()
        contents = {path: _content(blob, find) for path, blob in _files(known, tree)}
        parent = re.search(rb"^parent ([0-9a-f]{40})$", _head(known, commit), re.MULTILINE)
        title = body.partition(b"\n\n")[2].partition(b"\n")[0].decode(errors="replace")
        repo.take(commit, body, tree, contents, parent=parent[1].decode() if parent else None, title=title)
        known |= {oid: (kind, data) for oid, kind, data in git.objects(repo.commits[commit])}


def _head(objects: Mapping[str, tuple[int, bytes]], commit: str) -> bytes:
    kind, body = objects[commit]
    if kind != git.COMMIT:
        raise ValueError("annotated tags are not kept here")
    return body.partition(b"\n\n")[0]


def _files(objects: Objects, tree: str, above: str = "") -> Iterator[tuple[str, bytes]]:
    body = objects[tree][1]
    while body:
        mode, _, body = body.partition(b" ")
        name, _, body = body.partition(b"\0")
        oid, body = body[:20].hex(), body[20:]
        path = above + name.decode("utf-8", "surrogateescape")
        if mode == b"40000":
            yield from _files(objects, oid, f"{path}/")
        else:
            yield path, objects[oid][1]


def _content(blob: bytes, find: Find) -> Content:
    pointer = _POINTER.fullmatch(blob)
    if pointer is None:
        return Content.of(blob)
    content = find(pointer[1].decode())
    if content is None:
        raise ValueError(f"the large file {pointer[1].decode()[:12]} did not come")
    return content


# Packs


def _commands(body: bytes) -> tuple[list[_Command], bytes]:
    """The commands, and what follows them."""
    commands, at = [], 0
    while length := int(body[at : at + 4], 16):
        old, new, ref = body[at + 4 : at + length].partition(b"\0")[0].decode().strip().split(" ", 2)
        commands.append(_Command(old, new, ref))
        at += length
    return commands, body[at + 4 :]


def _unpacked(pack: bytes) -> Iterator[tuple[str, tuple[int, bytes]]]:
    """https://git-scm.com/docs/gitformat-pack, of which git sends us only deltas against what the pack holds as well."""
    if pack[:4] != b"PACK" or hashlib.sha1(pack[:-20], usedforsecurity=False).digest() != pack[-20:]:
        raise ValueError("this is no pack")
    at, whole, deltas = 12, Objects(), list[tuple[str, bytes]]()
    for _ in range(int.from_bytes(pack[8:12])):
        kind = pack[at] >> 4 & 7
        while pack[at] & _MARK:
            at += 1
        at += 1
        base = pack[at : at + 20].hex()
        at += 20 * (kind == _REF_DELTA)
        unzip = zlib.decompressobj()
        body = unzip.decompress(pack[at:])
        at = len(pack) - len(unzip.unused_data)
        if kind == _REF_DELTA:
            deltas.append((base, body))
        else:
            whole[git.object_id(kind, body)] = kind, body
    while deltas:
        ready = [(base, delta) for base, delta in deltas if base in whole]
        if not ready:
            raise ValueError("a delta against nothing")
        deltas = [(base, delta) for base, delta in deltas if base not in whole]
        for base, delta in ready:
            kind, old = whole[base]
            body = _patched(old, delta)
            whole[git.object_id(kind, body)] = kind, body
    yield from whole.items()


def _patched(old: bytes, delta: bytes) -> bytes:
    _, at = _number(delta, 0)
    _, at = _number(delta, at)
    made = bytearray()
    while at < len(delta):
        code = delta[at]
        at += 1
        if not code & _MARK:
            made += delta[at : at + code]
            at += code
            continue
        start = size = 0
        for bit in range(7):
            if code >> bit & 1:
                if bit < 4:  # noqa: PLR2004  # four bytes of the place, three of the length
                    start |= delta[at] << 8 * bit
                else:
                    size |= delta[at] << 8 * (bit - 4)
                at += 1
        made += old[start : start + (size or 0x10000)]
    return bytes(made)


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & ~_MARK) << shift
        shift += 7
        at += 1
        if not data[at - 1] & _MARK:
            return value, at
