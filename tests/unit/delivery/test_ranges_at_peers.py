"""Small ranges of a large file that a peer holds whole: from the peer where that takes seconds, and never all of it from the
hub."""

import pytest
import trio
from fakes.hub import REPO, MemoryHub, blob_of
from fakes.neighbours import Lan
from fakes.node import cluster
from noise import noise

from p2pmodel.content import Access
from p2pmodel.limits import CHUNK_BYTES, MIB, RANGE_WAIT_S

LARGE = noise(0, 12 * CHUNK_BYTES + 12345)
BLOB = blob_of(LARGE)
SLOW = len(LARGE) / (20 * RANGE_WAIT_S)


@pytest.fixture
def hub():
    made = MemoryHub()
    made.publish({"model.safetensors": LARGE})
    return made


async def has_it(node, hub):
    """The node holds the file; what it cost the hub is forgotten."""
    await node.fetch()
    hub.sent.clear()


async def seconds_of(node, start, stop):
    began = trio.current_time()
    data, _ = await node.read("model.safetensors", start, stop)
    assert data == LARGE[start:stop]
    return trio.current_time() - began


async def test_a_header_of_a_file_that_a_peer_brings_in_seconds_costs_the_hub_nothing(hub, autojump_clock):
    async with cluster(hub, "a", "b", lan=Lan(rate=50 * MIB)) as [a, b]:
        await has_it(a, hub)
        assert await seconds_of(b, 5_000_000, 5_001_000) < RANGE_WAIT_S
        assert await seconds_of(b, 0, 100) < 0.1
    assert hub.sent[BLOB.id] == 0


async def test_a_peer_that_is_known_to_be_slow_is_not_waited_for(hub, autojump_clock):
    lan = Lan(rate=SLOW)
    async with cluster(hub, "a", "b", lan=lan) as [a, b]:
        await has_it(a, hub)
        b.around.rates.peer = SLOW
        assert await seconds_of(b, 0, 100) < RANGE_WAIT_S
    assert 0 < hub.sent[BLOB.id] <= 2 * CHUNK_BYTES


async def test_a_peer_that_turns_out_to_be_slow_is_waited_for_less_long_than_clients_wait(hub, autojump_clock):
    async with cluster(hub, "a", "b", lan=Lan(rate=SLOW)) as [a, b]:
        await has_it(a, hub)
        assert RANGE_WAIT_S < await seconds_of(b, 0, 100) < 10
    assert 0 < hub.sent[BLOB.id] <= 2 * CHUNK_BYTES


async def test_who_reads_all_of_it_in_small_ranges_does_not_read_all_of_it_from_the_hub(hub, autojump_clock, monkeypatch):
    monkeypatch.setattr("p2pmodel.swarm.swarm.RANGES_OF_HELD_BYTES_MAX", 3 * CHUNK_BYTES)
    hub.rate = SLOW  # no faster than the peer, else it is asked for that reason
    async with cluster(hub, "a", "b", lan=Lan(rate=SLOW)) as [a, b]:
        await has_it(a, hub)
        b.around.rates.peer = SLOW
        for start in range(0, len(LARGE), MIB):
            await seconds_of(b, start, min(start + MIB, len(LARGE)))
    assert 0 < hub.sent[BLOB.id] <= 5 * CHUNK_BYTES


async def test_ranges_asked_at_once_come_from_the_peer_as_well(hub, autojump_clock):
    """hf_transfer asks for its first byte, then for everything in parallel."""
    async with cluster(hub, "a", "b", lan=Lan(rate=50 * MIB)) as [a, b], trio.open_nursery() as nursery:
        await has_it(a, hub)
        await b.delivery.snapshot(REPO, "main", Access())
        nursery.start_soon(seconds_of, b, 0, 1)
        for start in range(0, len(LARGE), 10 * MIB):
            nursery.start_soon(seconds_of, b, start, min(start + 10 * MIB, len(LARGE)))
    assert hub.sent[BLOB.id] == 0
