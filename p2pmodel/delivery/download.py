"""One blob on its way in: lanes work orders of its sources until every chunk is here, then its own hash is checked and
it is sealed.

The nursery of `run` holds a lane per source, the committer, and the task that hashes in order; leaving it ends them all.
What was held is kept and resumed by the next download. Readers and the sealing task meet at one condition, `change`. A lane
that finds nothing to do sleeps until its own bell rings: with fifty peers a chunk is told fifty times, and if each time
every lane looked whether there is something for it, that would be most of what a node does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Final

import trio

from p2pmodel.content import Attestation, ChunkMap, NodeId, Seal
from p2pmodel.delivery.arrival import Arrivals, ArrivalStatistics, FlightSink
from p2pmodel.delivery.audit import Audit
from p2pmodel.delivery.court import Court
from p2pmodel.delivery.herald import Herald
from p2pmodel.delivery.meter import Meter
from p2pmodel.delivery.pace import Turn, Urgency
from p2pmodel.delivery.ports import Location, Order, Source, StoredBlob, Surroundings
from p2pmodel.delivery.private import PrivateSharing
from p2pmodel.errors import (
    NotHeldError,
    P2pmodelError,
    RateLimitedError,
    ShortAnswerError,
    SourceBusyError,
    StoreError,
    UnavailableError,
    WrongBytesError,
    first_error,
)
from p2pmodel.limits import CHUNK_BYTES, CLAIM_REPEAT_S, COMMIT_CHUNKS, COMMIT_INTERVAL_S, MIB
from p2pmodel.swarm import HUB, HUB_STREAMS, Flight, SourceName, Swarm
from p2pmodel.wire.messages import Attest, Claims, Have, Held, Interest, Message, unpack_indices, unpack_runs
from p2pmodel.wire.messages import Audit as AuditMessage

PEER_LANES: Final = 2  # of a fast peer: while one chunk is written the next comes in
_FAST: Final = 200 * MIB  # bytes/s of one lane; below, a second one would only make each chunk take longer
_SMALL_BLOB_BYTES: Final = 64 * MIB  # up to here one connection will do
PAUSE_MIN_S: Final = 0.5  # after a failed order a lane pauses, doubling, so that the others get the chunk
PAUSE_MAX_S: Final = 10.0
HUB_REST_S: Final = 5.0  # a hub that did not answer is left alone for so long


class Download:
    def __init__(
        self,
        stored: StoredBlob,
        around: Surroundings,
        herald: Herald,
        court: Court,
        locations: list[Location],
        statistics: ArrivalStatistics,
        sharing: PrivateSharing,
    ) -> None:
        self.stored = stored
        self.blob = stored.blob
        self.locations = locations
        self.failure: P2pmodelError | None = None
        self.users: Counter[Urgency] = Counter()
        self.scope = trio.CancelScope()
        self.intake = Meter()  # what comes to peers, as they tell
        self._around = around
        self._herald = herald
        self._sharing = sharing
        self._court = court
        self._changed = trio.Event()
        self._bells: dict[SourceName, trio.Event] = {}  # of lanes with nothing to do
        self._followed: frozenset[NodeId] = frozenset()
        self._nursery: trio.Nursery | None = None
        self._started = False  # the sources are known
        self._hub_failure: P2pmodelError | None = None
        self._scopes: dict[int, trio.CancelScope] = {}  # of orders in flight, by number
        self._lanes: Counter[NodeId] = Counter()
        self._finishing = False
        self.swarm = Swarm(
            self.blob,
            held=stored.held,
            own=stored.own,
            own_weight=around.neighbours.own_weight(),
            standing=around.standing,
            rates=around.rates,
            rng=around.rng,
            now=trio.current_time(),
            met_at=around.neighbours.met_at(),
        )
        self.arrivals = Arrivals(stored, self.swarm, around, herald, statistics, court, self._arrived)
        self.trial = self.arrivals.trial
        self.trial.can_read, self.trial.changed = self._can_read, self.wake
        self.audit = Audit(stored, self.swarm, self.trial, around, court, self.change)
        self.sealing = self.arrivals.sealing

    # For those who wait

    @property
    def over(self) -> bool:
        return self.stored.sealed or self.failure is not None

    @property
    def urgency(self) -> Urgency:
        """The highest among its users'."""
        return min((urgency for urgency, users in self.users.items() if users), default=Urgency.FETCH)

    def settled(self, now: float) -> bool:
        """Whether it is known what the peers hold and want."""
        return self.over or (self._started and self.swarm.settled(now))

    def may_leave(self, chunk: int) -> bool:
        """Whether a client may get this chunk's bytes now."""
        return self.stored.sealed or chunk in self.stored.own

    def wake(self) -> None:
        """Facts changed that concern everybody: whoever waits looks again."""
        self._ring(*self._bells)
        self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _ring(self, *sources: SourceName) -> None:
        for source in sources:
            if source in self._bells:
                self._bells.pop(source).set()

    async def change(self, until: float = inf) -> None:
        """Wait for a change of facts, at most until then."""
        with trio.move_on_at(until):
            await self._changed.wait()

    # The task

    async def run(self) -> None:
        """Returns when the blob is sealed, `failure` says why not, or `scope` was cancelled."""
        try:
            with self.scope:
                if not self.stored.sealed:
                    await self._bring()
        except* P2pmodelError as group:
            self.failure = self.failure or first_error(group)
        finally:
            with trio.CancelScope(shield=True):
                if self.arrivals.uncommitted and not self.stored.sealed:
                    await self._commit()
            if not self.stored.sealed:
                self.failure = self.failure or UnavailableError(f"The download of {self.blob.id} was given up.")
            self.wake()

    async def _bring(self) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                if self.stored.private:
                    await nursery.start(self._sharing.join, self)
                self._start(nursery)
                await self._seal()
            finally:
                self._nursery = None
                nursery.cancel_scope.cancel()

    def _start(self, nursery: trio.Nursery) -> None:
        claimed = self.stored.claimed.copy()
        self.swarm.confirming(claimed)  # at once: a lane that starts first would ask the hub for them
        nursery.start_soon(self._confirm, claimed)
        nursery.start_soon(self._commit_now_and_then)
        nursery.start_soon(self._keep_time)
        nursery.start_soon(self._repeat_claims)
        if self.locations:
            source = self._around.upstreams.source(self.locations)
            for _ in range(HUB_STREAMS if self.blob.size > _SMALL_BLOB_BYTES else 1):
                nursery.start_soon(self._lane, HUB, lambda: source)
            nursery.start_soon(partial(self._lane, HUB, lambda: source, urgent=True))
        for peer in self._around.neighbours.linked():
            self.peer_linked(peer)
        self._started = True
        self.wake()

    def add_location(self, location: Location) -> None:
        """Another place on a hub where the same bytes lie (or another user's credential for it)."""
        if location not in self.locations:
            self.locations.append(location)

    async def _peer_lane(self, peer: NodeId) -> None:
        """A peer whose link breaks and comes back at once finds its lanes still there, and gets no more."""
        self._lanes[peer] += 1
        try:
            await self._lane(peer, lambda: self._around.neighbours.source(peer))
        finally:
            self._lanes[peer] -= 1

    async def _lane(self, name: SourceName, source: Callable[[], Source], *, urgent: bool = False) -> None:
        """Work orders of one source for as long as it is linked."""
        pause = PAUSE_MIN_S
        pace = self._around.hub_pace if name == HUB else self._around.peer_pace
        while name == HUB or name in self.swarm.availability.peers:
            turn = pace.turn(lambda: self.urgency)
            await turn.take(0)  # an order that our own limit would hold back only keeps its chunks from others
            flight = self.swarm.next_order(name, trio.current_time(), urgent=urgent)
            if flight is None:
                await self._bells.setdefault(name, trio.Event()).wait()
            elif await self._work(flight, source(), turn):
                pause = PAUSE_MIN_S
            else:
                await trio.sleep(pause * self._around.rng.uniform(0.8, 1.2))
                pause = min(2 * pause, PAUSE_MAX_S)

    async def _work(self, flight: Flight, source: Source, turn: Turn) -> bool:
        """One order; false when the source failed and should pause."""
        hub = flight.source == HUB
        self._tell_claims(hub=hub)
        self._change()  # it will have to be looked after
        order = Order(self.blob, flight.first, flight.count, private=self.stored.private)
        sink = FlightSink(self.arrivals, self._around, flight, turn)
        scope = self._scopes[flight.number] = trio.CancelScope()
        try:
            with scope, sink.recorded():
                await source.fetch(order, sink)
        except WrongBytesError:
            return True  # the chunk is refused there; the source's standing says whether it is asked for others
        except NotHeldError:
            self.swarm.failed(flight, for_good=True)
            return True
        except StoreError as error:
            self._fail(error)
        except P2pmodelError as error:
            if hub:
                self._hub_failed(error)
            elif not isinstance(error, SourceBusyError):
                self.swarm.failed(flight, for_good=False)
        else:
            if not hub:
                self._add_lane_if_fast(flight)
            return True
        finally:
            del self._scopes[flight.number]
            self.swarm.ended(flight, trio.current_time())
            self._tell_claims(hub=hub)
            if flight.left:
                self.wake()
        return False

    def _add_lane_if_fast(self, flight: Flight) -> None:
        peer = NodeId(flight.source)
        fast = flight.received >= _FAST * (trio.current_time() - flight.started_at)
        if fast and self._lanes[peer] < PEER_LANES and self._nursery is not None:
            self._nursery.start_soon(self._peer_lane, peer)

    def _tell_claims(self, *, hub: bool) -> None:
        if hub:
            self._herald.claims(self.swarm)
        else:
            self._herald.ordered(self.swarm)

    async def _repeat_claims(self) -> None:
        """A chunk may take longer than a lease on a slow uplink: while bytes flow, our claims are renewed."""
        while True:
            then = trio.current_time()
            await trio.sleep(CLAIM_REPEAT_S)
            if self.swarm.ledger.progressed_since(HUB, then):
                self._herald.claims(self.swarm)

    def _hub_failed(self, error: P2pmodelError) -> None:
        rest_s = error.retry_after_s if isinstance(error, RateLimitedError) else HUB_REST_S
        self._hub_failure = error
        self.swarm.hub_rests(trio.current_time() + rest_s)

    def _fail(self, error: P2pmodelError) -> None:
        self.failure = self.failure or error
        self.scope.cancel()

    async def _keep_time(self) -> None:
        """Wake the lanes when the swarm would decide otherwise although nothing happened; give up when it has no hope."""
        while True:
            now = trio.current_time()
            if not self.locations:
                self.swarm.hub_rests(inf)
            if self.swarm.hopeless(now):
                self._fail(self._why_hopeless())
            with trio.move_on_at(self.swarm.wake_at(now)) as alarm:
                await self._changed.wait()
            if alarm.cancelled_caught:
                self.wake()

    def _why_hopeless(self) -> P2pmodelError:
        if isinstance(self._hub_failure, ShortAnswerError):  # one order's failure becomes everybody's
            return UnavailableError(
                f"The hub broke off and no peer holds the rest: {self._hub_failure}.",
                next_step="What is here is kept; ask again when the hub answers.",
            )
        return self._hub_failure or UnavailableError(f"No peer holds all of {self.blob.id} and no hub can be asked for it.")

    async def _confirm(self, claimed: ChunkMap) -> None:
        """What an earlier run's record says is believed once re-hashed (DESIGN §7)."""
        for chunk in claimed:
            if await self._around.blocking(self.stored.confirm, chunk) and self.trial.may_serve(chunk):
                self._herald.arrived(self.blob.id, chunk)
            self.swarm.confirmed(chunk)
            self.wake()

    # Durability

    async def _commit_now_and_then(self) -> None:
        while True:
            deadline = trio.current_time() + COMMIT_INTERVAL_S
            while self.arrivals.uncommitted < COMMIT_CHUNKS and trio.current_time() < deadline:
                await self.change(until=deadline)
            if self.arrivals.uncommitted:
                await self._commit()

    async def _commit(self) -> None:
        self.arrivals.uncommitted = 0
        try:
            await self._around.blocking(self.stored.commit)
        except StoreError as error:
            self._fail(error)

    # Sealing

    async def _seal(self) -> None:
        """Hash in order until the end; when the hash is the blob's name, seal it, else find out what was false."""
        while True:
            await self._hash_the_rest()
            if self.sealing.right:
                if await self._finish():
                    self._announce_sealed()
                    return
                self.sealing.restart()
                continue
            if not self.users:
                return  # whoever wants it next finds out what was false
            self.arrivals.statistics.mismatches += 1
            await self.audit.settle(self.locations, self.sealing.manifest())
            self.wake()
            self.sealing.restart()

    async def _finish(self) -> bool:
        """Seal what was hashed. False if a chunk has been replaced since: the seal speaks for bytes, not for a file."""
        manifest = self.sealing.manifest()
        seal = Seal.sign(manifest, self._around.key)
        self._finishing = True  # nothing of it is dropped on anybody's account any more
        try:
            await self._around.blocking(partial(self.stored.finish, self.sealing.alias, seal))
        except WrongBytesError:
            return False
        finally:
            self._finishing = False
        self.trial.sealed(manifest)
        return True

    async def _hash_the_rest(self) -> None:
        while not (self.sealing.complete and self.stored.held.complete):
            position = self.sealing.position
            if position in self.stored.held and self.sealing.takes(position):
                generation, digest = self.sealing.generation, self.stored.digest(position) or b""
                async with self._around.buffers.take() as buffer:
                    try:
                        await self._around.blocking(self.sealing.read_and_update, generation, self.stored, position, buffer)
                    except BaseException:
                        self.sealing.given_up(generation)
                        raise
                self.sealing.done(generation, digest)
            else:
                await self.change()

    def _announce_sealed(self) -> None:
        full = ChunkMap.full(self.swarm.chunks).to_bytes()
        message = Have(blob=self.blob.id.to_bytes(), size=self.blob.size, sealed=True, wanted=False, chunks=full)
        self._herald.complete(self.blob.id, message)

    # Peers

    def may_join(self, peer: NodeId) -> bool:
        return not self._court.banned(peer) and (not self.stored.private or self._sharing.admits(peer, self.blob.id))

    def peer_linked(self, peer: NodeId) -> None:
        if not self.may_join(peer) or self._nursery is None or peer in self.swarm.availability.peers:
            return
        self.swarm.joined(peer, self._around.neighbours.weight(peer))
        self.swarm.asked([peer], trio.current_time())
        self._followed |= {peer}
        self._around.neighbours.send(peer, self.interest(on=True))
        if not self._lanes[peer]:
            self._nursery.start_soon(self._peer_lane, peer)

    def peer_unlinked(self, peer: NodeId) -> None:
        self.swarm.left(peer)
        self.audit.joined(peer, 0)
        self._followed -= {peer}
        self._others_changed()

    def peer_quiet(self, peer: NodeId, *, quiet: bool) -> None:
        self.swarm.quiet(peer, quiet=quiet)
        self._others_changed()

    def banned(self, node: NodeId) -> None:
        """It is left out from now on, and what rests on its word alone is fetched again."""
        if node in self.swarm.availability.peers:
            self._around.neighbours.send(node, self.interest(on=False))
        self.swarm.left(node)
        self._followed -= {node}
        lost = self.trial.banned(node) if self._court.convicted(node) else []
        if lost and self._nursery is not None and not self._finishing:
            self._nursery.start_soon(self._drop, lost)
        self._others_changed()

    async def _drop(self, chunks: list[int]) -> None:
        await self._around.blocking(self.stored.drop, chunks)
        self.sealing.restart()
        self.wake()

    def _can_read(self) -> bool:
        return bool(self.locations) and trio.current_time() >= self.swarm.hub_rests_until

    def interest(self, *, on: bool, watch: bool = True) -> Interest:
        return Interest(blob=self.blob.id.to_bytes(), size=self.blob.size, on=on, watch=watch)

    def _others_changed(self) -> None:
        """Who is there, and who wants it: everything may be different."""
        followed = self.swarm.followed
        self.swarm.asked(followed - self._followed, trio.current_time())
        for peer in sorted(followed ^ self._followed):
            self._around.neighbours.send(peer, self.interest(on=True, watch=peer in followed))
        self._followed = followed
        self._give_way()
        self.wake()

    def told(self, peer: NodeId, message: Message) -> None:
        """What a peer says of this blob. Raises ValueError or IndexError for what cannot be true."""
        now = trio.current_time()
        match message:
            case Interest():
                self.swarm.wants(peer, wanted=message.on)
                self._others_changed()
            case Have() if message.size == self.blob.size:
                self._told_all(peer, message, now)
            case Attest() if message.size == self.blob.size:
                self.audit.heard(self.trial.heard(Attestation.take_all(message.words)))
                self.wake()
            case AuditMessage():
                self.audit.joined(peer, message.round)
                self.wake()
            case Held():
                came = unpack_indices(message.chunks)
                self.swarm.got(peer, came, now)
                self.intake.count(peer, len(came) * CHUNK_BYTES, now)
                self._give_way()
                self._ring(peer)
            case Claims():
                runs, coming, firm = map(unpack_runs, (message.runs, message.coming, message.firm))
                self.swarm.claims(peer, runs, coming, firm, now)
                self._give_way()
                self._ring(HUB)

    def _told_all(self, peer: NodeId, message: Have, now: float) -> None:
        chunks = ChunkMap.from_bytes(self.swarm.chunks, message.chunks)
        self.swarm.has(peer, chunks, sealed=message.sealed, wanted=message.wanted, now=now)
        testimony = self.trial.testimony
        if message.sealed and testimony.followed is None and testimony.wants(peer) and self._nursery is not None:
            self._nursery.start_soon(testimony.ask, peer)
        self._others_changed()

    def _arrived(self) -> None:
        self._give_way()
        self._change()

    def _give_way(self) -> None:
        for flight in self.swarm.overtaken(trio.current_time()):
            self._scopes[flight.number].cancel()
