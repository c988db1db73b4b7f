"""What is done when a complete blob's own hash is wrong: find the false chunks and their signers, at the least cost to the hub.

In this order (protocol/attestations.md), each time the hash has failed:
  1. What is on our disk is hashed again: damaged chunks are fetched again, and nobody is blamed.
  2. The hub is asked again whether the file still is what it said.
  3. A peer that has sealed the blob has other digests for some chunks: those are fetched again, as it says. The blob's own
     hash will tell whether it was right, and if it was, then who was not.
  4. The nodes whose hash failed audit together: each chunk is read again by another than its signer, who signs what came.
     Where the two differ our own read of that chunk settles who lied. As soon as something was replaced, the hash is tried.
  5. Whatever is left, or if nobody else is there: all that we did not read from the hub ourselves is read from it, by each of
     several in another order, until one of them has found what is false.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Final

import structlog
import trio

from p2pmodel.content import Attestation, ChunkMap, Manifest, NodeId
from p2pmodel.delivery.court import ATTEST, Court, pack_words
from p2pmodel.delivery.ports import Location, StoredBlob, Surroundings
from p2pmodel.delivery.trial import Trial
from p2pmodel.errors import P2pmodelError, WrongAnswerError, WrongBytesError
from p2pmodel.limits import (
    ARBITERS,
    ARBITERS_STEP_S,
    ARBITERS_WAIT_MAX_S,
    AUDIT_GATHER_S,
    AUDIT_ROUNDS_MAX,
    AUDIT_WORDS_MAX,
    LEASE_S,
)
from p2pmodel.swarm import HUB_STREAMS, Swarm, run_length, run_owners
from p2pmodel.wire.messages import Audit as AuditMessage
from p2pmodel.wire.messages import Message

_LOOK_S: Final = 0.05  # between two looks at what has come: words come in swarms
_SOLO_MAX: Final = 1  # so often all is read once more although we read it all ourselves; then the hub contradicts itself

log = structlog.get_logger()


class Audit:
    """Of one download. `change` waits for a change of facts, until a time."""

    def __init__(
        self,
        stored: StoredBlob,
        swarm: Swarm,
        trial: Trial,
        around: Surroundings,
        court: Court,
        change: Callable[[float], Awaitable[None]],
    ) -> None:
        self._stored = stored
        self._swarm = swarm
        self._trial = trial
        self._around = around
        self._court = court
        self._change = change
        self._members: dict[NodeId, None] = {}  # the others whose hash failed
        self._failing: set[NodeId] = set()  # those that ever said so
        self._followed: set[NodeId] = set()  # sealers whose word was tried
        self._found: dict[NodeId, ChunkMap] = {}  # in this round: who found what as it is here
        self._mine = ChunkMap(swarm.chunks)  # in this round: read by us, and not told yet
        self._round = 0
        self._read_all = False
        self._solo = 0
        self._hub_asked = False
        self._settling = False
        self._doubtful: set[int] = set()  # on the word of one that was banned since
        self._failed: Manifest | None = None  # what was hashed the last time
        self._lined_up: tuple[str, set[str]] = ("", set())
        self._lines: dict[int, list[NodeId]] = {}  # run → the order in which its auditors are called upon

    # What others say

    def joined(self, peer: NodeId, audit_round: int) -> None:
        if audit_round:
            self._members[peer] = None
            self._failing.add(peer)
        else:
            self._members.pop(peer, None)

    def heard(self, words: list[Attestation]) -> None:
        """Words that count. A chunk is cleared by those who are called upon for it: who speaks uncalled may cover another."""
        for word in words:
            found = self._found.setdefault(word.node, ChunkMap(self._swarm.chunks))
            for index in word.chunks:
                if index in self._stored.held and word.digest(index) == self._stored.digest(index):
                    found.add(index)

    # The order of things

    async def settle(self, locations: list[Location], hashed: Manifest) -> None:
        """The hash of these chunks is wrong. Returns when it is worth trying again. Raises WrongBytesError when the hub
        contradicts itself."""
        log.warning("blob_hash_wrong", blob=str(self._stored.blob.id))
        self._settling = True
        try:
            await self._settle(locations, hashed)
        finally:
            self._settling = False

    def keeps(self, chunks: list[int]) -> bool:
        """What rests on a banned node's word stays until the hash was tried with what has been replaced: it may have lied of
        no more than that, and the first of us who has the whole right spares all others their reads."""
        self._doubtful |= set(chunks) if self._settling else set()
        return self._settling

    async def _settle(self, locations: list[Location], hashed: Manifest) -> None:
        if await self._drop_doubtful() or await self._repair() or self._changed_since(hashed):
            return
        self._doubt_sealers(hashed)
        if await self._ask_hub(locations) or await self._follow_a_seal():
            return
        while self._round < AUDIT_ROUNDS_MAX and not self._trial.mirror_only and self._suspects():
            self._round += 1
            self._found = {}
            partners = await self._gathered()
            if self._changed_since(hashed):
                return
            if not partners and await self._new_seal():
                return
            if not partners:
                break
            if await self._audit():
                return
        self._tell(self._audit_of(0))
        await self._alone()

    def _changed_since(self, hashed: Manifest) -> bool:
        """Whether a chunk was replaced, or dropped, since it was hashed."""
        return any(self._stored.digest(index) != hashed.digest(index) for index in range(self._swarm.chunks))

    def _doubt_sealers(self, hashed: Manifest) -> None:
        """Who sealed the very bytes whose hash is wrong, and was wrong when we hashed them before, is proven false."""
        if self._failed == hashed:
            for node in self._trial.testimony.sealers_of(hashed):
                self._court.convict_sealer(node)
        self._failed = hashed

    async def _drop_doubtful(self) -> bool:
        held = self._stored.held
        doubtful = [chunk for chunk in self._doubtful if chunk in held and not self._stored.grade(chunk).proves]
        self._doubtful.clear()
        if doubtful:
            await self._around.blocking(self._stored.drop, doubtful)
        return bool(doubtful)

    async def _repair(self) -> bool:
        """Whether our own disk was at fault."""
        held = self._stored.held.copy()
        return bool([chunk for chunk in held if not await self._around.blocking(self._stored.confirm, chunk)])

    async def _ask_hub(self, locations: list[Location]) -> bool:
        """Raises WrongAnswerError if the hub names another content now."""
        if self._hub_asked or not locations:
            return False
        self._hub_asked = True
        place = locations[0]
        try:
            snapshot = await self._around.upstreams.snapshot(place.repo, place.commit, place.access)
        except P2pmodelError:
            return False  # then it is taken at its first word
        entry, ours = snapshot.entry(place.path), self._stored.blob
        if entry is None or (entry.blob and entry.blob.id.algorithm == ours.id.algorithm and entry.blob != ours):
            raise WrongAnswerError(f"The hub names another content for {place.path!r} than it did before.")
        return False

    async def _follow_a_seal(self) -> bool:
        """Whether a sealed peer's word is tried for what differs."""
        testimony = self._trial.testimony
        for peer, view in list(self._swarm.availability.peers.items()):
            if view.sealed and testimony.wants(peer):
                await testimony.ask(peer)
        for node in testimony.sealers():
            other = testimony.differences(node, [self._stored.digest(index) for index in range(self._swarm.chunks)])
            if any(self._stored.grade(index).proves for index in other):
                self._court.convict_sealer(node)  # the hub told us otherwise
            elif other and node not in self._followed:
                self._followed.add(node)
                testimony.follow(node)
                self._trial.tries_a_seal = True
                await self._around.blocking(self._stored.drop, other)
                return True
        testimony.follow(None)
        self._trial.tries_a_seal = False
        return False

    def _suspects(self) -> ChunkMap:
        """What we did not read from the hub ourselves."""
        held = self._stored.held
        return ChunkMap(held.count, [index for index in held if not self._stored.grade(index).proves])

    # Together

    async def _gathered(self) -> bool:
        """Whether others whose hash failed are there."""
        self._tell(self._audit_of(self._round))
        began = trio.current_time()
        while trio.current_time() < (end := self._gathers_until(began)):
            await self._change(end)
        return bool(self._partners())

    def _gathers_until(self, began: float) -> float:
        """Who is the first to have it all waits for those who are about to: they will audit with us, or seal what is right."""
        peers, now = self._swarm.availability.peers.values(), trio.current_time()
        if self._everybody_joined():
            return began
        coming = any(view.wanted and not view.sealed and now - view.progress_at < LEASE_S for view in peers)
        alone = not self._partners() and not self._seal_to_ask_for()
        return began + (LEASE_S if alone and coming else AUDIT_GATHER_S)

    def _everybody_joined(self) -> bool:
        wanting = {peer for peer, view in self._swarm.availability.peers.items() if view.wanted and not view.sealed}
        return bool(self._members) and wanting <= set(self._members)

    def _partners(self) -> list[NodeId]:
        peers = self._swarm.availability.peers
        return [peer for peer in self._members if peer in peers and not peers[peer].sealed and not self._court.banned(peer)]

    async def _audit(self) -> bool:
        """One round. Whether something was replaced, or is to be fetched again."""
        began, replaced = trio.current_time(), self._trial.replaced
        self._mine = self._known()
        self._trial.leave_to_others(self._patience_s())
        while not self._trial.mirror_only:
            self._settle_disputes()
            if contradicted := self._trial.contradicted():
                await self._around.blocking(self._stored.drop, contradicted)
            self._tell_findings()
            now = trio.current_time()
            left, mine = self._turns(now - began)
            if self._trial.replaced > replaced and not self._swarm.reads.disputed:
                break
            if not self._stored.held.complete or await self._new_seal():
                break
            waits = now < self._trial.waits_until
            if not left and not waits and not self._swarm.reads.disputed:
                break
            if not waits and not self._swarm.reads.disputed:
                self._read_again(mine)
            await self._change(self._trial.waits_until if waits else now + LEASE_S / 2)
            await trio.sleep(_LOOK_S)
            if waits:  # nobody reads meanwhile
                began += trio.current_time() - now
        self._trial.leave_to_others(0)
        self._tell_findings(finally_=True)
        self._swarm.reads.trust_again()
        return self._trial.replaced > replaced or not self._stored.held.complete

    def _seal_to_ask_for(self) -> bool:
        wants = self._trial.testimony.wants
        return any(view.sealed and wants(peer) for peer, view in self._swarm.availability.peers.items())

    async def _new_seal(self) -> bool:
        return self._seal_to_ask_for() and await self._follow_a_seal()

    def _settle_disputes(self) -> None:
        """Words that say otherwise than what we hold."""
        for index in self._stored.held:
            digest = self._stored.digest(index)
            if digest and not self._stored.grade(index).proves and self._trial.testimony.words_against(index, digest):
                self._trial.dispute(index)

    def _turns(self, waited_s: float) -> tuple[ChunkMap, ChunkMap]:
        """What nobody who is called upon for it has cleared yet, and what of it falls to us: in each run another than its
        signer is called upon, and the next after a lease."""
        left, mine = ChunkMap(self._swarm.chunks), ChunkMap(self._swarm.chunks)
        weights = self._weights()
        for index in self._suspects():
            signer = self._trial.signer(index)
            others = (node for node in self._line(index, weights) if node != signer)
            called = list(islice(others, 1 + int(waited_s / LEASE_S)))
            if not any(index in self._found.get(node, ()) for node in called):
                left.add(index)
                if self._court.node in called:
                    mine.add(index)
        return left, mine

    def _known(self) -> ChunkMap:
        """What others may call upon us for, and we have read long ago: told at once."""
        weights, held = self._weights(), self._stored.held
        own = [index for index in held if self._stored.grade(index).proves]
        return ChunkMap(held.count, [index for index in own if self._court.node in self._line(index, weights)[:2]])

    def _line(self, index: int, weights: dict[str, NodeId]) -> list[NodeId]:
        """In which order nodes are called upon for a chunk in this round."""
        salt, run = f"audit {self._round}", index // run_length(self._swarm.chunks)
        if self._lined_up != (salt, set(weights)):
            self._lined_up, self._lines = (salt, set(weights)), {}
        if run not in self._lines:
            self._lines[run] = [weights[weight] for weight in run_owners(self._stored.blob.id, run, weights, salt)]
        return self._lines[run]

    def _weights(self) -> dict[str, NodeId]:
        """Of those who audit, ourselves among them."""
        weights = {self._around.neighbours.weight(peer): peer for peer in self._partners()}
        return {**weights, self._around.neighbours.own_weight(): self._court.node}

    def _patience_s(self) -> float:
        """How long we leave what is disputed to those before us: one who has settled it, and found the whole right, will say
        so, and then we need not ask the hub."""
        line = run_owners(self._stored.blob.id, 0, self._weights(), f"arbiters {self._round}")
        place = line.index(self._around.neighbours.own_weight())
        return min(ARBITERS_WAIT_MAX_S, place // ARBITERS * ARBITERS_STEP_S)

    def _read_again(self, mine: ChunkMap) -> None:
        """A run at a time: as soon as one of us has found what was false, nobody need read on."""
        if self._swarm.reads.distrusted or not mine:
            return
        run, length = next(iter(mine)) // run_length(self._swarm.chunks), run_length(self._swarm.chunks)
        span = range(run * length, min((run + 1) * length, self._swarm.chunks))
        mine = mine & ChunkMap.span(self._swarm.chunks, span)
        self._mine = self._mine | mine
        self._swarm.reads.distrust(mine)
        self._trial.changed()

    def _tell_findings(self, *, finally_: bool = False) -> None:
        """Sign what we read; a batch when all that is ours of it has come."""
        waiting = self._mine & self._suspects()
        found = self._mine - waiting
        words = {}
        for index in found:
            word = self._court.sign(self._stored, self._stored.blob, index)
            if word is not None and (finally_ or not any(chunk in waiting for chunk in word.chunks)):
                words[word.signature] = word
                self._mine.discard(index)
        several = list(words.values())
        for start in range(0, len(several), AUDIT_WORDS_MAX):
            self._tell(pack_words(several[start : start + AUDIT_WORDS_MAX]))

    def _audit_of(self, audit_round: int) -> Message:
        blob = self._stored.blob
        return AuditMessage(blob=blob.id.to_bytes(), size=blob.size, round=audit_round)

    def _tell(self, message: Message) -> None:
        for peer in self._swarm.availability.peers:
            if self._around.neighbours.able(peer, ATTEST):
                self._around.neighbours.send(peer, message)

    # Alone

    async def _alone(self) -> None:
        """What a download without peers would cost, at most."""
        if self._suspects() and not self._read_all:  # of a mirror's bytes we suspect as much as before
            return await self._read_alone()
        self._solo += 1
        if self._solo > _SOLO_MAX:
            raise WrongBytesError(
                f"The hub's bytes of {self._stored.blob.id} do not have that hash.",
                next_step="Report it to the hub; the file is not stored.",
            )
        await self._around.blocking(self._stored.drop, list(self._stored.held))
        return self._trial.changed()

    async def _read_alone(self) -> None:
        """Until something was false, or somebody has the whole right. Each of those whose hash failed goes its own way through
        the file: together they have soon been everywhere, and who finds a false chunk proves it to all."""
        replaced = self._trial.replaced
        for chunks in self._parts():
            self._swarm.reads.distrust(chunks)
            self._trial.changed()
            while self._swarm.reads.distrusted and not await self._new_seal():
                await self._change(trio.current_time() + LEASE_S)
            if self._swarm.reads.distrusted or self._trial.replaced > replaced:
                break
        else:
            self._read_all = True
        self._swarm.reads.trust_again()

    def _parts(self) -> list[ChunkMap]:
        """What we did not read ourselves: all of it if nobody else is there, else by lot, as much as goes side by side."""
        suspects, count = self._suspects(), self._swarm.chunks
        if self._failing.isdisjoint(self._swarm.availability.peers):
            return [suspects]
        size = HUB_STREAMS * run_length(count)
        spans = (range(start, min(start + size, count)) for start in range(0, count, size))
        parts = [part for span in spans if (part := suspects & ChunkMap.span(count, span))]
        self._around.rng.shuffle(parts)
        return parts
