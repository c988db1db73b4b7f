import pytest

from p2pmodel.content import BlobId
from p2pmodel.content.blob_filter import FILTER_BYTES, BlobFilter

KEY = bytes(range(32))
BLOBS = [BlobId("sha256", f"{n:064x}") for n in range(2200)]


def test_every_blob_that_was_put_in_is_found():
    made = BlobFilter.of(BLOBS[:200], KEY)
    assert all(made.may_hold(blob, KEY) for blob in BLOBS[:200])


def test_few_of_the_others_are_found():
    made = BlobFilter.of(BLOBS[:200], KEY)
    assert sum(made.may_hold(blob, KEY) for blob in BLOBS[200:]) < 2000 * 0.05


def test_without_the_key_it_says_nothing():
    made = BlobFilter.of(BLOBS[:50], KEY)
    found = sum(made.may_hold(blob, bytes(32)) for blob in BLOBS[:50])
    assert found <= 2


def test_an_empty_filter_holds_nothing():
    assert not BlobFilter.of([], KEY).may_hold(BLOBS[0], KEY)


@pytest.mark.parametrize("bits", [b"", bytes(FILTER_BYTES - 1), bytes(FILTER_BYTES + 1)])
def test_a_filter_of_another_size_is_refused(bits):
    with pytest.raises(ValueError, match="blob filter"):
        BlobFilter(bits)


def test_a_short_key_is_refused():
    with pytest.raises(ValueError, match="filter key"):
        BlobFilter.of(BLOBS[:1], b"short")
