"""One blob's trial: what peers' words for its chunks are worth on arrival, and who turns out to have signed a false one.

The rule: whoever signed a digest answers for it, whoever handed the chunk on does not. Words that differ make a *dispute*,
and our own read of the hub settles it. A chunk for which nobody answers (its signer read it from a mirror, is no member
that we ever met, or it came unsigned) is taken as long as its giver has not given us a false one of that kind.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from p2pmodel.content import Attestation, Blob, ChunkMap, Circle, Manifest, NodeId, Refusal
from p2pmodel.delivery.court import Court
from p2pmodel.delivery.ports import StoredBlob, Surroundings
from p2pmodel.delivery.testimony import Testimony
from p2pmodel.errors import WrongBytesError
from p2pmodel.limits import DISPUTES_MAX
from p2pmodel.swarm import Swarm

_BLAMED = frozenset({Refusal.FORGED, Refusal.OTHER_BLOB})  # a giver who checks would not have passed it on; keys get rotated


class RefusedError(WrongBytesError):
    """A chunk is not taken; `blame` says whether its giver is at fault."""

    def __init__(self, why: str, *, blame: bool = False) -> None:
        super().__init__(why)
        self.blame = blame


class Trial:
    def __init__(self, stored: StoredBlob, swarm: Swarm, around: Surroundings, court: Court) -> None:
        self.testimony = Testimony(stored.blob, around.neighbours)
        self.mirror_only = False  # what our own upstream says proves nothing
        self.replaced = 0  # chunks whose bytes turned out to be others
        self.tries_a_seal = False  # the blob's own hash was wrong, and a sealer has other digests
        self.waits_until = 0.0  # for whoever of those who audit with us settles what is disputed
        self._patience_s = 0.0
        self.changed: Callable[[], None] = lambda: None
        self.can_read: Callable[[], bool] = lambda: False  # whether a hub can be asked now
        self._stored = stored
        self._swarm = swarm
        self._around = around
        self._court = court
        self._leans: dict[int, NodeId] = {}  # chunk → who answers for it; the giver itself where nobody does
        self._disputes: dict[int, frozenset[NodeId]] = {}  # chunk → who differs over it
        self._givers: dict[int, NodeId] = {}  # of chunks for which nobody answers
        self._void: set[int] = set()  # chunks whose only signers were banned since

    # From an earlier run

    async def recall(self) -> list[int]:
        """Hear again what was signed for chunks that an earlier download left here. What of them rests on the word of a node
        that was convicted since is to be fetched again. A disk's word is checked like a peer's: it may have to convict."""
        chunks = self._stored.claimed | self._stored.held
        words = {chunk: word for chunk in chunks if not self._proven(chunk) and (word := self._stored.word(chunk)) is not None}
        if not words:
            return []
        signed = await self._around.blocking(_not_refused, list(words.values()), self._stored.blob, self._around.circle())
        for word in signed.values():
            if not self._court.convicted(word.node):
                self._hear(word)
            await trio.lowlevel.checkpoint()  # there may be thousands
        self._leans |= {chunk: word.node for chunk, word in words.items() if word.signature in signed and word.accountable}
        convicted = dict.fromkeys(word.node for word in signed.values() if self._court.convicted(word.node))
        return [chunk for node in convicted for chunk in self.banned(node)]

    # On arrival

    def weigh(self, peer: NodeId, index: int, digest: bytes, packed: bytes) -> None:
        """Whether a peer's chunk whose bytes have this digest is taken. Raises RefusedError."""
        if self._court.banned(peer):
            raise RefusedError("come from a banned node")
        word = self._take(peer, index, digest, packed)
        known = self._stored.digest(index) if index in self._stored.held else None
        if known is not None and known != digest and self._proven(index):
            if word is None:
                raise RefusedError("are not those that the hub gave us", blame=True)
            self._refuted(peer, word)
            raise RefusedError("are not those that the hub gave us, but somebody signed for them")
        if self.testimony.sealed_by(peer, index) not in {None, digest}:
            raise RefusedError("are not what it sealed itself", blame=True)
        self._hold_against_others(index, digest, known)
        if not self._answers(word) and not self.testimony.signers(index, digest) and self._doubted(peer):
            raise RefusedError("are vouched for by nobody who answers for it")

    def _take(self, peer: NodeId, index: int, digest: bytes, packed: bytes) -> Attestation | None:
        """The word that came with a chunk, checked; None if none came."""
        if not packed:
            return None
        word, _ = Attestation.take(packed)
        if not word.says(index, digest):
            raise RefusedError("are not those of the word that came with them", blame=True)
        if (refusal := self._refusal(word)) is not None:
            if refusal is Refusal.BANNED:
                self._court.show(peer, word.node)
            raise RefusedError(f"came with a word that is not heard ({refusal})", blame=refusal in _BLAMED)
        self._hear(word)
        if self._court.convicted(word.node):
            raise RefusedError("are vouched for by a node that signed two digests for one chunk")
        return word

    def _refusal(self, word: Attestation) -> Refusal | None:
        if self._court.convicted(word.node):
            return Refusal.BANNED
        if self.testimony.has(word):
            return None
        return word.refusal(self._stored.blob, self._around.circle())

    def _hear(self, word: Attestation) -> None:
        contradiction = self.testimony.hear(word)
        if contradiction is not None:
            self._court.contradicted(*contradiction)

    def _hold_against_others(self, index: int, digest: bytes, known: bytes | None) -> None:
        if (sealer := self.testimony.against(index, digest)) is not None:
            self.dispute(index)
            raise RefusedError(f"are not what {sealer} sealed")  # one of two is wrong and we cannot tell which: no strike
        if known is not None and known != digest:
            self.dispute(index)
            raise RefusedError("are not those that came from another peer")
        if self.tries_a_seal and self.testimony.followed is not None:
            return  # it is as the seal says, and the blob's own hash will tell whether that is right
        if self.testimony.words_against(index, digest) and self.dispute(index):
            raise RefusedError("are not what another member signed for")

    def landed(self, index: int, digest: bytes, peer: NodeId) -> None:
        """A peer's chunk was written."""
        self._void.discard(index)
        word = self.testimony.word_for(index, digest)
        if self._answers(word):
            assert word is not None
            self._leans[index] = word.node
            self._givers.pop(index, None)
        else:
            self._leans[index] = self._givers[index] = peer

    def dispute(self, index: int) -> bool:
        """Have our own read of the hub settle what a chunk's digest is. False if that cannot be now."""
        if index in self._void and index in self._stored.held:
            return True  # nobody stands behind what is here: nothing to settle
        if self.mirror_only or not self.can_read() or len(self._swarm.reads.disputed) >= DISPUTES_MAX:
            return False
        if self._others_settle():
            return True
        parties = self._parties(index)
        if not any(parties & others for chunk, others in self._disputes.items() if chunk != index):  # one read may end them all
            self._disputes[index] = parties
            self._swarm.reads.disputed.add(index)
        return True

    def vouched(self, node: NodeId, manifest: Manifest) -> None:
        """A member answers for this manifest with its name: it is held against what we know for certain, now and later."""
        differs = [index for index in self._stored.held if self._stored.digest(index) != manifest.digest(index)]
        if not self.testimony.credit(node, manifest) or any(map(self._proven, differs)):
            self._court.convict_sealer(node)
            self.testimony.forget(node)
        else:
            for index in differs[:DISPUTES_MAX]:
                self.dispute(index)
            self.changed()

    def settle_between(self, one: Manifest, other: Manifest) -> None:
        """Members vouch for two manifests: our own read of a chunk in which they differ shows who is wrong."""
        index = next(index for index in range(self._swarm.chunks) if one.digest(index) != other.digest(index))
        if self.dispute(index):
            self.changed()

    def leave_to_others(self, seconds: float) -> None:
        """Until so long after the next dispute our own reads wait; 0: not at all."""
        self._patience_s, self.waits_until = seconds, 0.0

    def _others_settle(self) -> bool:
        now = trio.current_time()
        if self._patience_s and not self.waits_until:
            self.waits_until = now + self._patience_s
        return now < self.waits_until

    def _parties(self, index: int) -> frozenset[NodeId]:
        return frozenset(self.testimony.parties(index)) | {self._leans.get(index, self._court.node)} - {self._court.node}

    def _settled(self, index: int) -> None:
        self._disputes.pop(index, None)
        self._swarm.reads.disputed.discard(index)

    # What is proven

    def proven(self, index: int, digest: bytes, *, replaced: bool = False) -> None:
        """The hub itself gave us this chunk, or its root proves it."""
        self.replaced += replaced
        for word in self.testimony.words_against(index, digest):
            self._court.convict(word, self._court.sign(self._stored, self._stored.blob, index))
        for sealer in self.testimony.sealers_against(index, digest):
            self._court.convict_sealer(sealer)
            self.testimony.forget(sealer)
        giver = self._givers.pop(index, None)
        if giver is not None and replaced:
            self._around.standing.doubt(giver, trio.current_time())
        self._leans.pop(index, None)
        self._void.discard(index)
        self._disputes.pop(index, None)
        self._swarm.reads.spare(index)

    def signer(self, index: int) -> NodeId | None:
        """Who answers for a held chunk."""
        return self._leans.get(index)

    def sealed(self, manifest: Manifest) -> None:
        """The blob's own hash was right: whoever signed something else is proven false."""
        for index, word in list(self.testimony.refuted_by(manifest)):
            self._court.convict(word, self._court.sign(self._stored, self._stored.blob, index))
        for sealer in self.testimony.sealers_refuted_by(manifest):
            self._court.convict_sealer(sealer)
            self.testimony.forget(sealer)

    def _proven(self, index: int) -> bool:
        return self._stored.sealed or self._stored.grade(index).proves

    def _refuted(self, peer: NodeId, word: Attestation) -> None:
        """A word against what we know for certain."""
        if word.accountable:
            self._court.convict(word, self._court.sign(self._stored, self._stored.blob, word.first))
        if not self._answers(word):
            self._around.standing.doubt(peer, trio.current_time())

    def _answers(self, word: Attestation | None) -> bool:
        """Whether somebody can be held to account for it."""
        return word is not None and word.accountable and self._around.standing.is_member(word.node)

    def _doubted(self, peer: NodeId) -> bool:
        return self._around.standing.is_doubted(peer, trio.current_time())

    # Words without chunks

    def heard(self, words: list[Attestation]) -> list[Attestation]:
        """An audit's findings, or evidence: those that count. What they contradict is settled or disputed."""
        counted = []
        for word in words:
            if word.node == self._court.node or not self._answers(word) or self._refusal(word) is not None:
                continue
            self._hear(word)
            if not self._court.convicted(word.node):
                counted.append(word)
                self._compare(word)
        return counted

    def _compare(self, word: Attestation) -> None:
        for index in word.chunks:
            known = self._stored.digest(index) if index in self._stored.held else None
            if known is None or known == word.digest(index):
                continue
            if self._proven(index):
                return self._court.convict(word, self._court.sign(self._stored, self._stored.blob, index))
            self.dispute(index)
        return None

    def banned(self, node: NodeId) -> list[int]:
        """What is held on this node's word alone, and is to be fetched again."""
        self.testimony.forget(node)
        for index, parties in list(self._disputes.items()):
            if node in parties:
                self._settled(index)
        lost = []
        for index, signer in list(self._leans.items()):
            digest = self._stored.digest(index)
            if signer != node or digest is None or index in self._stored.own:
                continue
            others = [other for other in self.testimony.signers(index, digest) if not self._court.convicted(other)]
            del self._leans[index]
            if others:
                self._leans[index] = others[0]
            else:
                lost.append(index)
        self.replaced += len(lost)
        self._void |= set(lost)
        return lost

    def contradicted(self) -> list[int]:
        """What is held on a banned node's word alone, and others signed otherwise: they give it, and the hub need not."""
        held = [(index, self._stored.digest(index)) for index in self._void if index in self._stored.held]
        return [index for index, digest in held if digest and self.testimony.words_against(index, digest)]

    # Handing on

    def word_for(self, index: int, peer: NodeId) -> Attestation | None:
        """What goes with a chunk to a peer: our own signature where we may sign, else its signer's; None: it may not go."""
        ours = self._court.sign(self._stored, self._stored.blob, index, peer)
        if ours is not None:
            return ours
        digest = self._stored.digest(index)
        word = self.testimony.word_for(index, digest) if digest else None
        return None if word is None or self._court.convicted(word.node) else word

    def servable(self) -> ChunkMap:
        """What of it may be handed to peers."""
        held = self._stored.held
        return ChunkMap(held.count, [index for index in held if self.may_serve(index)])

    def may_serve(self, index: int) -> bool:
        if self._stored.sealed or self._stored.grade(index).signs is not None:
            return True
        digest = self._stored.digest(index)
        return digest is not None and self.testimony.word_for(index, digest) is not None


def _not_refused(words: list[Attestation], blob: Blob, circle: Circle) -> dict[bytes, Attestation]:
    """By signature: one covers many chunks."""
    several = {word.signature: word for word in words}
    return {signature: word for signature, word in several.items() if word.refusal(blob, circle) is None}
