"""What watchers are told, and in which order."""

from types import SimpleNamespace

from p2pmodel.content import Blob, BlobId
from p2pmodel.delivery.herald import Herald
from p2pmodel.wire.messages import Claims, Held

BLOB = Blob(BlobId("sha256", "ab" * 32), 1)


class Told:
    def __init__(self):
        self.messages = []

    def send(self, peer, message):
        self.messages.append((peer, type(message)))


def test_a_claim_does_not_end_before_the_chunk_is_told_to_be_here():
    neighbours = Told()
    herald = Herald(neighbours)
    herald.watch(BLOB.id, "peer")
    herald.arrived(BLOB.id, 0)
    herald.claims(SimpleNamespace(blob=BLOB, own_claims=lambda: ([], [])))
    assert neighbours.messages == [("peer", Held), ("peer", Claims)]
