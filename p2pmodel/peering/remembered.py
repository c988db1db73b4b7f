"""``peers.json``: whom we were linked to, for the next start without multicast. Read as hostile input: it only holds hints."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
import structlog
import trio

from p2pmodel.content import NodeId
from p2pmodel.delivery.blocking import Blocking
from p2pmodel.limits import LINKS_MAX, REMEMBERED_BYTES_MAX
from p2pmodel.network import Address, Candidate

log = structlog.get_logger()

_VERSION: Final = 1
_EVERY_S: Final = 5.0


class _Peer(msgspec.Struct, frozen=True):
    node: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{40}$")]
    host: Annotated[str, msgspec.Meta(max_length=45)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]


class _File(msgspec.Struct, frozen=True):
    version: int
    peers: Annotated[list[_Peer], msgspec.Meta(max_length=LINKS_MAX)]


def load(path: Path) -> list[Candidate]:
    """What the file says; nothing if it is missing, damaged or of another version. Blocks."""
    try:
        with path.open("rb") as file:
            content = msgspec.json.decode(file.read(REMEMBERED_BYTES_MAX), type=_File)
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError) as error:  # the last: nested without end
        log.warning("peers.file_unreadable", path=str(path), error=type(error).__name__)
        return []
    if content.version != _VERSION:
        return []
    return [Candidate(Address(peer.host, peer.port), NodeId(peer.node), "remembered") for peer in content.peers]


def save(path: Path, candidates: Sequence[Candidate]) -> None:
    """Replace the file whole. Losing it costs a slower start, so it is not synced. Blocks; raises OSError."""
    peers = [_Peer(each.node, each.address.host, each.address.port) for each in candidates if each.node]
    temporary = path.with_suffix(".new")
    temporary.write_bytes(msgspec.json.encode(_File(_VERSION, peers)))
    os.replace(temporary, path)  # noqa: PTH105  # the one call that says "atomically"


async def keep(path: Path, to_remember: Callable[[], Sequence[Candidate]], blocking: Blocking) -> None:
    """For ever: write down whom we are linked to when that has changed."""
    known: set[Candidate] = set()
    while True:
        await trio.sleep(_EVERY_S)
        candidates = to_remember()
        if candidates and known != set(candidates):
            known = set(candidates)
            try:
                await blocking(save, path, candidates)
            except OSError as error:
                log.warning("peers.file_unwritable", path=str(path), error=error.strerror)
