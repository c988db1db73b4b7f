import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from p2pmodel.content import Blob, BlobId, Circle, NodeId, Refusal, Voucher
from p2pmodel.content.voucher import VOUCHER_BYTES

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
BLOB = Blob(BlobId("sha256", "ab" * 32), 40 << 20)
ROOT = bytes(range(32, 64))
HERE = Circle(b"here....", frozenset({b"newkey.."}), frozenset({b"oldkey.."}))
OURS = Voucher.sign(BLOB, ROOT, circle=HERE, key=KEY)
GIVER = OURS.node


def in_circle(tag):
    return Voucher.sign(BLOB, ROOT, circle=Circle(tag), key=KEY)


def test_a_voucher_is_read_as_it_was_written():
    packed = OURS.to_bytes()
    assert len(packed) == VOUCHER_BYTES
    assert Voucher.from_bytes(packed) == OURS


@pytest.mark.scorecard("S7")
@pytest.mark.parametrize(
    ("voucher", "blob", "giver", "refusal"),
    [
        (OURS, BLOB, GIVER, None),
        (in_circle(b"newkey.."), BLOB, GIVER, None),
        (in_circle(b"oldkey.."), BLOB, GIVER, Refusal.OLD_EPOCH),
        (in_circle(b"others.."), BLOB, GIVER, Refusal.FOREIGN),
        (OURS, Blob(BLOB.id, BLOB.size + 1), GIVER, Refusal.OTHER_BLOB),
        (OURS, Blob(BlobId("sha256", "cd" * 32), BLOB.size), GIVER, Refusal.OTHER_BLOB),
        (OURS, BLOB, NodeId("0" * 40), Refusal.NOT_ITS_OWN),
    ],
)
def test_a_voucher_from_elsewhere_is_refused_for_its_own_reason(voucher, blob, giver, refusal):
    assert voucher.refusal(blob, giver, HERE) is refusal


@given(st.integers(0, 8 * VOUCHER_BYTES - 1))
def test_no_bit_of_it_can_be_changed(bit):
    packed = bytearray(OURS.to_bytes())
    packed[bit // 8] ^= 1 << bit % 8
    try:
        changed = Voucher.from_bytes(bytes(packed))
    except ValueError:
        return
    assert changed.refusal(changed.blob, changed.node, Circle(changed.cluster)) is Refusal.FORGED


@given(st.binary(max_size=2 * VOUCHER_BYTES))
def test_noise_is_no_voucher(data):
    try:
        voucher = Voucher.from_bytes(data)
    except ValueError:
        return
    assert voucher.refusal(voucher.blob, voucher.node, Circle(voucher.cluster)) is Refusal.FORGED
