"""Xorbs and shards as they stream by: read wherever they are cut, and nothing hostile costs more than it is long."""

import tracemalloc
from itertools import accumulate

import lz4.frame
import pytest
from fakes.xet import GROUPED, LZ4, PLAIN, cut, entry, frame, packed, shard, xorb
from hypothesis import given
from hypothesis import strategies as st
from noise import noise

from p2pmodel.content.xet import ShardReader, Term, XorbReader, unpack, xet_bytes, xet_text
from p2pmodel.limits import XET_CHUNK_BYTES_MAX, XET_SHARD_TERMS_MAX, XET_XORB_CHUNKS_MAX

DATA = noise(1, 200_000) + b"packs well " * 20_000
CHUNKS = cut(DATA)
NAME = "0123456789abcdef" * 4


def read(data, step):
    reader = XorbReader()
    for at in range(0, len(data), step):
        reader.feed(data[at : at + step])
    return reader


def unpacked(data, reader):
    return [unpack(memoryview(data)[reader.starts[n] : reader.starts[n + 1]]) for n in range(len(reader.starts) - 1)]


@pytest.mark.parametrize("scheme", [PLAIN, LZ4, GROUPED])
@pytest.mark.parametrize("step", [1 << 20, 65_536, 7])
def test_chunks_are_found_wherever_the_stream_is_cut(scheme, step):
    data = xorb(CHUNKS, scheme)
    reader = read(data, step)
    assert reader.whole
    assert list(reader.offsets) == list(accumulate(map(len, CHUNKS), initial=0))
    assert unpacked(data, reader) == CHUNKS


@pytest.mark.parametrize("size", range(9))
def test_bytes_that_stand_together_by_place_are_put_in_order_again(size):
    data = bytes(range(size))
    assert unpack(memoryview(frame(packed(data, GROUPED), GROUPED, size))) == data


def test_a_footer_is_none_of_the_chunks():
    data = xorb([b"a" * 9000])
    reader = read(data + b"XETBLOB" + bytes(90), 13)
    assert reader.whole
    assert list(reader.offsets) == [0, 9000]


@pytest.mark.parametrize("missing", [1, 5, 8990, 9007])
def test_a_xorb_that_ends_early_is_not_whole(missing):
    assert not read(xorb([b"b" * 9000, b"a" * 9000])[:-missing], 4096).whole


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (frame(b"", 3, 1), "not known"),
        (frame(bytes(300_000), PLAIN, 300_000)[:8], "too long"),
        (frame(b"", LZ4, XET_CHUNK_BYTES_MAX + 1), "too long"),
    ],
)
def test_heads_that_cannot_be_right_are_refused_at_once(head, reason):
    with pytest.raises(ValueError, match=reason):
        XorbReader().feed(head)


def test_only_so_many_chunks_are_remembered():
    reader = XorbReader()
    with pytest.raises(ValueError, match="too many"):
        reader.feed(frame(b"", PLAIN, 0) * (XET_XORB_CHUNKS_MAX + 1))


@pytest.mark.parametrize(
    "chunk",
    [
        frame(b"12345", PLAIN, 6),
        frame(b"12345", LZ4, 5),
        frame(packed(b"x" * 99, LZ4), LZ4, 98),
        frame(packed(b"x" * 99, LZ4), LZ4, 100),
        frame(packed(b"x" * 99, LZ4)[:-9], LZ4, 99),
        frame(b"12345", PLAIN, 5)[:-1],
        frame(b"", GROUPED, 4),
    ],
)
def test_a_chunk_that_is_not_what_its_head_says_is_refused(chunk):
    with pytest.raises(ValueError, match="chunk"):
        unpack(memoryview(chunk))


def test_a_bomb_takes_no_more_than_its_head_says():
    bomb = memoryview(frame(lz4.frame.compress(bytes(60 << 20))[:250_000], LZ4, 1000))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="another length"):
            unpack(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def files(data, step=1 << 20):
    reader = ShardReader()
    for at in range(0, len(data), step):
        reader.feed(data[at : at + step])
    return reader


@pytest.mark.parametrize("step", [1, 47, 48, 1000])
@pytest.mark.parametrize("verified", [True, False])
def test_a_shard_names_files_and_their_terms(step, verified):
    sent = [("ab" * 32, [(NAME, 100, 0, 2), (NAME, 50, 5, 6)]), ("cd" * 32, [])]
    reader = files(shard(*sent, verified=verified, rest=b"chunks of xorbs" * 1000), step)
    assert reader.whole
    one, other = reader.files
    assert (one.sha256, one.size) == ("ab" * 32, 150)
    assert list(one.terms()) == [Term(xet_bytes(NAME), 0, 2, 100), Term(xet_bytes(NAME), 5, 6, 50)]
    assert (other.sha256, other.size, list(other.terms())) == ("cd" * 32, 0, [])


def test_files_without_a_sha256_have_no_name_here():
    assert files(shard(("ab" * 32, [(NAME, 100, 0, 2)]), named=False)).files == []


def test_a_shard_that_ends_early_is_not_whole():
    data = shard(("ab" * 32, [(NAME, 100, 0, 2)]))
    assert not any(files(data[:length]).whole for length in range(0, len(data), 16))


def test_what_is_no_shard_or_too_much_of_one_is_refused():
    with pytest.raises(ValueError, match="no shard"):
        files(b"HFRepoMetaDatx" * 10)
    for count in (XET_SHARD_TERMS_MAX + 1, 0xFFFFFFFF):
        with pytest.raises(ValueError, match="too many"):
            files(shard()[:48] + entry(b"f" * 32, 0, count))
    with pytest.raises(ValueError, match="too many"):
        files(shard()[:48] + entry(b"f" * 32, 0, 0) * (XET_SHARD_TERMS_MAX + 1))


def test_hashes_are_written_as_four_little_endian_numbers():
    text, data = "07060504030201000f0e0d0c0b0a090817161514131211101f1e1d1c1b1a1918", bytes(range(32))
    assert xet_text(data) == text
    assert xet_bytes(text) == data
    with pytest.raises(ValueError, match="64 digits"):
        xet_bytes("ab")


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_are_read_or_refused(data, headed):
    for reader, start in ((XorbReader(), b""), (ShardReader(), shard()[:48] if headed else b"")):
        try:
            reader.feed(start + data)
        except ValueError:
            continue
        assert reader.whole in {True, False}
