"""The upload limit on whole `Peering` objects, in virtual time."""

from functools import partial

import pytest
import trio
import trio.testing

from p2pmodel.delivery.pace import Pace

RATE = 1_000_000


async def keep_fetching(node, seeder, order, sink):
    while True:
        await node.peering.source(seeder.id).fetch(order, sink)


async def linked(memory_node, count, upload):
    """One that seeds, and so many that are linked to it."""
    seeder = await memory_node(upload=upload)
    others = [await memory_node() for _ in range(count)]
    for other in others:
        other.hear_of(seeder)
        await other.events.until_linked()
    return seeder, others


@pytest.mark.parametrize("peers", [1, 5])
async def test_an_upload_limit_holds_however_many_peers_are_served(memory_node, order, sink, autojump_clock, peers):
    seeder, others = await linked(memory_node, peers, Pace(RATE))
    sinks = [type(sink)() for _ in others]
    with trio.move_on_after(10):
        async with trio.open_nursery() as fetches:
            for other, taken in zip(others, sinks, strict=True):
                fetches.start_soon(keep_fetching, other, seeder, order, taken)
                fetches.start_soon(keep_fetching, other, seeder, order, taken)
    assert sum(taken.pieces for taken in sinks) == pytest.approx(10 * RATE, rel=0.05)
    assert min(taken.pieces for taken in sinks) == pytest.approx(10 * RATE / peers, rel=0.1), "they take turns"


async def test_a_limit_far_below_a_chunk_a_timeout_breaks_no_connection(memory_node, order, sink, autojump_clock, blob_file):
    seeder, [other] = await linked(memory_node, 1, Pace(order.blob.size // 300))
    began = trio.current_time()
    await other.peering.source(seeder.id).fetch(order, sink)
    assert trio.current_time() - began == pytest.approx(300, rel=0.05)
    assert b"".join(data for data, _ in sink.chunks.values()) == blob_file[2]
    assert seeder.peering.statistics.slow_readers == 0


async def test_an_upload_limit_can_be_lifted_in_the_middle_of_a_chunk(memory_node, order, sink, autojump_clock, nursery):
    upload = Pace(1000)
    seeder, [other] = await linked(memory_node, 1, upload)
    fetching = partial(other.peering.source(seeder.id).fetch, order, sink)
    began = trio.current_time()
    async with trio.open_nursery() as fetch:
        fetch.start_soon(fetching)
        await trio.sleep(5)
        upload.change(0)
    assert trio.current_time() - began < 6


async def test_a_sink_that_allows_little_leaves_the_rest_in_the_socket(tcp_node, order, sink):
    """Back-pressure: what the receiver's own limit holds back is not read, so the sender stops."""
    one, two = await tcp_node(), await tcp_node()
    one.hear_of(two)
    await one.events.until_linked()
    asked, hold = trio.Event(), trio.Event()

    async def allow(count):
        if asked.is_set():
            await hold.wait()
        asked.set()
        return min(count, 100_000)

    sink.allow = allow
    async with trio.open_nursery() as fetch:
        fetch.start_soon(one.peering.source(two.id).fetch, order, sink)
        await asked.wait()
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert sink.pieces == 100_000
        hold.set()
    assert sink.pieces == order.blob.size
