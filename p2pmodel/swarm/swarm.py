"""One blob's swarm as this node sees it: facts in, one decision out.

The rule, in the order in which `next_order` applies it:
  1. A client's own range comes before everything, in order.
  2. A chunk that a usable peer holds is asked of a peer, never of the hub, unless it must be our own read.
  3. A cold chunk is read from the hub by the node whose turn its run is (rendezvous among the nodes that want the blob);
     the others wait for it under a lease with progress.
  4. A chunk whose order stands still is hedged: asked of a second source. What peers together bring more slowly than the
     hub would, or failed to bring, the hub is asked for as well, by turns.
To re-check when changing this: a chunk may never be asked twice without (4); nobody may wait for a node that is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from p2pmodel.content import Blob, ChunkMap, NodeId, chunk_count
from p2pmodel.limits import LEASE_S, RUN_CHUNKS_MAX, SETTLE_S
from p2pmodel.swarm.availability import Availability, PeerView
from p2pmodel.swarm.ledger import Flight, Ledger
from p2pmodel.swarm.picker import UNCLAIMED_S, Turn, first_run, may_claim, peer_order_limit, rarest_run
from p2pmodel.swarm.rates import SLOW_AFTER_S, Rates
from p2pmodel.swarm.reasons import HubReason
from p2pmodel.swarm.rendezvous import run_length, run_owners

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from p2pmodel.swarm.standing import Standing

SourceName = str  # a peer's NodeId, or HUB
Run = tuple[int, int]  # first chunk, count
HUB: Final = "hub"
SOLO_CHUNKS: Final = 4  # of a small blob at a time, while nobody else wants it: few requests, and something left for who joins
CROSSING_S: Final = 1.0  # claims that far apart crossed on the way: a link's delay and a busy event loop's
HEDGE_S: Final = 3.0  # an order without a byte for so long is worth asking somebody else as well


class Swarm:
    """`held` and `own` are the store's live maps of the blob: what is here, and what of it we read from the hub ourselves."""

    def __init__(
        self,
        blob: Blob,
        *,
        held: ChunkMap,
        own: ChunkMap,
        own_weight: str,
        standing: Standing,
        rates: Rates,
        rng: Random,
        now: float,
    ) -> None:
        self.blob = blob
        self.chunks = chunk_count(blob.size)
        self.availability = Availability(self.chunks)
        self.ledger = Ledger(self.chunks)
        self._held = held
        self._own = own
        self._own_weight = own_weight
        self._standing = standing
        self._rates = rates
        self._rng = rng
        self._started_at = now
        self._unconfirmed = ChunkMap(self.chunks)
        self._own_wanted = ChunkMap(self.chunks)  # chunks that only our own read of the hub will do for
        self._from_hub = ChunkMap(self.chunks)  # in this download: a mirror's bytes do not get better by reading them twice
        self._readers: dict[int, range] = {}
        self.distrusted = ChunkMap(self.chunks)  # of those: because the blob's own hash was wrong
        self.disputed = ChunkMap(self.chunks)  # two signers differ over their digests: our own read of the hub settles it
        self._refused: dict[SourceName, ChunkMap] = {}  # chunks that a source failed to give: not asked of it again
        self._failed = ChunkMap(self.chunks)  # a peer holds them and an order for them has failed
        self._run_length = run_length(self.chunks)
        self._waiting_since: dict[int, float] = {}  # run → since when it is nobody's
        self._line_of: frozenset[str] = frozenset()
        self._places: dict[int, int] = {}  # run → our place in its line among `_line_of`
        self.hub_rests_until = 0.0

    # Facts

    def confirming(self, chunks: ChunkMap) -> None:
        """Chunks of an earlier run that are being re-hashed: not asked of anybody meanwhile."""
        self._unconfirmed = chunks.copy()

    def confirmed(self, chunk: int) -> None:
        self._unconfirmed.discard(chunk)

    def joined(self, peer: NodeId, weight: str) -> None:
        self.availability.join(peer, weight)

    def left(self, peer: NodeId) -> None:
        self.availability.leave(peer)
        self._refused.pop(peer, None)

    def has(self, peer: NodeId, chunks: ChunkMap, *, sealed: bool, wanted: bool, now: float) -> None:
        """A peer's whole chunk map."""
        if (view := self.availability.peers.get(peer)) is not None:
            view.held, view.sealed, view.wanted, view.answered, view.progress_at = chunks, sealed, wanted, True, now
            self._refused.pop(peer, None)

    def got(self, peer: NodeId, chunks: Iterable[int], now: float) -> None:
        """A peer holds more chunks than before. Indices outside the blob raise IndexError: a protocol error of the peer."""
        if (view := self.availability.peers.get(peer)) is not None:
            for chunk in chunks:
                view.held.add(chunk)
                if chunk in self._refused.get(peer, ()):  # it had lost it, and has it again
                    self._refused[peer].discard(chunk)
                view.claims.discard(chunk)
            view.progress_at = now

    def wants(self, peer: NodeId, *, wanted: bool) -> None:
        if (view := self.availability.peers.get(peer)) is not None:
            view.wanted = wanted

    def claims(self, peer: NodeId, runs: Iterable[Run], coming: Iterable[Run], now: float) -> list[Flight]:
        """A peer says what it is receiving, from the hub and from peers. Runs outside the blob raise IndexError. Returns our
        own orders to the hub that crossed with its claims and that are ours to give up."""
        if (view := self.availability.peers.get(peer)) is None:
            return []
        view.claims, view.coming, view.progress_at = self._map_of(runs), self._map_of(coming), now
        return [flight for flight in self.ledger.flights.values() if self._crossed(flight, view, now)]

    def _crossed(self, flight: Flight, view: PeerView, now: float) -> bool:
        """Two nodes began to read one run within a moment: the one that stands behind in its line gives up."""
        if flight.source != HUB or now - flight.started_at > CROSSING_S or not flight.left & view.claims:
            return False
        if flight.left & self._own_wanted:
            return False
        line = run_owners(self.blob.id, flight.first // self._run_length, {self._own_weight, view.weight})
        return line[0] == view.weight != self._own_weight

    def hub_rests(self, until: float) -> None:
        """The hub did not answer, or asked for patience."""
        self.hub_rests_until = max(self.hub_rests_until, until)

    def read_begins(self, reader: int, chunks: range, *, own: bool) -> None:
        """A client wants this range next. `own`: its bytes must be our own read of the hub (DESIGN §9.1)."""
        self._readers[reader] = chunks
        if own:
            self._own_wanted = self._own_wanted | (ChunkMap.span(self.chunks, chunks) - self._from_hub)

    def read_ends(self, reader: int) -> None:
        self._readers.pop(reader, None)
        if not self._readers:
            self._own_wanted = self.distrusted.copy()

    def distrust(self, chunks: ChunkMap) -> None:
        """The blob's own hash was wrong: these chunks, which came from others, are read again from the hub."""
        self.distrusted = self.distrusted | chunks
        self._own_wanted = self._own_wanted | chunks

    def trust_again(self) -> None:
        """What was to be read again need not be, but for what clients wait for."""
        unread = self.distrusted
        for wanted in self._readers.values():
            unread = unread - ChunkMap.span(self.chunks, wanted)
        self._own_wanted = self._own_wanted - unread
        self.distrusted = ChunkMap(self.chunks)

    # What is to be done

    @property
    def missing(self) -> ChunkMap:
        """Chunks that are not here, or not as our own read where only that will do."""
        return self._held.missing() | (self._own_wanted - self._own)

    @property
    def solo(self) -> bool:
        """Whether nobody else holds or wants any of it: the download is our own read of the hub from end to end."""
        return not any(view.held or view.wanted for view in self.availability.peers.values())

    def settled(self, now: float) -> bool:
        """Whether the peers had their chance to say what they hold and want."""
        return self.availability.settled or now - self._started_at >= SETTLE_S

    def hopeless(self, now: float) -> bool:
        """Whether something is missing that nobody can give now: no usable peer holds or fetches it, the hub rests."""
        if now < self._started_at or not self.settled(now) or now >= self.hub_rests_until:
            return False
        if self.distrusted - self.ledger.pending(HUB):
            return True
        lost = self._held.missing() - self._unconfirmed - self._on_peers(now) - self.ledger.pending()
        lost = lost - self.availability.claimed(now, LEASE_S)
        return bool(lost) and not any(view.wanted for view in self.availability.peers.values())

    def next_order(self, source: SourceName, now: float, *, urgent: bool = False) -> Flight | None:
        """What to ask of a source now; None: nothing at the moment (ask again when something changed, or at `wake_at`).
        `urgent`: of the hub only what a client waits for, so that no long order stands before it."""
        if self._standing.is_banned(source, now):
            return None
        if source == HUB:
            cold = self._hub_run(now, urgent=urgent)
            return None if cold is None else self.ledger.begin(HUB, *cold[0], now, cold[1])
        run = self._peer_run(NodeId(source), now)
        return None if run is None else self.ledger.begin(source, *run, now)

    def progress(self, flight: Flight, received: int, now: float) -> None:
        """So many more bytes came."""
        flight.progress_at = now
        flight.received += received

    def arrived(self, chunk: int, *, hub: bool) -> None:
        """A chunk was verified and written. What the hub gave is as much our own as it will get, mirror or not."""
        if hub:
            self._from_hub.add(chunk)
            self._own_wanted.discard(chunk)
            self.distrusted.discard(chunk)
            self.disputed.discard(chunk)
        self._failed.discard(chunk)
        self.ledger.arrived(chunk)
        self._waiting_since.pop(chunk // self._run_length, None)

    def ended(self, flight: Flight, now: float) -> None:
        """An order is over; what it still owed is open again."""
        self.ledger.end(flight)
        if flight.source == HUB:
            self._rates.observe_hub(flight.received, now - flight.started_at)

    def refuse(self, source: SourceName, chunk: int) -> None:
        """This source gave wrong bytes for a chunk, or has it no more: it is not asked for that one again."""
        refused = self._refused.setdefault(source, ChunkMap(self.chunks))
        refused.add(chunk)

    def failed(self, flight: Flight, *, for_good: bool) -> None:
        """A peer did not give the chunk that was next. `for_good`: it has it no more; else it may give it yet, but nobody
        need wait for that if the hub is there."""
        owed = next(iter(flight.left), None)
        if owed is not None and for_good:
            self.refuse(flight.source, owed)
        elif owed is not None:
            self._failed.add(owed)

    def own_claims(self) -> tuple[list[Run], list[Run]]:
        """What we are receiving: runs from the hub, and runs from peers. While we read for a client who needs our own read
        of the hub, the rest of that range is coming too: it would be read twice if others began it."""
        from_hub = self.ledger.pending(HUB)
        if from_hub:
            from_hub = from_hub | (self._own_wanted - self._own)
        return list(from_hub.runs()), list((self.ledger.pending() - from_hub).runs())

    def wake_at(self, now: float) -> float:
        """When `next_order` may answer differently although nothing happened."""
        times = [
            self._started_at + SETTLE_S,
            self.hub_rests_until,
            self.availability.next_lease_end(now, LEASE_S),
            self.ledger.next_stall(now, HEDGE_S),
            self.ledger.next_stall(now, LEASE_S),
            self.ledger.next_age(now, SLOW_AFTER_S),
        ]
        times += [since + step * UNCLAIMED_S for since in self._waiting_since.values() for step in (1, 2, 3)]
        return min((at for at in times if at is not None and at > now), default=now + LEASE_S)

    # Policy

    def _usable(self, now: float) -> list[NodeId]:
        return [peer for peer in self.availability.peers if not self._standing.is_banned(peer, now)]

    def _offers(self, peer: NodeId) -> ChunkMap:
        """What a peer holds and has not failed to give."""
        held = self.availability.peers[peer].held
        refused = self._refused.get(peer)
        return held - refused if refused else held

    def _on_peers(self, now: float) -> ChunkMap:
        union = ChunkMap(self.chunks)
        for peer in self._usable(now):
            union = union | self._offers(peer)
        return union

    def _open(self, now: float) -> ChunkMap:
        """Missing chunks that nobody was asked for, or whose order stands still."""
        pending = self.ledger.pending() - self.ledger.stalled(now, HEDGE_S)
        return self.missing - self._unconfirmed - pending

    def _peer_run(self, peer: NodeId, now: float) -> Run | None:
        if peer not in self.availability.peers:
            return None
        candidates = (self._open(now) & self._held.missing() & self._offers(peer)) - self.ledger.pending(peer)
        if now >= self.hub_rests_until:  # else a peer's is all there is, and waits for the blob's own hash
            candidates = candidates - self._own_wanted
        if not candidates:
            return None
        limit = peer_order_limit(self.chunks, len(self._usable(now)))
        for wanted in self._readers.values():
            if urgent := candidates & ChunkMap.span(self.chunks, wanted):
                return first_run(urgent, limit)
        return rarest_run(candidates, self.availability.soon_held(), limit, self._rng)

    def _hub_run(self, now: float, *, urgent: bool) -> tuple[tuple[int, int], HubReason] | None:
        """What to read from the hub, and why."""
        if now < self.hub_rests_until:
            return None
        own = ((self._own_wanted | self.disputed) - self._own) - self.ledger.pending(HUB)
        if own:
            run = first_run(own, max(self._run_length, RUN_CHUNKS_MAX // 2))
            return run and (run, HubReason.DISTRUST if run[0] in self.distrusted | self.disputed else HubReason.OWN_READ)
        if urgent or not self.settled(now):
            return None
        cold = self._open(now) - (self._on_peers(now) - self._failed) - self.ledger.pending(HUB)
        stalled = self.ledger.stalled(now, LEASE_S) & self.missing  # peers hold it and do not give it
        slow = self._too_slow(now)
        candidates = (cold | stalled | slow) - self.availability.claimed(now, LEASE_S) - self.ledger.pending(HUB)
        mine = self._my_turn(candidates, now)
        after = min((wanted.start for wanted in self._readers.values()), default=0)
        run = first_run(mine, max(self._run_length, SOLO_CHUNKS if self.solo else 1), after)
        if run is None or run[0] in cold:
            return run and (run, self._why_cold(run[0]))
        return run, HubReason.STALLED if run[0] in stalled else HubReason.SLOW

    def _too_slow(self, now: float) -> ChunkMap:
        """What peers hold, if they bring it more slowly than the hub would: first what they were not asked for."""
        to_peers = [flight for flight in self.ledger.flights.values() if flight.source != HUB]
        if not self._rates.slower_than_hub(to_peers, now):
            return ChunkMap(self.chunks)
        return self._open(now) or (self.missing - self._unconfirmed)

    def _why_cold(self, chunk: int) -> HubReason:
        views = self.availability.peers.values()
        if not views:
            return HubReason.NO_PEERS
        if any(chunk in view.held for view in views):
            return HubReason.REFUSED
        weights = self._rivals()
        if not weights:
            return HubReason.NOBODY_HOLDS
        return HubReason.PASSED_ON if self._before(chunk // self._run_length, weights) else HubReason.MY_TURN

    def _rivals(self) -> frozenset[str]:
        """The weights of the other nodes that want the blob."""
        return frozenset(view.weight for view in self.availability.peers.values() if view.wanted)

    def _before(self, run: int, weights: frozenset[str]) -> int:
        """How many nodes stand before this one in a run's line. Remembered: a large blob has thousands of runs, and every
        chunk that comes makes the lanes look again."""
        if weights != self._line_of:
            self._line_of, self._places = weights, {}
        if run not in self._places:
            self._places[run] = run_owners(self.blob.id, run, {self._own_weight, *weights}).index(self._own_weight)
        return self._places[run]

    def _my_turn(self, candidates: ChunkMap, now: float) -> ChunkMap:
        """The candidates in runs that this node may claim now: its own, else one that nobody before it in line has taken for
        a while; drawn by lot, so that two nodes that have nothing left to do do not take the same one."""
        weights = self._rivals()
        if not candidates or not weights:
            return candidates
        runs = sorted({chunk // self._run_length for chunk in candidates})
        self._waiting_since = {run: self._waiting_since.get(run, now) for run in runs}
        turns = {run: Turn(self._before(run, weights), self._waiting_since[run]) for run in runs}
        own = [run for run, turn in turns.items() if turn.before == 0]
        left_over = [run for run, turn in turns.items() if may_claim(turn, now)]
        mine = ChunkMap(self.chunks)
        for run in own or ([self._rng.choice(left_over)] if left_over else []):
            stop = min((run + 1) * self._run_length, self.chunks)
            mine = mine | ChunkMap.span(self.chunks, range(run * self._run_length, stop))
        return mine & candidates

    def _map_of(self, runs: Iterable[Run]) -> ChunkMap:
        union = ChunkMap(self.chunks)
        for first, count in runs:
            union = union | ChunkMap.span(self.chunks, range(first, first + count))
        return union
