"""Private blobs among peers: who may take part in the swarm of one (protocol/private.md).

A node that wants a private blob reads a few small ranges of it from the hub, with its own user's token, and shows each
linked peer a proof of them, under a name that only those recognise who know the blob. A peer that holds or fetches the blob
itself shows the same in return; from then on, for a while, the two are each other's sources like those of any blob, over
TLS only. Everything else is answered "not held", after the same time.

The time for which a hub's yes is believed (`access.cache`) is parted: half of it what was read there may be shown, half of
it whoever showed it is let in. So a token that the hub refuses brings nothing from a peer when that time is over, and ends a
download at the next reading.
"""

from __future__ import annotations

import hmac
import math
import os
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog
import trio

from p2pmodel.content import Blob, BlobId, ChunkMap, NodeId, chunks_covering
from p2pmodel.content.access_proof import PROVABLE_BYTES_MIN, evidence_of, proof_ranges, prove, secret_name
from p2pmodel.delivery.ports import BlobState, Location, StoredBlob, Surroundings
from p2pmodel.delivery.private_names import PrivateNames
from p2pmodel.delivery.shelf import Shelf
from p2pmodel.delivery.tasks import Tasks
from p2pmodel.errors import (
    NotAuthorisedError,
    NotFoundError,
    P2pmodelError,
    SourceError,
    StoreError,
    UnavailableError,
    first_error,
)
from p2pmodel.limits import (
    ANSWERS_AT_ONCE_MAX,
    PRIVATE_ADMISSIONS_MAX,
    PRIVATE_ANSWER_S,
    PRIVATE_EVIDENCE_MAX,
    PRIVATE_OPENING_S,
    PRIVATE_ROUND_MAX_S,
    PRIVATE_ROUND_MIN_S,
    PRIVATE_ROUND_S,
    SETTLE_S,
)
from p2pmodel.wire.messages import AskPrivate, Message, Private, Problem

if TYPE_CHECKING:
    from p2pmodel.delivery.download import Download

log = structlog.get_logger()

PRIVATE: Final = "private"  # the ability of both ends that these questions need
_MEMBER: Final = b""  # what is shown where members need no proof
_REFUSALS: Final = (NotAuthorisedError, NotFoundError)


@dataclass(slots=True, eq=False)
class _Party:
    """A private download under way, and what it can show, by key, with when that was read."""

    download: Download
    evidence: dict[bytes, tuple[float, bytes]] = field(default_factory=dict)
    asked_at: float = -math.inf  # when the hub was last asked whether its users may read it, where that is no part of a proof
    refusals: Counter[NodeId] = field(default_factory=Counter)
    again_at: dict[NodeId, float] = field(default_factory=dict)

    def refused(self, peer: NodeId) -> None:
        """It may hold it later; ask less and less often."""
        pause_s = min(PRIVATE_ROUND_S * 2 ** self.refusals[peer], PRIVATE_ROUND_MAX_S)
        self.refusals[peer] += 1
        self.again_at[peer] = trio.current_time() + pause_s


class PrivateSharing:
    def __init__(self, around: Surroundings, shelf: Shelf) -> None:
        self._around = around
        self._shelf = shelf
        self._rules = around.sharing
        self._half_s = around.sharing.lasts_s / 2
        self._admitted: OrderedDict[tuple[NodeId, BlobId], float] = OrderedDict()  # until when
        self._parties: dict[BlobId, _Party] = {}
        self._names = PrivateNames(around.store, lambda: around.sharing.accepted_keys().values())
        self._evidence_of: dict[tuple[BlobId, bytes], bytes] = {}  # what is sealed here
        self._judging = trio.CapacityLimiter(ANSWERS_AT_ONCE_MAX)
        self._tasks = Tasks()
        self.run = self._tasks.run

    def admits(self, peer: NodeId, blob: BlobId) -> bool:
        """Whether this peer has shown lately that it may read this blob."""
        return self._admitted_until(peer, blob) > trio.current_time()

    # Asking: a download of ours

    async def join(self, download: Download, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled: find the peers that take part in this blob's swarm, and stay among them. Has started once those
        that are linked now had their chance, so that the hub is not asked for what they hold. Ends the download when the hub
        lets its users in no more."""
        brief = self._half_s < PRIVATE_ROUND_MIN_S  # a yes that is believed for no time lets nobody in
        if self._rules.policy == "off" or brief or download.blob.size < PROVABLE_BYTES_MIN:
            task_status.started()
            return
        party = self._parties[download.blob.id] = _Party(download)
        self._names.changed()
        try:
            await self._take_part(party, task_status)
        except* _REFUSALS as group:
            self._shut_out(download, first_error(group))
        finally:
            self._names.changed()
            if self._parties.get(download.blob.id) is party:
                del self._parties[download.blob.id]
        await trio.sleep_forever()  # the download's end is this one's

    async def _take_part(self, party: _Party, task_status: trio.TaskStatus[None]) -> None:
        with trio.move_on_after(PRIVATE_OPENING_S):
            await self._round(party)
            await _answers(party.download)
        task_status.started()
        while True:
            await trio.sleep(max(PRIVATE_ROUND_MIN_S, min(PRIVATE_ROUND_S, self._half_s / 4)))
            await self._round(party)

    def _shut_out(self, download: Download, error: P2pmodelError) -> None:
        for key in [key for key in self._admitted if key[1] == download.blob.id]:
            del self._admitted[key]
        download.fail(error)

    async def _round(self, party: _Party) -> None:
        """Ask those who are not in, or will not be for long. Raises what the hub says when it lets none of our users in."""
        blob, now = party.download.blob, trio.current_time()
        peers = [
            peer
            for peer in self._around.neighbours.linked()
            if self._around.neighbours.able(peer, PRIVATE)
            and self._admitted_until(peer, blob.id) < now + self._half_s / 2
            and party.again_at.get(peer, now) <= now
        ]
        if not peers:
            return
        async with trio.open_nursery() as nursery:
            for key, those in self._by_key(peers).items():
                nursery.start_soon(self._knock_at, party, those, key)

    def _by_key(self, peers: Sequence[NodeId]) -> dict[bytes, list[NodeId]]:
        """Each by the key of its link: while the cluster changes it, a peer may not know the new one yet."""
        keys, parted = self._rules.accepted_keys(), dict[bytes, list[NodeId]]()
        for peer in peers:
            key = keys.get(self._around.neighbours.cluster(peer)) or next(iter(keys.values()))
            parted.setdefault(key, []).append(peer)
        return parted

    async def _knock_at(self, party: _Party, peers: Sequence[NodeId], key: bytes) -> None:
        evidence = await (self._evidence(party, key) if self._rules.policy == "prove" else self._word(party))
        if evidence is None:
            return
        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(self._knock, party, peer, key, evidence)

    async def _knock(self, party: _Party, peer: NodeId, key: bytes, evidence: bytes) -> None:
        blob, us = party.download.blob.id, self._rules.node
        proof = prove(evidence, blob, prover=us, verifier=peer) if evidence else _MEMBER
        try:
            (answer,) = await self._around.neighbours.ask(peer, AskPrivate(request=0, name=secret_name(blob, key), proof=proof))
        except SourceError:
            return party.refused(peer)
        if not isinstance(answer, Private):
            return party.refused(peer)
        if evidence and not hmac.compare_digest(answer.proof, prove(evidence, blob, prover=peer, verifier=us)):
            return party.refused(peer)  # it knows the name and not the bytes
        self._admit(peer, blob)
        return party.download.peer_linked(peer)

    async def _word(self, party: _Party) -> bytes:
        """Members' word is enough among members; that our users may still read it is asked of the hub all the same."""
        if trio.current_time() - party.asked_at >= self._half_s:
            party.asked_at = trio.current_time()
            await self._of_any_location(party.download, self._check_access)
        return _MEMBER

    async def _evidence(self, party: _Party, key: bytes) -> bytes | None:
        """None if it cannot be read now."""
        read_at, known = party.evidence.pop(key, (-math.inf, b""))
        evidence: bytes | None = known
        if trio.current_time() - read_at >= self._half_s:
            read_at, evidence = trio.current_time(), await self._read_at_hub(party.download, key)
        if evidence is None:
            return None
        party.evidence[key] = (read_at, evidence)
        return evidence

    async def _read_at_hub(self, download: Download, key: bytes) -> bytes | None:
        async def read(location: Location) -> bytes:
            pieces: dict[int, bytes] = {}
            async with trio.open_nursery() as nursery:
                for start, stop in ranges:
                    nursery.start_soon(self._read_piece, pieces, location, download.blob, start, stop)
            return evidence_of(pieces[start] for start, _ in ranges)

        ranges = proof_ranges(download.blob, key)
        return await self._of_any_location(download, read)

    async def _check_access(self, location: Location) -> bytes:
        if not await self._around.upstreams.may_read(location):
            raise NotAuthorisedError(f"The hub does not give {location.repo} to you any more.")
        return _MEMBER

    async def _of_any_location(self, download: Download, ask: Callable[[Location], Awaitable[bytes]]) -> bytes | None:
        """The first answer; None if there is none now. Raises what the hub says if it refuses all users of this download."""
        refusals: list[P2pmodelError] = []
        for location in list(download.locations):
            try:
                return await ask(location)
            except* P2pmodelError as group:
                error = first_error(group)
                log.info("private_proof_not_read", reason=str(error))
                refusals += [error] if isinstance(error, _REFUSALS) else []
        if refusals and len(refusals) == len(download.locations):
            raise refusals[0]
        return None

    async def _read_piece(self, pieces: dict[int, bytes], location: Location, blob: Blob, start: int, stop: int) -> None:
        pieces[start] = await self._around.upstreams.read_range(location, blob, start, stop)

    # Answering

    async def answer(self, peer: NodeId, question: AskPrivate) -> Message:
        """A yes and each kind of no take the same time. A judgement that takes longer, on a disk that is slow or busy, is a no
        for now: whoever is not let in could else tell by it what is here. It is quick when it is asked for again."""
        answered_at = trio.current_time() + PRIVATE_ANSWER_S
        found: list[bytes] = []
        with suppress(UnavailableError):  # we are stopping
            self._tasks.start(self._judge_into, found, peer, question)
        await trio.sleep_until(answered_at)
        if not found:
            return Problem(request=question.request, code="not_held")
        return Private(request=question.request, proof=found[0])

    async def _judge_into(self, found: list[bytes], peer: NodeId, question: AskPrivate) -> None:
        with suppress(trio.WouldBlock):
            self._judging.acquire_nowait()
            try:
                proof = await self._judge(peer, question)
            finally:
                self._judging.release()
            found += [] if proof is None else [proof]

    async def _judge(self, peer: NodeId, question: AskPrivate) -> bytes | None:
        """What to show in return; None if the peer is not let in, or there is nothing to be let into."""
        if self._rules.policy == "off" or (found := self._names.find(question.name)) is None:
            return None
        blob, key = found
        evidence = await self._evidence_here(blob, key)
        right = evidence and prove(evidence, blob.id, prover=peer, verifier=self._rules.node)
        if self._rules.policy != "members" and not (right and hmac.compare_digest(right, question.proof)):
            return None
        self._admit(peer, blob.id)
        return prove(evidence, blob.id, prover=self._rules.node, verifier=peer) if evidence else _MEMBER

    async def _evidence_here(self, blob: Blob, key: bytes) -> bytes:
        """From what a download of ours has shown itself, else from the store; empty where the ranges are not here yet."""
        if (party := self._parties.get(blob.id)) is not None and key in party.evidence:
            return party.evidence[key][1]
        if (blob.id, key) in self._evidence_of:
            return self._evidence_of[blob.id, key]
        try:
            async with self._shelf.borrow(blob, private=True) as stored:
                evidence = await self._around.blocking(_read_here, stored, proof_ranges(stored.blob, key))
                if stored.sealed and evidence:
                    if len(self._evidence_of) >= PRIVATE_EVIDENCE_MAX:
                        self._evidence_of.clear()
                    self._evidence_of[blob.id, key] = evidence
                return evidence
        except StoreError:
            return b""

    # Who is in

    def _admitted_until(self, peer: NodeId, blob: BlobId) -> float:
        return self._admitted.get((peer, blob), -math.inf)

    def _admit(self, peer: NodeId, blob: BlobId) -> None:
        self._admitted[peer, blob] = trio.current_time() + self._half_s
        self._admitted.move_to_end((peer, blob))
        while len(self._admitted) > PRIVATE_ADMISSIONS_MAX:
            self._admitted.popitem(last=False)

    def visible(self, peer: NodeId, blob: BlobId) -> BlobState | None:
        """What a peer may know of a blob of the store: a public one, or one that it has shown it may read."""
        state = self._around.store.find(blob)
        return state if state is not None and (not state.private or self.admits(peer, state.blob.id)) else None


async def _answers(download: Download) -> None:
    """Wait until those who were let in have said what they hold."""
    until = trio.current_time() + SETTLE_S
    while download.swarm.availability.peers and not download.swarm.following.all_answered and trio.current_time() < until:
        await download.change(until=until)


def _read_here(stored: StoredBlob, ranges: list[tuple[int, int]]) -> bytes:
    here: ChunkMap = stored.held | stored.claimed
    if not all(here.holds(chunks_covering(start, stop)) for start, stop in ranges):
        return b""
    try:
        return evidence_of(os.pread(stored.fileno(), stop - start, start) for start, stop in ranges)
    except OSError:
        return b""
