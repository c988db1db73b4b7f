"""What watchers are told, and in which order."""

from types import SimpleNamespace

from p2pmodel.content import Blob, BlobId
from p2pmodel.delivery.herald import Herald
from p2pmodel.wire.messages import Claims, Have, Held
from p2pmodel.wire.packed import unpack_indices

BLOB = Blob(BlobId("sha256", "ab" * 32), 1)


class Told:
    def __init__(self):
        self.messages = []

    def send(self, peer, message):
        self.messages.append((peer, type(message)))


async def test_a_claim_does_not_end_before_the_chunk_is_told_to_be_here():
    neighbours = Told()
    herald = Herald(neighbours)
    herald.wants(BLOB.id, "peer", watch=True)
    herald.arrived(BLOB.id, 0)
    herald.claims(SimpleNamespace(blob=BLOB, own_claims=lambda _now: ([], [], [])))
    assert neighbours.messages == [("peer", Held), ("peer", Claims)]


def test_what_is_handed_out_is_told_once_and_only_where_others_could_fetch_something_else():
    said = []
    herald = Herald(SimpleNamespace(send=lambda peer, message: said.append((peer, unpack_indices(message.given)))))
    herald.wants(BLOB.id, "one", watch=True)
    herald.gives(BLOB.id, 0)
    herald.flush()
    assert said == []
    herald.wants(BLOB.id, "two", watch=True)
    for chunk in (0, 3, 0, 5):
        herald.gives(BLOB.id, chunk)
    herald.flush()
    herald.flush()
    assert said == [("one", [0, 3, 5]), ("two", [0, 3, 5])]
    for peer in ("one", "two"):
        herald.wants_no_more(BLOB.id, peer)
    for peer in ("one", "two"):
        herald.wants(BLOB.id, peer, watch=True)
    herald.gives(BLOB.id, 3)
    herald.flush()
    assert said[2:] == [("one", [3]), ("two", [3])], "those who come later were told nothing yet"


def test_who_wants_a_blob_and_does_not_watch_it_hears_only_that_it_is_whole():
    neighbours = Told()
    herald = Herald(neighbours)
    herald.wants(BLOB.id, "peer", watch=False)
    herald.arrived(BLOB.id, 0)
    herald.flush()
    assert neighbours.messages == []
    herald.complete(BLOB.id, Have(blob=BLOB.id.to_bytes(), size=BLOB.size, sealed=True, wanted=False, chunks=b"\1"))
    assert neighbours.messages == [("peer", Have)]


def test_what_is_lost_is_told_to_all_who_want_the_blob_as_it_is_when_it_is_told():
    neighbours = Told()
    herald = Herald(neighbours)
    herald.wants(BLOB.id, "watches", watch=True)
    herald.wants(BLOB.id, "wants", watch=False)
    for chunks in (b"\0", b"\1"):
        have = Have(blob=BLOB.id.to_bytes(), size=BLOB.size, sealed=False, wanted=True, chunks=chunks)
        herald.lost(BLOB.id, lambda have=have: have)
    herald.flush()
    herald.flush()
    assert neighbours.messages == [("watches", Have), ("wants", Have)]
