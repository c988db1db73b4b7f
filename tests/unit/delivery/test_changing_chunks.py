"""A chunk that changes under the hash: whatever the order of events, a seal speaks for the bytes that are on disk."""

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fakes.hub import MemoryHub, blob_of
from fakes.neighbours import Lan
from fakes.node import Node, inline
from noise import noise

from p2pmodel.content import Grade, Manifest, Seal, chunk_digest
from p2pmodel.delivery.arrival import FlightSink
from p2pmodel.delivery.download import Download
from p2pmodel.delivery.private import PrivateSharing
from p2pmodel.delivery.shelf import Shelf
from p2pmodel.errors import WrongBytesError
from p2pmodel.limits import CHUNK_BYTES
from p2pmodel.swarm import HUB

DATA = noise(4, 2 * CHUNK_BYTES + 77)
FALSE = bytes(CHUNK_BYTES)
PEER = "b" * 40


@pytest.fixture
def node():
    hub = MemoryHub()
    hub.publish({"w.bin": DATA})
    return Node("a", Lan(), hub)


@pytest.fixture
async def download(node, autojump_clock):
    stored = node.store.open(blob_of(DATA), private=False)
    delivery = node.delivery
    sharing = PrivateSharing(node.around, Shelf(node.store, inline))
    return Download(stored, node.around, delivery._herald, delivery._court, [], delivery.downloads.statistics, sharing)


def sink_of(download, node, source):
    flight = download.swarm.ledger.begin(source, 0, 3, trio.current_time())
    return FlightSink(download.arrivals, node.around, flight, node.around.peer_pace.turn(lambda: download.urgency))


async def give(sink, index, data, grade):
    digest = chunk_digest(data)
    await sink.arrived(index, memoryview(data), digest, claimed=digest if grade is Grade.SINGLE else None, grade=grade)


def chunk(index):
    return DATA[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]


async def test_a_peers_other_bytes_do_not_replace_what_another_peer_gave_nor_cost_that_one_its_standing(download, node):
    good, bad = sink_of(download, node, PEER), sink_of(download, node, "c" * 40)
    await give(good, 0, chunk(0), Grade.SINGLE)
    with pytest.raises(WrongBytesError):
        await give(bad, 0, FALSE, Grade.SINGLE)
    assert download.stored.digest(0) == chunk_digest(chunk(0))
    assert not node.around.standing.is_banned(PEER, trio.current_time())


async def test_a_chunk_that_was_replaced_after_the_last_was_hashed_is_hashed_again(download, node):
    """The swap comes between the hash and the seal, where no check of ours looks any more."""
    sink = sink_of(download, node, HUB)
    for index in range(3):
        await give(sink, index, chunk(index), Grade.SINGLE)
    assert download.sealing.complete
    assert download.sealing.right
    download.stored.write(0, memoryview(FALSE), chunk_digest(FALSE), Grade.SINGLE)
    assert not await download._finish()
    assert not download.stored.sealed


async def test_bytes_that_change_while_they_are_read_back_for_the_hash_are_not_sealed(download, node, monkeypatch):
    sink = sink_of(download, node, PEER)
    for index in (2, 1, 0):
        await give(sink, index, chunk(index), Grade.SINGLE)
    read_into = download.stored.read_into

    def read_and_replace(index, buffer):
        read_into(index, buffer)
        if index == 1:
            download.stored.write(1, memoryview(FALSE), chunk_digest(FALSE), Grade.SINGLE)

    monkeypatch.setattr(download.stored, "read_into", read_and_replace)
    await download._hash_the_rest()
    assert download.sealing.right
    assert not await download._finish()


async def test_what_nobody_touches_is_sealed(node, autojump_clock):
    async with trio.open_nursery() as nursery:
        async with node.running(nursery):
            await node.fetch()
            assert node.bytes_of(blob_of(DATA)) == DATA
        nursery.cancel_scope.cancel()


async def test_a_false_seal_is_held_against_no_honest_peer_once_the_hub_refutes_it(download, node):
    """Whoever answers first with a signed manifest of lies must not cost the cluster the whole blob from the hub."""
    lies = Manifest(download.blob, bytes(3 * 32))
    seal = Seal.sign(lies, Ed25519PrivateKey.generate())
    download.trial.testimony._seals[seal.node] = lies
    download.trial.testimony.follow(seal.node)
    honest, hub = sink_of(download, node, PEER), sink_of(download, node, HUB)
    with pytest.raises(WrongBytesError):
        await give(honest, 0, chunk(0), Grade.SINGLE)
    await give(hub, 0, chunk(0), Grade.OWN)
    assert node.around.standing.is_banned(seal.node, trio.current_time())
    await give(honest, 1, chunk(1), Grade.SINGLE)
    assert 1 in download.stored.held
