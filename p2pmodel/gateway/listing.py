"""A snapshot's listing as its hub wrote it: entries are chosen here and handed on unread, byte for byte.

Each dialect names the three fields that choosing needs; whatever else an entry carries (hashes, dates, cache keys of old
clients) is the hub's own and stays.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec
import trio

from p2pmodel.content import Repo, Snapshot
from p2pmodel.errors import WrongAnswerError
from p2pmodel.limits import MIB

_REMEMBERED: Final = 8  # a client asks for page after page, and for one snapshot at a time

_INLINE_BYTES: Final = MIB  # some 5 ms; larger listings are parsed in a thread


class HuggingFaceEntry(msgspec.Struct):
    path: str
    type: str

    @property
    def directory(self) -> bool:
        return self.type == "directory"


class ModelScopeEntry(msgspec.Struct):
    path: str = msgspec.field(name="Path")
    type: str = msgspec.field(name="Type")

    @property
    def directory(self) -> bool:
        return self.type == "tree"


@dataclass(frozen=True, slots=True)
class Line:
    """An entry of a listing; `raw` is its JSON."""

    path: str
    directory: bool
    raw: bytes


@dataclass(frozen=True, slots=True)
class Listing:
    lines: tuple[Line, ...]

    def below(self, root: str, *, recursive: bool) -> list[Line] | None:
        """What lies in the directory `root` ("" is the top), in the hub's order; None if there is no such directory."""
        prefix = f"{root}/" if root else ""
        inside = [line for line in self.lines if line.path.startswith(prefix)]
        if root and not inside and not any(line.path == root and line.directory for line in self.lines):
            return None
        return inside if recursive else [line for line in inside if "/" not in line.path[len(prefix) :]]

    def named(self, paths: Iterable[str]) -> list[Line]:
        """The entries of these paths; those that are not there are left out."""
        wanted = {path.strip("/") for path in paths}
        return [line for line in self.lines if line.path in wanted]


class Listings:
    """Parses listings and remembers the last few."""

    def __init__(self, entry: type[HuggingFaceEntry | ModelScopeEntry]) -> None:
        self._entry = msgspec.json.Decoder(entry)
        self._array = msgspec.json.Decoder(list[msgspec.Raw])
        self._parsed: dict[tuple[Repo, str], tuple[bytes, Listing]] = {}  # with what was parsed: a member's may prove false

    async def of(self, snapshot: Snapshot) -> Listing:
        key = (snapshot.repo, snapshot.commit)
        text, listing = self._parsed.pop(key, (b"", None))
        if listing is None or text != snapshot.listing:
            big = len(snapshot.listing) > _INLINE_BYTES
            listing = await trio.to_thread.run_sync(self._parse, snapshot) if big else self._parse(snapshot)
        self._parsed[key] = snapshot.listing, listing
        if len(self._parsed) > _REMEMBERED:
            del self._parsed[next(iter(self._parsed))]
        return listing

    def _parse(self, snapshot: Snapshot) -> Listing:
        try:
            raws = [bytes(raw) for raw in self._array.decode(snapshot.listing)]
            entries = [self._entry.decode(raw) for raw in raws]
        except (ValueError, RecursionError) as error:
            raise WrongAnswerError(
                f"The listing of {snapshot.repo} at {snapshot.commit} is not as the hub writes it"
            ) from error
        return Listing(tuple(Line(entry.path, entry.directory, raw) for entry, raw in zip(entries, raws, strict=True)))


def array(lines: Iterable[Line]) -> bytes:
    """JSON of these entries."""
    return b"[" + b",".join(line.raw for line in lines) + b"]"
