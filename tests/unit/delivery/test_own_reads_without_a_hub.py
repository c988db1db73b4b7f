"""What only our own read of the hub would do for, when there is no hub: peers give it, and it waits for the blob's own hash."""

import pytest
import trio
from fakes.hub import REPO, MemoryHub, blob_of
from fakes.neighbours import Lan
from fakes.node import cluster
from noise import noise

from p2pmodel.content import Access
from p2pmodel.errors import P2pmodelError
from p2pmodel.limits import CHUNK_BYTES

LARGE = noise(0, 9 * CHUNK_BYTES + 12345)


@pytest.fixture
def hub():
    made = MemoryHub()
    made.publish({"model.safetensors": LARGE})
    return made


async def test_a_small_range_of_a_large_file_comes_from_a_peer_when_the_hub_is_gone(hub, autojump_clock):
    async with cluster(hub, "a", "b") as [a, b]:
        await a.fetch()
        await b.delivery.snapshot(REPO, "main", Access())
        hub.down = True
        with trio.fail_after(60):
            data, _ = await b.read("model.safetensors", 10, 20)
        assert data == LARGE[10:20]


async def test_a_hub_that_goes_in_the_middle_of_a_small_range_leaves_the_peers(hub, autojump_clock):
    async with cluster(hub, "a", "b") as [a, b]:
        await a.fetch()
        hub.rate = 1e4
        b.around.rates.peer = 1e4  # else it would not be asked

        async def leave():
            await trio.sleep(3)
            hub.down = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave)
            with trio.fail_after(120):
                data, _ = await b.read("model.safetensors", 10, 20)
        assert data == LARGE[10:20]


async def test_a_liar_and_no_hub_end_in_an_error_not_in_silence(hub, autojump_clock):
    lan = Lan()
    async with cluster(hub, "a", "b", lan=lan) as [a, b]:
        await a.fetch()
        await b.delivery.snapshot(REPO, "main", Access())
        lan.liars.add("a")
        lan.mute.add("a")
        hub.down = True
        with trio.fail_after(300), pytest.raises(P2pmodelError):
            await b.fetch()
        assert b.bytes_of(blob_of(LARGE)) is None
