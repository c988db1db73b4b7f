"""One blob's swarm as this node sees it: facts in, one decision out.

The rule, in the order in which `next_order` applies it:
  1. A client's own range comes before everything, in order.
  2. A chunk that a usable peer holds is asked of a peer, never of the hub, unless it must be our own read.
  3. A cold chunk is read from the hub by the node whose turn its run is (`turns`); the others wait for it under a lease
     with progress. An order to the hub ends before a chunk that a peer holds by now, or reads with the better right.
  4. A chunk whose order stands still is hedged: asked of a second source. What peers together bring more slowly than the
     hub would, or failed to bring, the hub is asked for as well, by turns.
To re-check when changing this: a chunk may never be asked twice without (4); nobody may wait for a node that is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from p2pmodel.content import Blob, ChunkMap, NodeId, chunk_count
from p2pmodel.limits import (
    CHUNK_BYTES,
    LEASE_S,
    RANGE_WAIT_S,
    RANGES_OF_HELD_BYTES_MAX,
    RUN_CHUNKS_MAX,
)
from p2pmodel.swarm.availability import Availability, PeerView
from p2pmodel.swarm.following import Following
from p2pmodel.swarm.ledger import Flight, Ledger
from p2pmodel.swarm.picker import first_run, peer_order_limit, rarest_run, window_from
from p2pmodel.swarm.rates import SLOW_AFTER_S, Rates
from p2pmodel.swarm.reads import Reads
from p2pmodel.swarm.reasons import HubReason
from p2pmodel.swarm.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from p2pmodel.swarm.standing import Standing

SourceName = str  # a peer's NodeId, or HUB
Run = tuple[int, int]  # first chunk, count
HUB: Final = "hub"
SOLO_CHUNKS: Final = 4  # of a small blob at a time, while nobody else wants it: few requests, and something left for who joins
CROSSING_S: Final = 1.0  # claims that far apart crossed on the way: a link's delay and a busy event loop's
COLD: Final = frozenset({HubReason.NO_PEERS, HubReason.NOBODY_HOLDS, HubReason.MY_TURN, HubReason.PASSED_ON})
HEDGE_S: Final = 3.0  # an order without a byte for so long is worth asking somebody else as well


class Swarm:
    """`held` and `own` are the store's live maps of the blob: what is here, and what of it we read from the hub ourselves.
    `met_at` is when this node will have met the others of its cluster."""

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
        met_at: float = 0.0,
    ) -> None:
        self.blob = blob
        self.chunks = chunk_count(blob.size)
        self.availability = Availability(self.chunks)
        self.ledger = Ledger(self.chunks)
        self._held = held
        self._standing = standing
        self._rates = rates
        self._rng = rng
        self._started_at = now
        self.reads = Reads(self.chunks, own)
        self.following = Following(blob.id, own_weight, self.availability, now=now, met_at=met_at)
        self._news_at = now  # when we last heard of any chunk of the blob
        self._unconfirmed = ChunkMap(self.chunks)
        self._refused: dict[SourceName, ChunkMap] = {}  # chunks that a source failed to give: not asked of it again
        self._failed = ChunkMap(self.chunks)  # a peer holds them and an order for them has failed
        self._own_weight = own_weight
        self._turns = Turns(blob.id, self.chunks, own_weight, rng)
        self.hub_rests_until = 0.0

    # Facts

    def confirming(self, chunks: ChunkMap) -> None:
        """Chunks of an earlier run that are being re-hashed: not asked of anybody meanwhile."""
        self._unconfirmed = chunks.copy()

    def confirmed(self, chunk: int) -> None:
        self._unconfirmed.discard(chunk)

    def joined(self, peer: NodeId, weight: str) -> None:
        self.availability.join(peer, weight)
        self._others_changed()

    def asked(self, peers: Iterable[NodeId], now: float) -> None:
        """They were asked what they hold and do."""
        self.following.asked(peers, now)

    def left(self, peer: NodeId) -> None:
        self.availability.leave(peer)
        self._others_changed()
        self._refused.pop(peer, None)

    def quiet(self, peer: NodeId, *, quiet: bool) -> None:
        """Nothing was heard of a peer for a while: what it holds, claims and wants does not count until it is heard again."""
        if (view := self.availability.peers.get(peer)) is not None:
            view.quiet = quiet
            self._others_changed()

    def has(self, peer: NodeId, chunks: ChunkMap, *, sealed: bool, wanted: bool, now: float) -> None:
        """A peer's whole chunk map."""
        if (view := self.availability.peers.get(peer)) is not None:
            self.following.answered(view, now)
            view.held, view.sealed, view.wanted, view.progress_at = chunks, sealed, wanted, now
            self._refused.pop(peer, None)
            self._others_changed()

    def got(self, peer: NodeId, chunks: Iterable[int], now: float) -> None:
        """A peer holds more chunks than before. Indices outside the blob raise IndexError: a protocol error of the peer."""
        if (view := self.availability.peers.get(peer)) is not None:
            for chunk in chunks:
                view.held.add(chunk)
                if chunk in self._refused.get(peer, ()):  # it had lost it, and has it again
                    self._refused[peer].discard(chunk)
                view.claims.discard(chunk)
            view.progress_at = self._news_at = now

    def gives(self, peer: NodeId, chunks: Iterable[int]) -> None:
        """A peer that holds all of it has begun to give these to somebody. Indices outside the blob raise IndexError."""
        if (view := self.availability.peers.get(peer)) is not None:
            for chunk in chunks:
                view.given.add(chunk)

    def wants(self, peer: NodeId, *, wanted: bool) -> None:
        if (view := self.availability.peers.get(peer)) is not None:
            view.wanted = wanted
            self._others_changed()

    def claims(self, peer: NodeId, runs: Iterable[Run], coming: Iterable[Run], firm: Iterable[Run], now: float) -> None:
        """A peer says what it is receiving, from the hub and from peers; what of the hub's it began a while ago is firm. Runs
        outside the blob raise IndexError. See `overtaken`."""
        if (view := self.availability.peers.get(peer)) is not None:
            view.claims, view.coming, view.firm = self._map_of(runs), self._map_of(coming), self._map_of(firm)
            view.progress_at = self._news_at = now

    def overtaken(self, now: float, by: NodeId | None = None) -> list[Flight]:
        """Our orders to the hub that are to be given up: their next chunk is held by a peer by now, or another node reads it
        as well and has the better right. By one peer that has told something, or by any."""
        to_hub = [flight for flight in self.ledger.flights.values() if flight.source == HUB and flight.reason in COLD]
        if not to_hub:
            return []
        rivals = self._usable(now) if by is None else [by] if by in self.availability.peers else []
        return [flight for flight in to_hub if self._is_overtaken(flight, rivals, now)]

    def _is_overtaken(self, flight: Flight, rivals: list[NodeId], now: float) -> bool:
        chunk = next(iter(flight.left), None)
        if chunk is None or chunk in self.reads.wanted or chunk in self.reads.disputed:
            return False
        return any(self._overtakes(peer, flight, chunk, now) for peer in rivals)

    def _overtakes(self, peer: NodeId, flight: Flight, chunk: int, now: float) -> bool:
        view = self.availability.peers[peer]
        if chunk in view.held and chunk not in self._failed and chunk not in self._refused.get(peer, ()):
            return True
        return chunk in view.claims and view.claims_hold(now) and self._gives_way(flight, chunk, view, now)

    def _gives_way(self, flight: Flight, chunk: int, view: PeerView, now: float) -> bool:
        """Two nodes read one chunk. An order of which others have long heard goes before a young one; else the line decides."""
        ours, theirs = now - flight.started_at > CROSSING_S, chunk in view.firm
        if ours != theirs:
            return theirs
        return view.weight != self._own_weight and self._turns.yields(chunk // self._turns.run_length, view.weight)

    def slept(self, seconds: float) -> None:
        """This node was stopped for so long: nobody else stood still meanwhile, though nothing was heard of them."""
        self._news_at += seconds
        self._turns.slept(seconds)
        for view in self.availability.peers.values():
            view.progress_at += seconds
        for flight in self.ledger.flights.values():
            flight.started_at += seconds
            flight.progress_at += seconds

    def hub_rests(self, until: float) -> None:
        """The hub did not answer, or asked for patience."""
        self.hub_rests_until = max(self.hub_rests_until, until)

    def hub_found(self) -> None:
        """There is a hub to ask after all."""
        self.hub_rests_until = 0.0

    # What is to be done

    @property
    def missing(self) -> ChunkMap:
        """Chunks that are not here, or not as our own read where only that will do."""
        return self._held.missing() | self.reads.missing

    @property
    def solo(self) -> bool:
        """Whether nobody else holds or wants any of it: the download is our own read of the hub from end to end."""
        return not any(view.held or view.wanted for view in self.availability.peers.values())

    def peers_will_do(self, waited_s: float, now: float) -> bool:
        """Whether a client that wants a small range, which our own read of the hub would bring at once, waits until peers have
        brought the whole file and it is proven. They hold all of it, and either that takes seconds and costs the hub nothing,
        or so many such ranges were read already that a client reads the file from end to end: it would all come from the hub.
        """
        missing = self._held.missing() - self._unconfirmed
        if missing - self._on_peers(now):
            return False
        if waited_s < 2 * RANGE_WAIT_S and len(missing) * CHUNK_BYTES <= RANGE_WAIT_S * self._rates.peer:
            return True
        read = self.reads.made
        return len(read) * CHUNK_BYTES >= RANGES_OF_HELD_BYTES_MAX

    def settled(self, now: float) -> bool:
        """Whether the peers had their chance to say what they hold and want."""
        return self.following.settled(now)

    def hopeless(self, now: float) -> bool:
        """Whether something is missing that nobody can give now: no usable peer holds or fetches it, the hub rests."""
        if now < self._started_at or not self.settled(now) or now >= self.hub_rests_until:
            return False
        if self.reads.distrusted - self.ledger.pending(HUB):
            return True
        lost = self._held.missing() - self._unconfirmed - self._on_peers(now) - self.ledger.pending()
        lost = lost - self.availability.claimed(now)
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

    def ready(self, sources: Iterable[SourceName], now: float) -> list[SourceName]:
        """Of these, those for which `next_order` may have something: most news give nobody anything to do, and deciding costs
        more than this. A source that is gone is among them."""
        ready: list[SourceName] = []
        wanted: ChunkMap | None = None
        for source in sources:
            if source == HUB:
                may = bool(self._own_reads()) or (bool(self.missing) and self._may_read_cold(now))
            elif source not in self.availability.peers:
                may = True
            else:
                wanted = self._wanted_of_peers(now) if wanted is None else wanted
                may = bool(wanted & self._offers(NodeId(source)))
            if may:
                ready.append(source)
        return ready

    def progress(self, flight: Flight, received: int, now: float) -> None:
        """So many more bytes came."""
        flight.progress_at = self._news_at = now
        flight.received += received

    def arrived(self, chunk: int, *, hub: bool) -> None:
        """A chunk was verified and written."""
        if hub:
            self.reads.came(chunk)
        self._failed.discard(chunk)
        self.ledger.arrived(chunk)
        self._turns.arrived(chunk)

    def ended(self, flight: Flight, now: float) -> None:
        """An order is over; what it still owed is open again."""
        self.ledger.end(flight)
        self._rates.observe(flight.received, now - flight.started_at, hub=flight.source == HUB)

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

    def own_claims(self, now: float) -> tuple[list[Run], list[Run], list[Run]]:
        """What we are receiving: runs from the hub, runs from peers, and which of the hub's are firm. While we read for a
        client who needs our own read of the hub, the rest of that range is coming too: it would be read twice if others began
        it."""
        from_hub = firm = self.ledger.pending(HUB)
        if from_hub:
            from_hub = from_hub | self.reads.missing
            firm = from_hub & (self.ledger.pending_since(HUB, now - CROSSING_S) | self.reads.wanted)
        return list(from_hub.runs()), list((self.ledger.pending() - from_hub).runs()), list(firm.runs())

    def wake_at(self, now: float) -> float:
        """When `next_order` may answer differently although nothing happened."""
        times = [
            self.following.settled_by,
            self.hub_rests_until,
            self.availability.next_lease_end(now),
            self.ledger.next_stall(now, HEDGE_S),
            self.ledger.next_stall(now, LEASE_S),
            self.ledger.next_age(now, SLOW_AFTER_S),
            self._news_at + HEDGE_S,
        ]
        times += self._turns.wake_times(self._news_at)
        return min((at for at in times if at is not None and at > now), default=now + LEASE_S)

    # Policy

    def _usable(self, now: float) -> list[NodeId]:
        peers = self.availability.peers.items()
        return [peer for peer, view in peers if not view.quiet and not self._standing.is_banned(peer, now)]

    def _offers(self, peer: NodeId) -> ChunkMap:
        """What a peer holds and has not failed to give."""
        held = self.availability.peers[peer].held
        refused = self._refused.get(peer)
        return held - refused if refused else held

    def _on_peers(self, now: float) -> ChunkMap:
        return ChunkMap.union(self.chunks, map(self._offers, self._usable(now)))

    def _open(self, now: float) -> ChunkMap:
        """Missing chunks that nobody was asked for, or whose order stands still."""
        return self.missing - self._unconfirmed - self.ledger.moving(now, HEDGE_S)

    def _wanted_of_peers(self, now: float) -> ChunkMap:
        """What a peer will do for."""
        wanted = self._held.missing()
        if not wanted:  # nearly always, for whoever has it all and finds out what of it was false
            return wanted
        wanted = wanted & self._open(now)
        # while the hub rests a peer's is all there is, and waits for the blob's own hash
        return wanted - self.reads.wanted if now >= self.hub_rests_until else wanted

    def _peer_run(self, peer: NodeId, now: float) -> Run | None:
        if not self._may_ask(peer, now):
            return None
        candidates = (self._wanted_of_peers(now) & self._offers(peer)) - self.ledger.pending(peer)
        if not candidates:
            return None
        limit = peer_order_limit(self.chunks, len(self._usable(now)))
        for wanted in self.reads.ranges:
            if urgent := candidates & wanted:
                return first_run(urgent, limit)
        candidates = candidates - self._soon_from_others(peer, now)
        candidates = (candidates - self.availability.peers[peer].given) or candidates
        window = window_from(self._held.missing(), limit * (len(self._rivals()) + 1))
        return rarest_run(candidates, self.availability.soon_held(), limit, window, self._rng)

    def _may_ask(self, peer: NodeId, now: float) -> bool:
        """Where there are many, fifty do not all ask the one that holds it: they are few steps from it."""
        view = self.availability.peers.get(peer)
        if view is None or view.quiet:
            return False
        return peer in self.following.peers or now - self._news_at >= HEDGE_S or self.reads.clients

    def _soon_from_others(self, giver: NodeId, now: float) -> ChunkMap:
        """What only one peer holds and is giving to another node already: asked of that one, when it has it."""
        others = [(peer, view) for peer, view in self.availability.peers.items() if peer != giver and not view.quiet]
        followed = [view for peer, view in others if peer in self.following.peers and now - view.progress_at < LEASE_S]
        soon = ChunkMap.union(self.chunks, (view.coming for view in followed))
        return soon - ChunkMap.union(self.chunks, (view.held for _, view in others)) if soon else soon

    def _hub_run(self, now: float, *, urgent: bool) -> tuple[tuple[int, int], HubReason] | None:
        """What to read from the hub, and why."""
        if now < self.hub_rests_until:
            return None
        if own := self._own_reads():
            run = first_run(own, max(self._turns.run_length, RUN_CHUNKS_MAX // 2))
            doubted = self.reads.distrusted | self.reads.disputed
            return run and (run, HubReason.DISTRUST if run[0] in doubted else HubReason.OWN_READ)
        if urgent or not self._may_read_cold(now):
            return None
        cold = self._open(now) - (self._on_peers(now) - self._failed) - self.ledger.pending(HUB)
        stalled = self.ledger.stalled(now, LEASE_S) & self.missing  # peers hold it and do not give it
        slow = self._too_slow(now)
        candidates = (cold | stalled | slow) - self.availability.claimed(now) - self.ledger.pending(HUB)
        mine = self._turns.mine(candidates, now)
        run = first_run(mine, max(self._turns.run_length, SOLO_CHUNKS if self.solo else 1), self.reads.first)
        if run is None or run[0] in cold:
            return run and (run, self._why_cold(run[0]))
        return run, HubReason.STALLED if run[0] in stalled else HubReason.SLOW

    def _own_reads(self) -> ChunkMap:
        """What only our own read will do for, and no order to the hub is under way for."""
        return self.reads.due - self.ledger.pending(HUB)

    def _may_read_cold(self, now: float) -> bool:
        """Whether one more order to the hub for what nobody holds would be ours to begin: asked at every claim of a reader."""
        if self._turns.leaves_alone(self._news_at, now) or not self.settled(now):
            return False
        return self._orders_to_hub() < self._turns.streams

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
        if not self._rivals():
            return HubReason.NOBODY_HOLDS
        return HubReason.PASSED_ON if self._turns.before(chunk // self._turns.run_length) else HubReason.MY_TURN

    def _orders_to_hub(self) -> int:
        return sum(flight.source == HUB for flight in self.ledger.flights.values())

    def _rivals(self) -> frozenset[str]:
        """The weights of the other nodes that want the blob."""
        return frozenset(view.weight for view in self.availability.peers.values() if view.wanted and not view.quiet)

    def _others_changed(self) -> None:
        self._turns.meet(self._rivals())
        self.following.choose(self._turns.readers)

    def _map_of(self, runs: Iterable[Run]) -> ChunkMap:
        return ChunkMap.union(self.chunks, (ChunkMap.span(self.chunks, range(first, first + count)) for first, count in runs))
