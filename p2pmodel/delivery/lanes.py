"""The lanes of one download: tasks that work orders, each for one source, until that source is gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from p2pmodel.content import NodeId
from p2pmodel.delivery.arrival import Arrivals, FlightSink
from p2pmodel.delivery.bells import Bells
from p2pmodel.delivery.herald import Herald
from p2pmodel.delivery.pace import Turn, Urgency
from p2pmodel.delivery.ports import Order, Source, StoredBlob, Surroundings
from p2pmodel.errors import NotHeldError, P2pmodelError, RateLimitedError, SourceBusyError, StoreError, WrongBytesError
from p2pmodel.limits import CLAIM_REPEAT_S, MIB
from p2pmodel.swarm import HUB, HUB_STREAMS, Flight, SourceName, Swarm

PEER_LANES: Final = 2  # of a fast peer: while one chunk is written the next comes in
_FAST: Final = 200 * MIB  # bytes/s of one lane; below, a second one would only make each chunk take longer
_SMALL_BLOB_BYTES: Final = 64 * MIB  # up to here one connection will do
PAUSE_MIN_S: Final = 0.5  # after a failed order a lane pauses, doubling, so that the others get the chunk
PAUSE_MAX_S: Final = 10.0
_ASLEEP_S: Final = 2 * CLAIM_REPEAT_S  # a loop that comes so late was stopped, or its machine asleep
HUB_REST_S: Final = 5.0  # a hub that did not answer is left alone for so long


class Lanes:
    """`urgency` is that of the download's users now; `fail` ends the download."""

    def __init__(
        self,
        stored: StoredBlob,
        swarm: Swarm,
        arrivals: Arrivals,
        around: Surroundings,
        herald: Herald,
        bells: Bells,
        *,
        urgency: Callable[[], Urgency],
        fail: Callable[[P2pmodelError], None],
    ) -> None:
        self.hub_failure: P2pmodelError | None = None  # the last
        self._stored = stored
        self._swarm = swarm
        self._arrivals = arrivals
        self._around = around
        self._herald = herald
        self._bells = bells
        self._urgency = urgency
        self._fail = fail
        self._scopes: dict[int, trio.CancelScope] = {}  # of orders in flight, by number
        self._of_peer: Counter[NodeId] = Counter()
        self._awake_at = trio.current_time()

    def open_to_hub(self, nursery: trio.Nursery, source: Source) -> None:
        for _ in range(HUB_STREAMS if self._stored.blob.size > _SMALL_BLOB_BYTES else 1):
            nursery.start_soon(self._lane, nursery, HUB, lambda: source)
        nursery.start_soon(partial(self._lane, nursery, HUB, lambda: source, urgent=True))

    def open_to_peer(self, nursery: trio.Nursery, peer: NodeId) -> None:
        """A peer whose link breaks and comes back at once finds its lanes still there, and gets no more."""
        if not self._of_peer[peer]:
            nursery.start_soon(self._peer_lane, nursery, peer)

    def give_way(self, to: NodeId | None = None) -> None:
        """Orders to the hub that others make needless end; `to`: only this one has told anything."""
        for flight in self._swarm.overtaken(trio.current_time(), to):
            self._scopes[flight.number].cancel()

    async def repeat_claims(self) -> None:
        """A chunk may take longer than a lease on a slow uplink: while bytes flow, our claims are renewed."""
        while True:
            then = trio.current_time()
            await trio.sleep(CLAIM_REPEAT_S)
            self._look_at_the_clock()
            if self._swarm.ledger.progressed_since(HUB, then):
                self._herald.claims(self._swarm)

    def _look_at_the_clock(self) -> None:
        """Called every CLAIM_REPEAT_S at least, and before each decision: nobody is slow because this node was asleep."""
        now = trio.current_time()
        late, self._awake_at = now - self._awake_at, now
        if late > _ASLEEP_S:
            self._swarm.slept(late)

    async def _peer_lane(self, nursery: trio.Nursery, peer: NodeId) -> None:
        self._of_peer[peer] += 1
        try:
            await self._lane(nursery, peer, lambda: self._around.neighbours.source(peer))
        finally:
            self._of_peer[peer] -= 1

    async def _lane(
        self, nursery: trio.Nursery, name: SourceName, source: Callable[[], Source], *, urgent: bool = False
    ) -> None:
        """Work orders of one source for as long as it is linked."""
        pause = PAUSE_MIN_S
        pace = self._around.hub_pace if name == HUB else self._around.peer_pace
        while name == HUB or name in self._swarm.availability.peers:
            turn = pace.turn(self._urgency)
            await turn.take(0)  # an order that our own limit would hold back only keeps its chunks from others
            self._look_at_the_clock()
            flight = self._swarm.next_order(name, trio.current_time(), urgent=urgent)
            if flight is None:
                await self._bells.rung(name, last=urgent)
                continue
            self._bells.ring(name)  # there may be another one for the next lane
            if await self._work(nursery, flight, source(), turn):
                pause = PAUSE_MIN_S
            else:
                await trio.sleep(pause * self._around.rng.uniform(0.8, 1.2))
                pause = min(2 * pause, PAUSE_MAX_S)
        self._bells.ring(name)  # the next lane of a source that is gone ends as well

    async def _work(self, nursery: trio.Nursery, flight: Flight, source: Source, turn: Turn) -> bool:
        """One order; false when the source failed and should pause."""
        hub = flight.source == HUB
        self._tell_claims(hub=hub, begun=True)
        self._bells.tell()  # it will have to be looked after
        order = Order(self._stored.blob, flight.first, flight.count, private=self._stored.private)
        sink = FlightSink(self._arrivals, self._around, flight, turn)
        scope = self._scopes[flight.number] = trio.CancelScope()
        try:
            with scope, sink.recorded():
                await source.fetch(order, sink)
        except WrongBytesError:
            return hub  # the chunk is refused there; a peer has time to find out whose word it is that nobody hears
        except NotHeldError:
            self._swarm.failed(flight, for_good=True)  # and it is about to say what else it lost
        except StoreError as error:
            self._fail(error)
        except P2pmodelError as error:
            if hub:
                self._hub_failed(error)
            elif not isinstance(error, SourceBusyError):
                self._swarm.failed(flight, for_good=False)
        else:
            if not hub:
                self._add_lane_if_fast(nursery, flight)
            return True
        finally:
            del self._scopes[flight.number]
            self._swarm.ended(flight, trio.current_time())
            self._tell_claims(hub=hub, begun=False)
            if flight.left:
                self._bells.ring_all()
        return False

    def _add_lane_if_fast(self, nursery: trio.Nursery, flight: Flight) -> None:
        peer = NodeId(flight.source)
        fast = flight.received >= _FAST * (trio.current_time() - flight.started_at)
        if fast and self._of_peer[peer] < PEER_LANES:
            nursery.start_soon(self._peer_lane, nursery, peer)

    def _tell_claims(self, *, hub: bool, begun: bool) -> None:
        """Once an order is over there is time: mostly the next one begins at once, and tells the same."""
        if hub and begun:
            self._herald.claims(self._swarm)
        else:
            self._herald.ordered(self._swarm)

    def _hub_failed(self, error: P2pmodelError) -> None:
        rest_s = error.retry_after_s if isinstance(error, RateLimitedError) else HUB_REST_S
        self.hub_failure = error
        self._swarm.hub_rests(trio.current_time() + rest_s)
