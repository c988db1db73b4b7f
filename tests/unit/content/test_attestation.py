"""Signed words for digests, and the table that says how far a chunk may go."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from p2pmodel.content import Attestation, Blob, BlobId, Circle, Grade, Level, Refusal, peers_grade
from p2pmodel.content.attestation import ATTESTATION_BYTES_MAX
from p2pmodel.content.naming import node_id_of
from p2pmodel.limits import ATTESTED_CHUNKS_MAX, CHUNK_BYTES

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
BLOB = Blob(BlobId("sha256", hashlib.sha256(b"blob").hexdigest()), 40 * CHUNK_BYTES + 1)
HERE = Circle(b"cluster1", frozenset({b"cluster2"}), frozenset({b"cluster0"}))


def word(first=0, count=2, level=Level.WITNESS, circle=HERE, blob=BLOB):
    digests = b"".join(bytes([index]) * 32 for index in range(first, first + count))
    return Attestation.sign(blob, first, digests, level, circle=circle, key=KEY)


def test_a_word_names_its_signer_its_chunks_and_their_digests():
    said = word(first=3, count=2)
    assert said.node == node_id_of(KEY.public_key().public_bytes_raw())
    assert list(said.chunks) == [3, 4]
    assert said.says(4, bytes([4]) * 32)
    assert not said.says(4, bytes(32))
    assert not said.says(5, bytes([5]) * 32)


def test_a_word_is_heard_where_it_belongs():
    assert word().refusal(BLOB, HERE) is None


@pytest.mark.scorecard("S7")
@pytest.mark.parametrize(
    ("blob", "circle", "reason"),
    [
        (Blob(BLOB.id, BLOB.size - 1), HERE, Refusal.OTHER_BLOB),
        (Blob(BlobId("sha256", "ab" * 32), BLOB.size), HERE, Refusal.OTHER_BLOB),
        (BLOB, Circle(b"cluster3"), Refusal.FOREIGN),
        (BLOB, Circle(b"cluster3", past=frozenset({HERE.cluster})), Refusal.OLD_EPOCH),
    ],
)
def test_a_word_from_elsewhere_is_refused_for_its_own_reason(blob, circle, reason):
    assert word().refusal(blob, circle) is reason


@pytest.mark.scorecard("S7")
def test_during_a_rotation_both_keys_count():
    assert word(circle=Circle(b"cluster2")).refusal(BLOB, HERE) is None


@given(st.integers(0, 8 * len(word().to_bytes()) - 1))
def test_no_bit_of_a_word_can_be_changed_unseen(bit):
    packed = bytearray(word().to_bytes())
    packed[bit // 8] ^= 1 << bit % 8
    try:
        [changed] = Attestation.take_all(bytes(packed))
    except ValueError:
        return
    assert changed.refusal(BLOB, HERE) is not None


@given(st.binary(max_size=ATTESTATION_BYTES_MAX))
def test_noise_is_no_word(data):
    try:
        words = Attestation.take_all(data)
    except ValueError:
        return
    assert all(noise.refusal(BLOB, HERE) is not None for noise in words)


def test_the_longest_word_has_the_size_that_the_wire_allows():
    assert len(word(count=ATTESTED_CHUNKS_MAX).to_bytes()) == ATTESTATION_BYTES_MAX


@pytest.mark.parametrize(("first", "count"), [(0, 0), (0, ATTESTED_CHUNKS_MAX + 1), (40, 2)])
def test_a_word_for_chunks_that_cannot_be_is_none(first, count):
    with pytest.raises(ValueError, match="attestation"):
        Attestation(BLOB, first, bytes(32 * count), Level.WITNESS, HERE.cluster, bytes(32), bytes(64))


def test_the_table_of_grades():
    rights = {grade: (grade.proves, grade.signs, grade.may_leave) for grade in Grade}
    assert rights == {
        Grade.ROOT: (True, None, True),
        Grade.OWN: (True, Level.WITNESS, True),
        Grade.QUORUM: (False, None, True),
        Grade.SINGLE: (False, None, False),
        Grade.MIRROR: (False, Level.MIRROR, False),
    }


@pytest.mark.parametrize(
    ("seals", "vouchers", "closed", "grade"),
    [
        (5, 0, True, Grade.SINGLE),
        (1, 2, True, Grade.SINGLE),
        (2, 2, True, Grade.QUORUM),
        (2, 2, False, Grade.SINGLE),
        (0, 0, True, Grade.SINGLE),
    ],
)
def test_seals_let_bytes_leave_only_in_a_closed_cluster_that_asks_for_so_few(seals, vouchers, closed, grade):
    assert peers_grade(seals, vouchers=vouchers, closed=closed) is grade
