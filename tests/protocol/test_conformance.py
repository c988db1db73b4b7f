"""The conformance runner against this implementation's peering: it passes a node that keeps the protocol and fails one
that does not."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from noise import noise

from p2pmodel.content import (
    Blob,
    BlobHasher,
    ChunkMap,
    Circle,
    Manifest,
    NodeId,
    Seal,
    Voucher,
    chunk_count,
    chunk_digest,
    chunk_size,
    chunk_start,
)
from p2pmodel.content.cutting import Cutter
from p2pmodel.content.pieces import PIECE_ENTRY_BYTES
from p2pmodel.delivery.manifests import manifest_pages
from p2pmodel.delivery.ports import Span
from p2pmodel.limits import CHUNK_BYTES
from p2pmodel.network import Address
from p2pmodel.peering import Identity, Membership, Peering, TcpNetwork, TlsSecure, new_join_token
from p2pmodel.settings import PeeringSettings
from p2pmodel.wire.messages import (
    AskInventory,
    AskManifest,
    AskPieces,
    AskVoucher,
    Have,
    Interest,
    Inventory,
    Message,
    PiecesPage,
    Problem,
    VoucherPage,
)
from p2pmodel.wire.packed import InventoryEntry, pack_entries

RUNNER = Path(__file__).parents[2] / "protocol/conformance/run.py"
BOOT = b"startup1"


class OneBlob:
    """Delivery, as a peer sees it, of a node that holds one sealed blob in a file."""

    def __init__(self, file: Path, *, flip: bool = False) -> None:
        data = noise(1, CHUNK_BYTES + 1000)
        hasher = BlobHasher("sha256", len(data))
        hasher.update(data)
        self.blob = Blob(hasher.id(), len(data))
        pieces = [data[:CHUNK_BYTES], data[CHUNK_BYTES:]]
        self.manifest = Manifest(self.blob, b"".join(chunk_digest(piece) for piece in pieces))
        self.seal = Seal.sign(self.manifest, Ed25519PrivateKey.generate())
        file.write_bytes(data[:-1] + bytes([data[-1] ^ flip]))
        self.file = file
        cutter = Cutter()
        cutter.feed(data)
        self.pieces = cutter.finish().entries
        self.neighbours: Peering
        self.voucher: Voucher | None = None

    def linked(self, peer: NodeId) -> None: ...

    def unlinked(self, peer: NodeId) -> None: ...

    def quiet(self, peer: NodeId, *, quiet: bool) -> None: ...

    def received(self, peer: NodeId, message: Message) -> None:
        if isinstance(message, Interest) and message.on:
            here = message.blob == self.blob.id.to_bytes()
            count = chunk_count(message.size)
            chunks = ChunkMap.full(count) if here else ChunkMap(count)
            have = Have(blob=message.blob, size=message.size, sealed=here, wanted=False, chunks=chunks.to_bytes())
            self.neighbours.send(peer, have)

    async def answer(self, _peer: NodeId, question: Message) -> Sequence[Message]:
        if isinstance(question, AskInventory):
            entries = pack_entries([InventoryEntry(self.blob.id, self.blob.size, 2)])
            return [Inventory(request=1, boot=BOOT, sequence=1, whole=True, entries=entries, last=True)]
        if isinstance(question, AskManifest) and question.blob == self.blob.id.to_bytes():
            return manifest_pages(1, self.manifest, self.seal)
        if isinstance(question, AskPieces) and question.blob == self.blob.id.to_bytes():
            start = question.first * PIECE_ENTRY_BYTES
            some = self.pieces[start : start + 20 * PIECE_ENTRY_BYTES]
            return [PiecesPage(request=1, first=question.first, pieces=some)] if some else [Problem(code="not_held")]
        if isinstance(question, AskVoucher) and self.voucher and question.blob == self.blob.id.to_bytes():
            return [VoucherPage(request=1, voucher=self.voucher.to_bytes())]
        return [Problem(code="not_held")]

    async def seed(self, _peer: NodeId, blob: Blob, index: int) -> Span | None:
        if blob != self.blob:
            return None
        fd = os.open(self.file, os.O_RDONLY)
        try:
            return Span(fd, chunk_start(index), chunk_size(blob.size, index), self.manifest.digest(index))
        finally:
            os.close(fd)


@asynccontextmanager
async def node(events: OneBlob, token: str | None) -> AsyncIterator[int]:
    """A node on loopback; its peer port."""
    identity = Identity.generate()
    membership = Membership.closed(identity, token) if token else Membership.open(identity)
    if token:
        circle = Circle(bytes.fromhex(membership.tag))
        events.voucher = Voucher.sign(events.blob, events.manifest.root, circle=circle, key=identity.key)
    events.neighbours = Peering(
        PeeringSettings(listen=Address("127.0.0.1", 0)),
        node=identity.node,
        boot=BOOT,
        closed=token is not None,
        network=TcpNetwork(),
        secure=TlsSecure(membership),
        inventory=lambda: (1, bytes(16)),
        blocking=trio.to_thread.run_sync,
        dice=random.SystemRandom(),
        abilities=("pieces", "voucher") if token else ("pieces",),
    )
    async with trio.open_nursery() as nursery:
        yield await nursery.start(events.neighbours.run, events)
        nursery.cancel_scope.cancel()


async def conformance(port: int, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, str(RUNNER), "127.0.0.1", str(port), "--quick", *arguments]
    done = await trio.run_process(command, capture_stdout=True, stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout.decode()


@pytest.mark.parametrize("mode", ["open", "closed"])
async def test_a_node_that_keeps_the_protocol_passes(tmp_path: Path, mode: str):
    token = new_join_token() if mode == "closed" else None
    arguments = ["--token-file", str(tmp_path / "token")] if token else []
    (tmp_path / "token").write_text(f"{token}\n")
    async with node(OneBlob(tmp_path / "blob"), token) as port:
        code, table = await conformance(port, *arguments)
    assert code == 0, table
    assert "SKIP  " not in table, table


async def test_a_node_with_wrong_bytes_fails(tmp_path: Path):
    async with node(OneBlob(tmp_path / "blob", flip=True), None) as port:
        code, table = await conformance(port)
    assert code == 1
    assert "FAIL  a sealed blob" in table


async def test_a_node_of_another_cluster_fails(tmp_path: Path):
    async with node(OneBlob(tmp_path / "blob"), new_join_token()) as port:
        code, table = await conformance(port)
    assert code == 1
    assert "FAIL  the listener says hello first" in table


def test_the_runner_stands_alone():
    assert "p2pmodel" not in {
        line.split()[1].partition(".")[0] for line in RUNNER.read_text().splitlines() if line.startswith(("import ", "from "))
    }
