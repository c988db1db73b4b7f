"""One blob on its way in: lanes work orders of its sources until every chunk is here, then its own hash is checked and
it is sealed.

The nursery of `run` holds the lanes, the committer, and the task that hashes in order; leaving it ends them all. What was
held is kept and resumed by the next download.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from math import inf
from typing import Final

import trio

from p2pmodel.content import Attestation, ChunkMap, NodeId, Seal
from p2pmodel.delivery.arrival import Arrivals, ArrivalStatistics
from p2pmodel.delivery.audit import Audit
from p2pmodel.delivery.bells import Bells
from p2pmodel.delivery.court import Court
from p2pmodel.delivery.herald import Herald
from p2pmodel.delivery.lanes import Lanes
from p2pmodel.delivery.meter import Meter
from p2pmodel.delivery.pace import Urgency
from p2pmodel.delivery.ports import Location, StoredBlob, Surroundings
from p2pmodel.delivery.private import PrivateSharing
from p2pmodel.delivery.proving import Proving
from p2pmodel.delivery.vouching import Vouching
from p2pmodel.errors import (
    P2pmodelError,
    ShortAnswerError,
    StoreError,
    UnavailableError,
    WrongBytesError,
    first_error,
)
from p2pmodel.limits import CHUNK_BYTES, COMMIT_INTERVAL_S
from p2pmodel.swarm import HUB, Swarm
from p2pmodel.wire.messages import Attest, Claims, Have, Held, Interest, Message
from p2pmodel.wire.messages import Audit as AuditMessage
from p2pmodel.wire.packed import unpack_indices, unpack_runs

_FACTS_S: Final = 0.1  # they come in swarms, and what they set an alarm for is seconds away


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
        self._bells = Bells(lambda sources: self.swarm.ready(sources, trio.current_time()))
        self._sharing = sharing
        self._court = court
        self._followed: frozenset[NodeId] = frozenset()
        self._nursery: trio.Nursery | None = None
        self._started = False  # the sources are known
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
        self._lanes = Lanes(
            stored,
            self.swarm,
            self.arrivals,
            around,
            herald,
            self._bells,
            urgency=lambda: self.urgency,
            fail=self.fail,
        )
        self.vouching = Vouching(stored, self.trial, around, court, self._bells.tell)
        self.arrivals.vouched = self.vouching.covers
        self.proving = Proving(
            stored,
            self.swarm,
            self.trial,
            around,
            locations,
            client_waits=lambda: self.users[Urgency.CLIENT] > 0,
            change=self.change,
            changed=self._bells.tell,
        )

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
        return self.over or (self._started and self.swarm.settled(now) and self.vouching.settled and self.proving.settled)

    def wake(self) -> None:
        """Facts changed that concern everybody: whoever waits looks again."""
        self._bells.ring_all()

    async def change(self, until: float = inf) -> None:
        """Wait for a change of facts, at most until then."""
        await self._bells.change(until)

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
        nursery.start_soon(self._lanes.repeat_claims)
        if self.locations:
            self._lanes.open_to_hub(nursery, self._around.upstreams.source(self.locations))
        if self.vouching.on:
            nursery.start_soon(self.vouching.run)
        if self.proving.on:
            nursery.start_soon(self.proving.run)
        for peer in self._around.neighbours.linked():
            self.peer_linked(peer)
        self._started = True
        self.wake()

    def add_location(self, location: Location) -> None:
        """Another place on a hub where the same bytes lie (or another user's credential for it)."""
        if location in self.locations:
            return
        self.locations.append(location)
        if len(self.locations) == 1 and self._nursery is not None and self._started:  # until now nobody could be asked
            self.swarm.hub_found()
            self._lanes.open_to_hub(self._nursery, self._around.upstreams.source(self.locations))
            self.wake()

    def fail(self, error: P2pmodelError) -> None:
        self.failure = self.failure or error
        self.scope.cancel()

    async def _keep_time(self) -> None:
        """Wake the lanes when the swarm would decide otherwise although nothing happened; give up when it has no hope."""
        while True:
            now = trio.current_time()
            if not self.locations:
                self.swarm.hub_rests(inf)
            if self.swarm.hopeless(now):
                self.fail(self._why_hopeless())
            alarm = self.swarm.wake_at(now)
            await self._bells.change(alarm)
            await trio.sleep_until(min(alarm, trio.current_time() + _FACTS_S))
            if trio.current_time() >= alarm:
                self.wake()

    def _why_hopeless(self) -> P2pmodelError:
        failure = self._lanes.hub_failure
        if isinstance(failure, ShortAnswerError):  # one order's failure becomes everybody's
            return UnavailableError(
                f"The hub broke off and no peer holds the rest: {failure}.",
                next_step="What is here is kept; ask again when the hub answers.",
            )
        return failure or UnavailableError(f"No peer holds all of {self.blob.id} and no hub can be asked for it.")

    async def _confirm(self, claimed: ChunkMap) -> None:
        """What an earlier run's record says is believed once re-hashed (DESIGN §7)."""
        if lost := await self.trial.recall():
            await self._drop(lost)
        for chunk in claimed:
            if await self._around.blocking(self.stored.confirm, chunk) and self.trial.may_serve(chunk):
                self._herald.arrived(self.blob.id, chunk)
            self.swarm.confirmed(chunk)
            self.wake()

    # Durability

    async def _commit_now_and_then(self) -> None:
        while True:
            with trio.move_on_after(COMMIT_INTERVAL_S):
                await self.arrivals.many_uncommitted.wait()
            if self.arrivals.uncommitted:
                await self._commit()

    async def _commit(self) -> None:
        self.arrivals.commits()
        try:
            await self._around.blocking(self.stored.commit)
        except StoreError as error:
            self.fail(error)

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
            if not self.users and not self.vouching.owes_an_answer:
                return  # whoever wants it next finds out what was false
            self.arrivals.statistics.mismatches += 1
            self.vouching.failed()
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
        self.vouching.sealed(manifest)
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
        self._lanes.open_to_peer(self._nursery, peer)

    def peer_unlinked(self, peer: NodeId) -> None:
        self.swarm.left(peer)
        self.audit.joined(peer, 0)
        self.vouching.gone(peer)
        self.proving.gone(peer)
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
        self.vouching.gone(node)
        self.proving.gone(node)
        self._followed -= {node}
        lost = self.trial.banned(node) if self._court.convicted(node) else []
        if lost:
            self._herald.lost(self.blob.id, self._have)
        if lost and self._nursery is not None and not self._finishing and not self.audit.keeps(lost):
            self._nursery.start_soon(self._drop, lost)
        self._others_changed()

    def _have(self) -> Have:
        """What of it can be had here, before it is whole."""
        chunks = self.trial.servable().to_bytes()
        return Have(blob=self.blob.id.to_bytes(), size=self.blob.size, sealed=False, wanted=not self.over, chunks=chunks)

    async def _drop(self, chunks: list[int]) -> None:
        if self._finishing or self.stored.sealed:
            return  # what they were has been found right meanwhile
        await self._around.blocking(self.stored.drop, chunks)
        self.sealing.restart()
        self.wake()

    def _can_read(self) -> bool:
        return bool(self.locations) and trio.current_time() >= self.swarm.hub_rests_until

    def interest(self, *, on: bool, watch: bool = True) -> Interest:
        return Interest(blob=self.blob.id.to_bytes(), size=self.blob.size, on=on, watch=watch)

    def _others_changed(self) -> None:
        """Who is there, and who wants it: everything may be different."""
        followed = self.swarm.following.peers
        self.swarm.asked(followed - self._followed, trio.current_time())
        for peer in sorted(followed ^ self._followed):
            self._around.neighbours.send(peer, self.interest(on=True, watch=peer in followed))
        self._followed = followed
        self._lanes.give_way()
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
                self.swarm.gives(peer, unpack_indices(message.given))
                self.intake.count(peer, len(came) * CHUNK_BYTES, now)
                self._lanes.give_way(peer)
                self._bells.ring(peer)
            case Claims():
                runs, coming, firm = map(unpack_runs, (message.runs, message.coming, message.firm))
                self.swarm.claims(peer, runs, coming, firm, now)
                self._lanes.give_way(peer)
                self._bells.ring(HUB)

    def _told_all(self, peer: NodeId, message: Have, now: float) -> None:
        chunks = ChunkMap.from_bytes(self.swarm.chunks, message.chunks)
        self.swarm.has(peer, chunks, sealed=message.sealed, wanted=message.wanted, now=now)
        testimony = self.trial.testimony
        if message.sealed:
            self.proving.met(peer)
        if message.sealed and self.vouching.on:
            self.vouching.met(peer)
        elif message.sealed and testimony.followed is None and testimony.wants(peer) and self._nursery is not None:
            self._nursery.start_soon(testimony.ask, peer)
        self._others_changed()

    def _arrived(self) -> None:
        self._lanes.give_way()
        self._bells.tell()
