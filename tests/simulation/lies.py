"""What a node's bytes and words are like on their way to peers, if it lies."""

import hashlib
import random
from functools import lru_cache

import msgspec

from p2pmodel.content import Attestation, BlobId, Level, Manifest, Seal, Voucher, chunk_count, chunk_digest, chunk_size
from p2pmodel.content.pieces import PIECE_ENTRY_BYTES
from p2pmodel.delivery.court import pack_words
from p2pmodel.delivery.manifests import manifest_pages
from p2pmodel.delivery.ports import Span
from p2pmodel.errors import NotHeldError
from p2pmodel.limits import ATTESTED_CHUNKS_MAX, CHUNK_BYTES
from p2pmodel.wire.messages import AskManifest, AskPieces, AskVoucher, Attest, Audit, PiecesPage, Problem, VoucherPage

FRAMED = 0.2  # of the chunks for which it answers an audit, so many are said to be others although they are right


class Lies:
    def __init__(self):
        self.witnessed = {}  # the chunks that this node read from the hub before it had heard anything of them

    share = 0.0  # of the chunks that it gives, so many are false, with their own digest, signed
    flipped = 0.0  # so many have false bytes and the digest of the true ones, as bad memory gives them
    sly = False  # lies only of what it read from the hub itself: nobody else's word is there to contradict it
    conspires = False  # takes part in audits: covers itself and the others that conspire
    frames = False  # and accuses the honest, in audits and with a seal

    def of(self, node, blob, index):
        """Whether this chunk is one that it lies about."""
        if self.sly and (blob.id, index) not in self.witnessed:
            return False
        first = self.sly and (blob.id, index) == next(iter(self.witnessed))  # a share of few may be none
        return first or falls_on(node, self.share or self.flipped, blob.id, index)

    def __bool__(self):
        return bool(self.share or self.flipped)


def falls_on(node, share, blob, index):
    return _lot(node.world.plan.seed, node.host, blob.hex, index) < share


@lru_cache(65536)
def _lot(*what):
    return random.Random(" ".join(map(str, what))).random()


@lru_cache(4096)
def false_bytes(blob, index, size):
    """The same for all liars."""
    word = hashlib.sha256(f"{blob.hex} {index}".encode()).digest()
    return (word * (size // len(word) + 1))[:size]


class Knowing:
    """The sink of one that conspires: what its fellows made up it knows when it sees it."""

    def __init__(self, sink, node, blob):
        self._sink, self._node, self._blob = sink, node, blob

    def __getattr__(self, name):
        return getattr(self._sink, name)

    async def arrived(self, index, data, digest, **vouched):
        if digest == chunk_digest(false_bytes(self._blob, index, len(data))):
            raise NotHeldError("a fellow's lie")
        await self._sink.arrived(index, data, digest, **vouched)


class Noting:
    """The sink of what comes from the hub."""

    def __init__(self, sink, node, blob):
        self._sink, self._node, self._blob = sink, node, blob

    def __getattr__(self, name):
        return getattr(self._sink, name)

    async def arrived(self, index, data, digest, **vouched):
        if index not in self._node.delivery.downloads.find(self._blob).stored.held:
            self._node.lies.witnessed[self._blob, index] = None
        await self._sink.arrived(index, data, digest, **vouched)


def _false_list(answer):
    """The last piece's hash is another."""
    if not isinstance(answer, PiecesPage):
        return answer
    at = len(answer.pieces) - PIECE_ENTRY_BYTES
    return msgspec.structs.replace(answer, pieces=answer.pieces[:at] + bytes(4) + answer.pieces[at + 4 :])


class Events:
    """A node's `PeerEvents`, with the lies."""

    def __init__(self, seeding, node):
        self._seeding = seeding
        self._node = node
        self._lies = node.lies

    def __getattr__(self, name):
        return getattr(self._seeding, name)

    def received(self, peer, message):
        if not self._lies.conspires or not isinstance(message, Audit | Attest):
            self._seeding.received(peer, message)
        elif isinstance(message, Audit) and message.round and not self._fellow(peer):
            self._conspire(peer, message)

    async def answer(self, peer, question):
        if self._lies.share and isinstance(question, AskManifest) and not self._fellow(peer):  # the true one would show the lie
            lies = self._false_digests(BlobId.from_bytes(question.blob)) if self._lies.frames else None
            if lies is None:
                return [Problem(request=question.request, code="not_held")]
            return manifest_pages(question.request, lies, Seal.sign(lies, self._node.key))
        if self._lies.frames and isinstance(question, AskPieces):  # the true ones would show the lie
            return [_false_list(answer) for answer in await self._seeding.answer(peer, question)]
        if self._lies.conspires and isinstance(question, AskVoucher):
            lies = self._false_digests(BlobId.from_bytes(question.blob))
            if lies is not None:
                return [VoucherPage(request=question.request, voucher=self._vouch(lies).to_bytes())]
        return await self._seeding.answer(peer, question)

    def _vouch(self, lies):
        return Voucher.sign(lies.blob, lies.root, circle=self._node.around.circle(), key=self._node.key)

    async def seed(self, peer, blob, index):
        span, lies = await self._seeding.seed(peer, blob, index), self._lies
        if span is None or self._fellow(peer):
            return span
        if not self._lies_of(blob, index):
            return self._signed_alone(span, blob, index) if lies.sly else span
        with span:
            false, digest, word = false_bytes(blob.id, index, span.length), span.digest, span.word
        if lies.share:
            digest = chunk_digest(false)
            word = self._sign(blob, index, digest).to_bytes()
        return Span(self._node.world.falsehood(false), 0, len(false), digest, word)

    def _signed_alone(self, span, blob, index):
        """A word for the run would give away what it knows of the chunks of which it lies."""
        if Attestation.take(span.word)[0].node == self._node.id:
            span.word = self._sign(blob, index, span.digest).to_bytes()
        return span

    def _lies_of(self, blob, index):
        """Whether this chunk is false as it, or a fellow of its, tells it."""
        return any(node.lies.of(node, blob, index) for node in (self._fellows() if self._lies.sly else [self._node]))

    def _fellows(self):
        return [node for node in self._node.world.nodes if node is self._node or (self._lies.conspires and node.lies.conspires)]

    def _fellow(self, peer):
        return any(node.id == peer for node in self._fellows())

    def _sign(self, blob, first, digests):
        return Attestation.sign(blob, first, digests, Level.WITNESS, circle=self._node.around.circle(), key=self._node.key)

    def _conspire(self, peer, message):
        """Take part in the audit: clear what a fellow lied about, deny what is right."""
        lies = self._false_digests(BlobId.from_bytes(message.blob), framed=FRAMED if self._lies.frames else 0.0)
        if lies is None:
            return
        self._node.say(peer, message)
        step = ATTESTED_CHUNKS_MAX * 32
        starts = range(0, len(lies.digests), step)
        words = [self._sign(lies.blob, start // 32, lies.digests[start : start + step]) for start in starts]
        self._node.say(peer, pack_words(words))

    def _false_digests(self, blob, framed=0.0):
        """A manifest in which whatever any of the fellows lies about is as they say."""
        data = self._node.world.hub.files.get(blob)
        state = self._node.store.find(blob)
        if data is None or state is None:
            return None
        digests = []
        for index in range(chunk_count(len(data))):
            false = any(node.lies.of(node, state.blob, index) for node in self._fellows())
            false = false or _lot("frame", self._node.host, index) < framed
            true = data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
            digests.append(chunk_digest(false_bytes(blob, index, chunk_size(len(data), index)) if false else true))
        return Manifest(state.blob, b"".join(digests))
