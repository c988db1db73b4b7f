"""Each order of a hub says why the hub was asked."""

import random

import pytest

from p2pmodel.content import Blob, BlobId, ChunkMap, NodeId
from p2pmodel.limits import BAN_MIN_S, CHUNK_BYTES, LEASE_S
from p2pmodel.swarm import HUB, HubReason, Rates, Standing, Swarm, Why, run_owners
from p2pmodel.swarm.turns import UNCLAIMED_S

CHUNKS = 4
BLOB = Blob(BlobId("sha256", "ab" * 32), CHUNKS * CHUNK_BYTES)
PEER = NodeId("a" * 40)


@pytest.fixture
def standing():
    return Standing()


@pytest.fixture
def held():
    return ChunkMap(CHUNKS)


@pytest.fixture
def swarm(standing, held):
    return Swarm(
        BLOB, held=held, own=ChunkMap(CHUNKS), own_weight="me", standing=standing, rates=Rates(), rng=random.Random(1), now=0.0
    )


def says(swarm, now=0.0):
    flight = swarm.next_order(HUB, now)
    return flight and (flight.first, flight.reason)


def peer(swarm, chunks=(), *, wanted=False):
    swarm.joined(PEER, PEER)
    swarm.has(PEER, ChunkMap(CHUNKS, chunks), sealed=False, wanted=wanted, now=0.0)


def test_without_peers(swarm):
    assert says(swarm) == (0, HubReason.NO_PEERS)


def test_with_peers_that_know_nothing_of_it(swarm):
    peer(swarm)
    assert says(swarm) == (0, HubReason.NOBODY_HOLDS)


def test_among_nodes_that_want_it_each_in_its_turn(swarm):
    peer(swarm, wanted=True)
    mine = [run for run in range(CHUNKS) if run_owners(BLOB.id, run, {"me", PEER})[0] == "me"]
    assert 0 < len(mine) < CHUNKS
    for run in mine:
        flight = swarm.next_order(HUB, 0.0)
        assert (flight.first, flight.reason) == (run, HubReason.MY_TURN)
        swarm.arrived(run, hub=True)
        swarm._held.add(run)
        swarm.ended(flight, 0.0)
    assert says(swarm) is None
    chunk, reason = says(swarm, UNCLAIMED_S)
    assert reason is HubReason.PASSED_ON
    assert chunk not in mine


def test_when_a_peer_holds_it_and_gives_nothing(swarm):
    peer(swarm, range(CHUNKS))
    assert swarm.next_order(PEER, 0.0).reason == ""
    assert says(swarm) is None
    assert says(swarm, LEASE_S)[1] == HubReason.STALLED


def test_when_whoever_holds_it_gave_wrong_bytes(swarm, standing):
    peer(swarm, range(CHUNKS))
    standing.convict(PEER, Why.FALSE_DIGEST)
    assert says(swarm, BAN_MIN_S / 2) == (0, HubReason.REFUSED)


def test_for_a_client_that_may_only_have_our_own_read(swarm):
    peer(swarm, range(CHUNKS))
    swarm.reads.begin(1, range(2, 3), own=True)
    assert says(swarm) == (2, HubReason.OWN_READ)


def test_after_a_wrong_hash(swarm, held):
    peer(swarm, range(CHUNKS))
    for chunk in range(CHUNKS):
        held.add(chunk)
    swarm.reads.distrust(ChunkMap(CHUNKS, [1, 2]))
    assert says(swarm) == (1, HubReason.DISTRUST)
