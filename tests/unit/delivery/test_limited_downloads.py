"""Rate limits on whole nodes in virtual time: what comes from peers, what comes from the hub, who goes first."""

import pytest
import trio
from fakes.hub import MemoryHub, blob_of
from fakes.node import cluster
from noise import noise

from p2pmodel.content import Hub, Repo, RepoKind
from p2pmodel.limits import CHUNK_BYTES

RATE = 2_000_000
SIZE = 5 * CHUNK_BYTES  # 10.5 s
OTHER = Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/other")


@pytest.fixture
def hub():
    made = MemoryHub()
    made.publish({f"{name}.safetensors": noise(name, SIZE // 2) for name in "ab"})
    made.publish({"w.safetensors": noise("w", CHUNK_BYTES)}, repo=OTHER)
    return made


async def seconds(work):
    began = trio.current_time()
    await work
    return trio.current_time() - began


async def test_what_comes_from_the_hub_keeps_its_limit(hub, autojump_clock):
    async with cluster(hub, "a", "b") as [a, _]:
        a.around.hub_pace.change(RATE)
        assert await seconds(a.fetch()) == pytest.approx(SIZE / RATE, rel=0.05, abs=1.5)  # a cold start settles for 1 s


async def test_what_comes_from_peers_keeps_its_limit_and_is_not_asked_of_the_hub_for_that(hub, autojump_clock):
    async with cluster(hub, "a", "b") as [a, b]:
        await a.fetch()
        sent = hub.bytes_sent
        b.around.peer_pace.change(RATE)
        assert await seconds(b.fetch()) == pytest.approx(SIZE / RATE, rel=0.05)
        assert hub.bytes_sent == sent


async def test_a_limit_on_peers_is_none_on_the_hub(hub, autojump_clock):
    async with cluster(hub, "a", "b") as [a, _]:
        a.around.peer_pace.change(1)
        assert await seconds(a.fetch()) < 2


async def test_a_client_that_waits_goes_before_a_fetch(hub, autojump_clock):
    async with cluster(hub, "a", "b") as [a, b]:
        await a.fetch()
        await a.fetch(repo=OTHER)
        b.around.peer_pace.change(RATE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b.fetch)
            await trio.sleep(2)
            assert await seconds(b.read("w.safetensors", repo=OTHER)) == pytest.approx(CHUNK_BYTES / RATE, rel=0.2)
            assert len(b.delivery.downloads.active) > 0, "the fetch goes on meanwhile"


async def test_an_order_held_back_for_long_is_not_asked_of_another(hub, autojump_clock):
    """A starving limit makes an order stand still for longer than any lease; that is nobody's failure."""
    async with cluster(hub, "a", "b") as [a, b]:
        await a.fetch()
        await a.fetch(repo=OTHER)
        sent = hub.bytes_sent
        b.around.peer_pace.change(CHUNK_BYTES // 30)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b.fetch)
            await trio.sleep(5)
            await b.read("w.safetensors", repo=OTHER)  # the fetch's order waits for 30 s
            b.around.peer_pace.change(0)
        assert hub.bytes_sent == sent
        assert b.bytes_of(blob_of(noise("a", SIZE // 2)))
