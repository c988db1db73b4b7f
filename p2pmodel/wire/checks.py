"""What a message must satisfy beyond the bounds of its single fields: a table by type of message.

Each check raises ValueError with a short reason. They run on what arrives, where a failure is the peer's fault, and on
what leaves, where it is ours.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Any, Final

from p2pmodel.content import Attestation, BlobId, ChunkMap, Hub, Repo, RepoKind, Voucher, chunk_count
from p2pmodel.content.pieces import PieceList
from p2pmodel.limits import PIECES_MAX
from p2pmodel.wire import messages as m
from p2pmodel.wire.packed import unpack_entries, unpack_indices, unpack_runs

_DIGEST_BYTES: Final = 32


def check(message: m.Message) -> None:
    """Raises ValueError if the message breaks a rule that its field types cannot state."""
    _strings_are_printable(message)
    if (rule := _CHECKS.get(type(message))) is not None:
        rule(message)


def _strings_are_printable(message: m.Message) -> None:
    """Strings of peers end up in logs and on terminals."""
    for field in message.__struct_fields__:
        value = getattr(message, field)
        for text in value if isinstance(value, list) else (value,):
            if isinstance(text, str) and not text.isprintable():
                raise ValueError(f"{field} has unprintable characters")


def _hello(hello: m.Hello) -> None:
    if hello.version_min > hello.version:
        raise ValueError(f"lowest version {hello.version_min} is above the highest, {hello.version}")
    if len(set(hello.abilities)) != len(hello.abilities):
        raise ValueError("an ability is named twice")


def _peers(peers: m.Peers) -> None:
    for node in peers.nodes:
        if "%" in node.host:
            raise ValueError("a scoped address means nothing on another node")
        ipaddress.ip_address(node.host)


def _ping(ping: m.Ping) -> None:
    if ping.deny_list[:1] == b"\0":
        raise ValueError("a number that begins with a zero")


def _deny_list(page: m.DenyListPage) -> None:
    if not page.data and not page.last:
        raise ValueError("an empty page of a deny list that is not the last")


def _inventory(page: m.Inventory) -> None:
    unpack_entries(page.entries)
    if not page.entries and not page.last:
        raise ValueError("an empty inventory page that is not the last")


def _blob(message: Any) -> None:  # noqa: ANN401  # any message with a field `blob`
    BlobId.from_bytes(message.blob)


def _have(have: m.Have) -> None:
    _blob(have)
    chunks = ChunkMap.from_bytes(chunk_count(have.size), have.chunks)
    if have.sealed and not chunks.complete:
        raise ValueError("a sealed blob lacks chunks")


def _held(held: m.Held) -> None:
    _blob(held)
    if any(index >= m.CHUNKS_MAX for index in unpack_indices(held.chunks) + unpack_indices(held.given)):
        raise ValueError("a chunk index beyond any blob")


def _claims(claims: m.Claims) -> None:
    _blob(claims)
    for first, count in unpack_runs(claims.runs) + unpack_runs(claims.coming) + unpack_runs(claims.firm):
        if count == 0 or first + count > m.CHUNKS_MAX:
            raise ValueError(f"a run of {count} chunks from {first}")


def _attest(attest: m.Attest) -> None:
    _blob(attest)
    Attestation.take_all(attest.words)


def _manifest(page: m.ManifestPage) -> None:
    _blob(page)
    count, odd = divmod(len(page.digests), _DIGEST_BYTES)
    stop, chunks = page.first + count, chunk_count(page.size)
    if odd or stop > chunks:
        raise ValueError(f"{len(page.digests)} bytes of digests from chunk {page.first} of {chunks}")
    if page.last != (stop == chunks):
        raise ValueError(f"last is {page.last} at chunk {stop} of {chunks}")
    if not count and chunks:
        raise ValueError("a page without digests")


def _voucher(page: m.VoucherPage) -> None:
    Voucher.from_bytes(page.voucher)


def _pieces(page: m.PiecesPage) -> None:
    count = len(PieceList.read(page.pieces))
    if not count or page.first + count > PIECES_MAX:
        raise ValueError(f"{count} pieces from {page.first}")


def _repo(question: m.AskSnapshot | m.AskWarm) -> None:
    Repo(Hub.HUGGINGFACE, RepoKind.MODEL, question.name)  # names have one form on all hubs


def _snapshot(page: m.SnapshotPage) -> None:
    if not page.data and not page.last:
        raise ValueError("an empty snapshot page that is not the last")


def _proof(message: m.AskPrivate | m.Private) -> None:
    if len(message.proof) not in (0, _DIGEST_BYTES):
        raise ValueError(f"a proof of {len(message.proof)} bytes")


def _get(get: m.Get) -> None:
    _blob(get)
    if get.first + get.count > chunk_count(get.size):
        raise ValueError(f"chunks {get.first} + {get.count} of a blob of {chunk_count(get.size)}")


def _chunk(chunk: m.Chunk) -> None:
    if chunk.attestation and Attestation.take(chunk.attestation)[1]:
        raise ValueError("more than one attestation with a chunk")


_CHECKS: Final[Mapping[type[m.Message], Callable[[Any], None]]] = {
    m.Hello: _hello,
    m.Ping: _ping,
    m.Peers: _peers,
    m.DenyListPage: _deny_list,
    m.Inventory: _inventory,
    m.Interest: _blob,
    m.Have: _have,
    m.Held: _held,
    m.Claims: _claims,
    m.BadChunk: _blob,
    m.Attest: _attest,
    m.Audit: _blob,
    m.AskManifest: _blob,
    m.ManifestPage: _manifest,
    m.AskVoucher: _blob,
    m.VoucherPage: _voucher,
    m.AskPieces: _blob,
    m.PiecesPage: _pieces,
    m.AskSnapshot: _repo,
    m.AskWarm: _repo,
    m.SnapshotPage: _snapshot,
    m.AskPrivate: _proof,
    m.Private: _proof,
    m.Get: _get,
    m.Chunk: _chunk,
}
