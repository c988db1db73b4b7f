"""The token bucket, in virtual time."""

import pytest
import trio

from p2pmodel.delivery.pace import Pace, Urgency
from p2pmodel.limits import CHUNK_BYTES, PACE_SLICE_S

RATE = 1_000_000


class Mover:
    """Moves bytes for as long as it may; each grant takes its time on the way."""

    def __init__(self, pace, urgency=Urgency.FETCH, *, seconds=0.0, count=CHUNK_BYTES):
        self.turn = pace.turn(lambda: self.urgency)
        self.urgency = urgency
        self.seconds = seconds
        self.count = count
        self.moved = 0

    async def run(self):
        while True:
            self.moved += await self.turn.take(self.count)
            await trio.sleep(self.seconds)


async def moved(movers, seconds):
    """Bytes that all of them move in so many seconds."""
    before = sum(mover.moved for mover in movers)
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for mover in movers:
                nursery.start_soon(mover.run)
    return sum(mover.moved for mover in movers) - before


@pytest.mark.parametrize("rate", [10_000, RATE, 500_000_000])
@pytest.mark.parametrize("movers", [1, 40])
async def test_a_limit_holds_over_ten_seconds_however_many_share_it(autojump_clock, rate, movers):
    pace = Pace(rate)
    assert await moved([Mover(pace) for _ in range(movers)], 10) == pytest.approx(10 * rate, rel=0.05)


async def test_a_limit_holds_where_bytes_take_their_time_and_after_a_pause(autojump_clock):
    pace = Pace(RATE)
    movers = [Mover(pace, seconds=0.03 * number) for number in range(8)]
    assert await moved(movers, 10) == pytest.approx(10 * RATE, rel=0.05)
    await trio.sleep(60)
    assert await moved(movers, 10) == pytest.approx(10 * RATE, rel=0.05)


async def test_what_small_movers_leave_over_goes_to_the_others(autojump_clock):
    pace = Pace(RATE)
    small, large = Mover(pace, count=100, seconds=0.01), Mover(pace)
    assert await moved([small, large], 10) == pytest.approx(10 * RATE, rel=0.05)
    assert small.moved > 0


def test_without_a_limit_nobody_waits_not_even_for_the_loop():
    async def main():
        pace = Pace()
        taking = pace.turn(lambda: Urgency.REPAIR).take(CHUNK_BYTES)
        with pytest.raises(StopIteration) as done:
            taking.send(None)
        return done.value.value

    assert trio.run(main) == CHUNK_BYTES


@pytest.mark.parametrize("urgent", list(Urgency)[:-1])
async def test_the_more_urgent_have_it_all_while_they_want_it(autojump_clock, urgent):
    pace = Pace(RATE)
    first = [Mover(pace, urgent) for _ in range(3)]
    later = [Mover(pace, urgency) for urgency in Urgency if urgency > urgent]
    await moved([*later, *first], 10)
    assert sum(mover.moved for mover in later) <= len(later) * 2 * RATE * PACE_SLICE_S + RATE * 0.1


async def test_a_prefetch_that_a_client_joins_is_as_urgent_as_the_client(autojump_clock):
    pace = Pace(RATE)
    fetch, prefetch = Mover(pace, Urgency.FETCH), Mover(pace, Urgency.PREFETCH)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetch.run)
        nursery.start_soon(prefetch.run)
        await trio.sleep(5)
        before = prefetch.moved
        prefetch.urgency = Urgency.CLIENT
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    assert before < RATE * 0.3
    assert prefetch.moved - before == pytest.approx(5 * RATE, rel=0.05)


async def test_among_equals_the_order_that_began_first_goes_first(autojump_clock):
    """Orders that are fetched one by one hold one buffer; all at once they would hold all buffers for as long as all take."""
    pace = Pace(RATE)
    first, second = Mover(pace), Mover(pace)
    await moved([second, first], 10)
    assert first.moved > 9 * RATE


async def test_taking_nothing_waits_until_nobody_is_before_us(autojump_clock):
    pace = Pace(RATE)
    first, second = Mover(pace), pace.turn(lambda: Urgency.FETCH)
    with trio.move_on_after(10) as patience:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.run)
            await trio.sleep(0.2)
            await second.take(0)
    assert patience.cancelled_caught
    assert await second.take(0) == 0


@pytest.mark.parametrize("rate", [RATE // 10, 4 * RATE])
async def test_a_limit_that_changes_holds_from_then_on(autojump_clock, rate):
    pace = Pace(RATE)
    movers = [Mover(pace) for _ in range(5)]
    async with trio.open_nursery() as nursery:
        for mover in movers:
            nursery.start_soon(mover.run)
        await trio.sleep(10)
        before = sum(mover.moved for mover in movers)
        pace.change(rate)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert sum(mover.moved for mover in movers) - before == pytest.approx(10 * rate, rel=0.05)


async def test_a_limit_that_is_lifted_lets_everybody_go_at_once(autojump_clock):
    pace = Pace(1)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(pace.turn(lambda: Urgency.FETCH).take, 1000)
        await trio.sleep(2)
        pace.change(0)
    assert trio.current_time() - began == 2


async def test_one_that_gives_up_waiting_holds_up_nobody(autojump_clock):
    pace = Pace(RATE)
    quitter, mover = pace.turn(lambda: Urgency.CLIENT), Mover(pace)
    await quitter.take(CHUNK_BYTES)
    with trio.move_on_after(0):
        await quitter.take(CHUNK_BYTES)
    assert await moved([mover], 10) == pytest.approx(10 * RATE, rel=0.05)


@pytest.mark.parametrize("rate", [0, RATE])
async def test_the_flow_is_told_with_and_without_a_limit(autojump_clock, rate):
    pace = Pace(rate)
    await moved([Mover(pace, seconds=1.0, count=RATE)] if not rate else [Mover(pace)], 20)
    assert pace.flow == pytest.approx(RATE, rel=0.15)
    await trio.sleep(60)
    assert pace.flow == 0
