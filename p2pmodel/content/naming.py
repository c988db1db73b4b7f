"""Names of nodes, hubs, repos and files. Names from outside are data: they are checked here before they become paths."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Final, NewType

from p2pmodel.limits import PATH_CHARS_MAX, PATH_SEGMENT_BYTES_MAX, SIGNERS_REMEMBERED_MAX

NodeId = NewType("NodeId", str)  # 40 hex digits, derived from a node's Ed25519 public key

LAN_OWNER: Final = "_lan"  # no hub gives out names that begin with an underscore

_REPO_SEGMENT: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.\-]{0,127})")
#: To Windows a device, a drive, or a stream of another file.
_LEADS_AWAY: Final = re.compile(
    r"(?i)(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:[.:].*)?$|[a-z]:|.*:(?:\$|.*:\$|Zone\.Identifier)"
)
_FORBIDDEN: Final = frozenset("\\") | {chr(code) for code in range(32)} | {"\x7f"}


@lru_cache(SIGNERS_REMEMBERED_MAX)
def node_id_of(public_key: bytes) -> NodeId:
    """The id of the node that owns this raw Ed25519 public key."""
    return NodeId(hashlib.sha256(b"p2pmodel node v1" + public_key).hexdigest()[:40])


class Hub(StrEnum):
    HUGGINGFACE = "huggingface"
    MODELSCOPE = "modelscope"


class RepoKind(StrEnum):
    MODEL = "model"
    DATASET = "dataset"
    SPACE = "space"
    KERNEL = "kernel"


@dataclass(frozen=True, slots=True, order=True)
class Repo:
    """A repo of a hub. `name` is ``org/name`` or, for a few old ones, a single segment."""

    hub: Hub
    kind: RepoKind
    name: str

    def __post_init__(self) -> None:
        segments = self.name.split("/")
        if len(segments) > 2 or not all(_REPO_SEGMENT.fullmatch(s) and ".." not in s for s in segments):  # noqa: PLR2004  # org/name
            raise ValueError(f"not a repo name: {self.name[:200]!r} (expected org/name)")

    @property
    def on_lan(self) -> bool:
        """Whether it is published within the cluster, and no hub's."""
        return self.name.startswith(LAN_OWNER + "/")

    def __str__(self) -> str:
        return self.name if self.kind is RepoKind.MODEL else f"{self.kind}s/{self.name}"


@dataclass(frozen=True, slots=True)
class Access:
    """A client's own credential for a hub; never printed, never sent anywhere but to that hub's host."""

    token: str | None = field(default=None, repr=False)


def check_path(path: str) -> str:
    """Return `path` if it is a relative POSIX path that is harmless under both POSIX and Windows rules, else raise ValueError.

    A repo's owner chooses file names: ``..``, absolute names, drive letters, device names, NUL and friends would let a
    snapshot write outside its directory on one system or another. What Windows merely has no files for (``:`` in a time of
    day, ``|``, ``*``, ``?``) is harmless here, and thousands of datasets have it in every name.
    """
    if not path or len(path) > PATH_CHARS_MAX:
        raise ValueError(f"a file name of {len(path)} characters")
    if any(char in _FORBIDDEN for char in path):
        raise ValueError(f"a file name with a forbidden character: {path[:200]!r}")
    for segment in path.split("/"):
        if segment in {"", ".", ".."} or segment != segment.rstrip(" .") or _LEADS_AWAY.match(segment):
            raise ValueError(f"a file name that is no plain relative path: {path[:200]!r}")
        try:
            encoded = segment.encode()
        except UnicodeEncodeError:
            raise ValueError(f"a file name that is not UTF-8: {path[:200]!r}") from None
        if len(encoded) > PATH_SEGMENT_BYTES_MAX:
            raise ValueError(f"a file name segment of {len(encoded)} bytes")
    return path
