"""`python lying_member.py HOW p2pmodel serve …`: a daemon that vouches for what is not so.

HOW "false": the second chunk of every file is zeros, it says, and signs and gives them. HOW "foreign": it shows the voucher
that a member of another cluster would. Else it is what it seems.
"""

import os
import sys

from p2pmodel.cli import main
from p2pmodel.content import Attestation, Circle, Level, Manifest, Seal, Voucher, chunk_digest, chunk_size
from p2pmodel.delivery.court import Court
from p2pmodel.delivery.manifests import manifest_pages
from p2pmodel.delivery.ports import Span
from p2pmodel.delivery.seeding import Seeding

FALSE = 1  # the chunk
vouch, seed = Court.vouch, Seeding.seed


def false_manifest(stored):
    digests = bytearray(stored.manifest().digests)
    if stored.held.count > FALSE:
        digests[32 * FALSE : 32 * FALSE + 32] = chunk_digest(bytes(chunk_size(stored.blob.size, FALSE)))
    return Manifest(stored.blob, bytes(digests))


def vouch_falsely(self, stored, peer):
    return Voucher.sign(stored.blob, false_manifest(stored).root, circle=self._circle_of(peer), key=self._around.key)


def vouch_elsewhere(self, stored, peer):
    return Voucher.sign(stored.blob, stored.seal.root, circle=Circle(b"elsewher"), key=self._around.key)


async def show_false_manifest(self, peer, question):
    state = self._sharing.visible(peer, type(self._around.store.blobs()[0].blob.id).from_bytes(question.blob))
    async with self._shelf.borrow(state.blob, private=state.private) as stored:
        manifest = false_manifest(stored)
    return manifest_pages(question.request, manifest, Seal.sign(manifest, self._around.key))


async def seed_falsely(self, peer, blob, index):
    span = await seed(self, peer, blob, index)
    if span is None:
        return None
    with span:
        data = bytes(span.length) if index == FALSE else os.pread(span.fd, span.length, span.offset)
    key, digest = self._around.key, chunk_digest(data)
    word = Attestation.sign(blob, index, digest, Level.CONFIRMED, circle=self._around.circle(), key=key)
    file = os.memfd_create("chunk")
    try:
        os.write(file, data)
        return Span(file, 0, len(data), digest, word.to_bytes())
    finally:
        os.close(file)


if sys.argv[1] == "false":
    Court.vouch, Seeding._manifest, Seeding.seed = vouch_falsely, show_false_manifest, seed_falsely
elif sys.argv[1] == "foreign":
    Court.vouch = vouch_elsewhere
sys.argv = sys.argv[2:]
main()
