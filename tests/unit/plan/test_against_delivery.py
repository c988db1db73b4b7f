"""What the plan foretells against whole delivery rooms in virtual time, on the same rates, delays and network."""

from contextlib import AsyncExitStack

import pytest
import trio
import trio.testing
from fakes.hub import MemoryHub
from fakes.neighbours import Lan
from fakes.node import Node
from noise import noise

from p2pmodel.limits import CHUNK_BYTES
from p2pmodel.plan import Scenario
from p2pmodel.plan.flows import Stream
from p2pmodel.plan.simulation import World

CHUNKS = 12
SIZE = CHUNKS * CHUNK_BYTES


class InTurn:
    """The network of the fakes: a sender's chunks go one after the other, receivers take any number."""

    def __init__(self, clock):
        self.clock = clock
        self.free_at = {}

    def begin(self, source, target, count, done):
        stream = Stream((source, target), count, self.clock.now, done)
        self.free_at[source] = max(self.free_at.get(source, 0.0), self.clock.now) + count / source.rate
        self.clock.at(self.free_at[source], lambda: self.end(stream))
        return stream

    def left(self, stream):
        return stream.left / 2  # it moves

    def cancel(self, stream):
        stream.turn = 1

    def end(self, stream):
        if not stream.turn:
            for pipe in stream.pipes:
                pipe.carried += stream.left
            stream.done()


async def bring_in(scenario):
    """When the last node was done, and what the hub sent."""
    hub = MemoryHub()
    hub.publish({"model.safetensors": noise(scenario.seed, SIZE)})
    lan = Lan(delay=scenario.delay_s, rate=scenario.link)
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(Node(f"n{number}", lan, hub, seed=scenario.seed).running(nursery))
            for number in range(scenario.nodes)
        ]
        for node in nodes[: scenario.holders]:
            await node.fetch()
        hub.rate, hub.free_at = scenario.uplink, 0.0
        hub.sent.clear()
        began = trio.current_time()
        async with trio.open_nursery() as fetching:
            for node in nodes[scenario.holders :]:
                fetching.start_soon(node.fetch)
        last = trio.current_time() - began
        await stack.aclose()
        nursery.cancel_scope.cancel()
    return last, hub.bytes_sent


@pytest.mark.parametrize("holders", [0, 1], ids=["nobody has it", "one has it"])
def test_the_plan_foretells_what_delivery_does(holders):
    scenario = Scenario(
        nodes=4, size=SIZE, link=SIZE / 10, uplink=SIZE / 40, holders=holders, hub_delay_s=0.01, delay_s=0.0002, seed=3
    )
    last, hub_bytes = trio.run(bring_in, scenario, clock=trio.testing.MockClock(autojump_threshold=0))
    world = World(scenario)
    world.flows = InTurn(world.clock)
    outcome = world.run()
    assert outcome.hub_bytes == pytest.approx(hub_bytes)
    assert outcome.last_s == pytest.approx(last, rel=0.1)
