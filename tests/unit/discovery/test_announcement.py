from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pmodel.content import BlobId
from p2pmodel.content.blob_filter import BlobFilter
from p2pmodel.discovery import Announcement

KEY = bytes(32)
SAID = Announcement(
    node="ab" * 20,
    tag="0123456789abcdef",
    port=65535,
    boot=b"\xff" * 8,
    sequence=2**63 - 1,
    digest=b"\xee" * 16,
    filter=BlobFilter.of([BlobId("sha256", f"{n:064x}") for n in range(500)], KEY),
)


def wire(txt):
    return {key.encode(): value for key, value in txt.items()}


def test_what_is_said_is_heard():
    assert Announcement.from_txt(wire(SAID.to_txt(7))) == SAID


def test_the_largest_record_stays_under_400_bytes():
    txt = SAID.to_txt(10**9)
    assert sum(1 + len(key) + 1 + len(value) for key, value in txt.items()) < 400


def test_a_record_that_would_not_fit_is_refused():
    with pytest.raises(ValueError, match="TXT record"):
        SAID.to_txt(10**60)


def test_unknown_keys_are_ignored():
    assert Announcement.from_txt({**wire(SAID.to_txt(1)), b"new": b"x", b"flag": None}) == SAID


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("v", b"2"), ("v", None), ("id", b"AB" * 20), ("id", b"ab" * 19), ("id", None), ("c", b"x"), ("p", b"0"),
        ("p", b"70000"), ("p", b"-1"), ("s", b"ff.1"), ("s", b"f" * 16 + b".-1"), ("s", b"f" * 16),
        ("d", b"zz"), ("d", None), ("f", b"short"),
    ],
)  # fmt: skip
def test_a_malformed_record_is_refused(key, value):
    with pytest.raises(ValueError, match=r"version|malformed|range|filter"):
        Announcement.from_txt({**wire(SAID.to_txt(1)), key.encode(): value})


@given(st.dictionaries(st.sampled_from([b"v", b"id", b"c", b"p", b"s", b"d", b"f"]), st.binary(max_size=60) | st.none()))
def test_nothing_but_value_errors_comes_of_any_record(txt):
    with suppress(ValueError):
        Announcement.from_txt({b"v": b"1", **txt})
