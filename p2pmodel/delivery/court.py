"""Who is banned, and by which proof: one court for all blobs of a node.

It bans only for what this node found out itself: wrong bytes, counted; a signature under a digest that our own read of the
hub or a blob's own hash refutes; two signatures of one node that contradict each other. Proofs are shown to the peers, who
check them in the same way. Bans outlive a restart, until they run out or the operator lifts them. It also signs our own
words, in batches, when a peer first asks for a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Final, TypeVar

import msgspec
import structlog
import trio

from p2pmodel.content import Attestation, Blob, ChunkMap, Circle, Level, NodeId, Voucher
from p2pmodel.content.naming import node_id_of
from p2pmodel.delivery.ports import StoredBlob, Surroundings
from p2pmodel.errors import ConfigError, StoreError
from p2pmodel.limits import ATTESTATIONS_KEPT_MAX, ATTESTED_CHUNKS_MAX, BAN_MAX_S, BAN_MIN_S, EVIDENCE_KEPT_MAX, PARDON_S
from p2pmodel.swarm import Ban, Why
from p2pmodel.wire.messages import Attest

T = TypeVar("T")

ATTEST: Final = "attest"  # the ability
_BANS: Final = "bans"  # the document in which they are kept
_PARDONS: Final = "pardons"  # and in which those whom the operator forgave lately, with the unix time until when it counts
_PROOFS: Final = "proofs"  # and what is shown of those who are banned for good
_ALL: Final = "all"

log = structlog.get_logger()


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """A ban on disk."""

    source: str
    why: Why
    ends: float | None = None  # unix; None: for good
    next_length: float = BAN_MIN_S


class Court:
    def __init__(self, around: Surroundings) -> None:
        self.node = node_id_of(around.key.public_key().public_bytes_raw())
        self.on_ban: Callable[[NodeId], None] = lambda _node: None
        self._around = around
        self._signed: dict[tuple[Blob, int, bytes], Attestation] = {}  # ours, by run
        self._proofs: dict[NodeId, Attest] = {}
        self._news = trio.Event()

    async def run(self) -> None:
        """Keeps bans, their proofs and pardons for the next run. Without its disk a node forgets, and has to find out again."""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            now, standing = trio.current_time(), self._around.standing
            bans = [self._to_keep(ban) for ban in standing.bans(now)]
            pardons = {source: self._unix(until) for source, until in standing.pardons(now).items()}
            try:
                for key, kept in ((_BANS, bans), (_PARDONS, pardons), (_PROOFS, self._proofs)):
                    await self._around.blocking(self._around.store.put_document, key, msgspec.json.encode(kept))
            except StoreError as error:
                log.warning("bans_not_kept", reason=str(error))

    async def recall(self) -> None:
        """Whom an earlier run banned, and whom its operator forgave."""
        now, standing = trio.current_time(), self._around.standing
        for kept in await self._kept(_BANS, list[_Kept]) or ():
            left_s = inf if kept.ends is None else min(self._left_s(kept.ends), BAN_MAX_S)  # clocks are set back, too
            if left_s > 0:
                standing.recall(Ban(kept.source, kept.why, now + left_s), kept.next_length)
        for source, ends in (await self._kept(_PARDONS, dict[str, float]) or {}).items():
            standing.recall_pardon(source, now + min(self._left_s(ends), PARDON_S))
        for source, proof in (await self._kept(_PROOFS, dict[str, Attest]) or {}).items():
            if standing.is_convicted(source):
                self._proofs[NodeId(source)] = proof

    async def _kept(self, key: str, kind: type[T]) -> T | None:
        body = await self._around.blocking(self._around.store.document, key)
        try:
            return msgspec.json.decode(body, type=kind) if body else None
        except ValueError as error:  # a later version's
            log.warning("bans_not_recalled", reason=str(error))
            return None

    def _to_keep(self, ban: Ban) -> _Kept:
        ends = None if ban.until == inf else self._unix(ban.until)
        return _Kept(ban.source, ban.why, ends, self._around.standing.next_length(ban.source))

    def _unix(self, moment: float) -> float:
        return self._around.wall() + moment - trio.current_time()

    def _left_s(self, ends: float) -> float:
        return ends - self._around.wall()

    # Our own words

    def sign(self, stored: StoredBlob, blob: Blob, index: int, peer: NodeId | None = None) -> Attestation | None:
        """Our word for a chunk that is here and that we may sign for, and for its neighbours in the same run. A small blob
        has two names: `blob` is the one under which it was asked for. While the cluster changes its key, `peer` may know only
        that of its link."""
        level = _level(stored, index)
        digest = stored.digest(index)
        if level is None or digest is None:
            return None
        circle = self._circle_of(peer)
        key = blob, index // ATTESTED_CHUNKS_MAX, circle.cluster
        word = self._signed.pop(key, None)
        if word is None or word.level != level or not word.says(index, digest):
            chunks = _run(stored, index, level)
            digests = b"".join(stored.digest(chunk) or b"" for chunk in chunks)
            word = Attestation.sign(blob, chunks.start, digests, level, circle=circle, key=self._around.key)
        self._signed[key] = word
        if len(self._signed) > ATTESTATIONS_KEPT_MAX:
            del self._signed[next(iter(self._signed))]
        return word

    def handed_on(self, stored: StoredBlob, index: int) -> Attestation | None:
        """The word of somebody else that goes with a chunk of a blob that nobody here is fetching."""
        word = stored.word(index)
        return word if word is not None and self._goes_on(word) else None

    def _goes_on(self, word: Attestation) -> bool:
        return word.cluster in self._around.circle().accepted and not self.convicted(word.node)

    def servable(self, stored: StoredBlob) -> ChunkMap:
        """What of such a blob may be handed to peers."""
        words = {chunk: word for chunk in stored.held if (word := stored.word(chunk)) is not None}
        several = {word.signature: word for word in words.values()}  # each covers many chunks, and two hundred peers may ask
        going = {signature for signature, word in several.items() if self._goes_on(word)}
        signed = [chunk for chunk in stored.held if _level(stored, chunk) is not None]
        return ChunkMap(stored.held.count, [*signed, *(chunk for chunk, word in words.items() if word.signature in going)])

    def vouch(self, stored: StoredBlob, peer: NodeId) -> Voucher | None:
        """Our own voucher, for a peer who asks, of a blob that is sealed here."""
        if not stored.sealed or stored.seal is None:
            return None
        return Voucher.sign(stored.blob, stored.seal.root, circle=self._circle_of(peer), key=self._around.key)

    def _circle_of(self, peer: NodeId | None) -> Circle:
        circle = self._around.circle()
        if peer is not None and (linked := self._around.neighbours.cluster(peer)) in circle.accepted:
            return Circle(linked)
        return circle

    # Verdicts

    def banned(self, node: str) -> bool:
        return self._around.standing.is_banned(node, trio.current_time())

    def convicted(self, node: str) -> bool:
        return self._around.standing.is_convicted(node)

    def strike(self, peer: NodeId, blob: Blob) -> None:
        """It gave other bytes than those of the digest that came with them."""
        self._pronounce(self._around.standing.strike(peer, trio.current_time(), str(blob.id)))

    def suspend(self, node: NodeId, why: Why) -> None:
        """It told what is not so, and signed no digest: for a while."""
        self._pronounce(self._around.standing.suspend(node, why, trio.current_time()))

    def convict(self, false: Attestation, ours: Attestation | None) -> None:
        """What it signed is refuted by what we know for certain."""
        evidence = [false] if ours is None else [false, ours]
        self._prove(false.node, Why.FALSE_DIGEST, evidence)

    def convict_sealer(self, node: NodeId) -> None:
        """The manifest that it sealed is refuted. The proof is the whole manifest: whoever has it finds out alike."""
        self._prove(node, Why.FALSE_DIGEST, [])

    def contradicted(self, one: Attestation, other: Attestation) -> None:
        """It signed two digests for one chunk: that needs no hub."""
        self._prove(one.node, Why.TWO_DIGESTS, [one, other])

    def _prove(self, node: NodeId, why: Why, evidence: list[Attestation]) -> None:
        if node == self.node:
            return
        ban = self._around.standing.convict(node, why)
        if ban is None:
            return
        if evidence and not self._private(evidence[0].blob):
            self._proofs[node] = pack_words(evidence)
            if len(self._proofs) > EVIDENCE_KEPT_MAX:
                del self._proofs[next(iter(self._proofs))]
            for peer in self._around.neighbours.linked():
                self._tell(peer, self._proofs[node])
        self._pronounce(ban)

    def _private(self, blob: Blob) -> bool:
        """Of a private blob nothing is shown around: its name is not for everybody."""
        state = self._around.store.find(blob.id)
        return state is None or state.private

    def _pronounce(self, ban: Ban | None) -> None:
        if ban is not None:
            log.warning("peer_banned", peer=ban.source, why=str(ban.why), for_good=ban.until == inf)
            self.on_ban(NodeId(ban.source))
            self._news.set()

    def forgive(self, named: str) -> Sequence[NodeId]:
        """Lift the ban of the node whose id begins so, or of "all". Raises ConfigError unless that is one."""
        standing, now = self._around.standing, trio.current_time()
        banned = [NodeId(ban.source) for ban in standing.bans(now)]
        meant = banned if named == _ALL else [node for node in banned if named and node.startswith(named)]
        if named != _ALL and len(meant) != 1:
            raise ConfigError(
                f"{len(meant) or 'No'} banned nodes have an id that begins with {named!r}.",
                next_step="`p2pmodel peers` shows who is banned.",
            )
        for node in meant:
            standing.forgive(node, now)
            self._proofs.pop(node, None)
            log.warning("peer_forgiven", peer=node)
        self._news.set()
        return meant

    def show(self, peer: NodeId, signer: NodeId) -> None:
        """A peer still hands on what a banned node signed: show it why we do not take it."""
        if (proof := self._proofs.get(signer)) is not None:
            self._tell(peer, proof)

    def _tell(self, peer: NodeId, message: Attest) -> None:
        if self._around.neighbours.able(peer, ATTEST):
            self._around.neighbours.send(peer, message)


def pack_words(words: list[Attestation]) -> Attest:
    """Of one blob, as many as fit."""
    blob = words[0].blob
    return Attest(blob=blob.id.to_bytes(), size=blob.size, words=b"".join(word.to_bytes() for word in words))


def contradict(one: Attestation, other: Attestation) -> bool:
    """Whether they are one node's, and cannot both be true."""
    if one.node != other.node or one.blob != other.blob or not (one.accountable and other.accountable):
        return False
    both = set(one.chunks) & set(other.chunks)
    return any(one.digest(index) != other.digest(index) for index in both)


def _level(stored: StoredBlob, index: int) -> Level | None:
    if stored.sealed:
        return Level.CONFIRMED
    return stored.grade(index).signs if index in stored.held else None


def _run(stored: StoredBlob, index: int, level: Level) -> range:
    """The chunks around this one that we can sign for in the same way."""
    first = index // ATTESTED_CHUNKS_MAX * ATTESTED_CHUNKS_MAX
    stop = min(first + ATTESTED_CHUNKS_MAX, stored.held.count)
    begin = end = index
    while begin > first and _level(stored, begin - 1) is level and stored.digest(begin - 1):
        begin -= 1
    while end + 1 < stop and _level(stored, end + 1) is level and stored.digest(end + 1):
        end += 1
    return range(begin, end + 1)
