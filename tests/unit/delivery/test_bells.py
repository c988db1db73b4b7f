"""Who of a download's tasks is woken when something is told."""

from functools import partial

import trio
from trio.testing import wait_all_tasks_blocked

from p2pmodel.delivery.bells import Bells


class House:
    """Lanes of two sources that sleep, each with its name."""

    def __init__(self, nursery, ready):
        self.bells = Bells(lambda sources: [source for source in sources if source in ready])
        self.woken = []
        self._nursery = nursery

    async def sleep(self, name, source, *, last=False):
        self._nursery.start_soon(partial(self._lane, name, source, last=last))
        await wait_all_tasks_blocked()

    async def _lane(self, name, source, *, last):
        await self.bells.rung(source, last=last)
        self.woken.append(name)


async def test_one_lane_of_a_source_is_woken_at_a_time_and_none_that_would_find_nothing():
    async with trio.open_nursery() as nursery:
        house = House(nursery, ready={"hub"})
        await house.sleep("urgent", "hub", last=True)
        await house.sleep("first", "hub")
        await house.sleep("peer", "peer")
        house.bells.ring_all()
        await wait_all_tasks_blocked()
        assert house.woken == ["first"], "the lane for what is urgent comes last"
        house.bells.ring("hub", "peer")
        await wait_all_tasks_blocked()
        assert house.woken == ["first", "urgent"]
        house.bells.ring("hub")  # nobody sleeps there
        nursery.cancel_scope.cancel()


async def test_who_waits_for_any_change_is_woken_though_no_lane_is(autojump_clock):
    async with trio.open_nursery() as nursery:
        house = House(nursery, ready=set())
        await house.sleep("peer", "peer")
        nursery.start_soon(house.bells.change)
        await wait_all_tasks_blocked()
        house.bells.ring_all()
        await wait_all_tasks_blocked()
        assert (house.woken, len(nursery.child_tasks)) == ([], 1)
        await house.bells.change(until=trio.current_time() + 1)
        nursery.cancel_scope.cancel()
