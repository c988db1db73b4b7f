"""The record of durable chunks: whatever a crash or a bad sector leaves of it, only what was written is believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pmodel.content import Blob, BlobId, Grade
from p2pmodel.errors import StoreError
from p2pmodel.limits import CHUNK_BYTES
from p2pmodel.store.disk import Disk
from p2pmodel.store.record import ENTRY_BYTES, HEADER_BYTES, Claim, RecordFile, entry, header, parse, read

CHUNKS = 50
BLOB = Blob(BlobId("sha256", "ab" * 32), CHUNKS * CHUNK_BYTES)
RECORDED = [grade for grade in Grade if grade is not Grade.QUORUM]
claims = st.builds(Claim, st.binary(min_size=32, max_size=32), st.sampled_from(RECORDED))
entries = st.lists(st.tuples(st.integers(0, CHUNKS - 1), st.none() | claims), max_size=12)


def record(written):
    return header(BLOB) + b"".join(entry(BLOB, index, claim) for index, claim in written)


def said(written):
    """What a record of these entries says: the last one of each chunk counts."""
    return {index: claim for index, claim in dict(written).items() if claim is not None}


@given(entries)
def test_a_record_says_what_was_written(written):
    found = parse(record(written))
    assert (found.blob, dict(found.claims), found.length) == (BLOB, said(written), HEADER_BYTES + len(written) * ENTRY_BYTES)


@given(entries, st.data())
def test_a_torn_tail_is_ignored(written, data):
    whole = record(written)
    cut = data.draw(st.integers(HEADER_BYTES, len(whole)))
    left = (cut - HEADER_BYTES) // ENTRY_BYTES
    found = parse(whole[:cut])
    assert (dict(found.claims), found.length) == (said(written[:left]), HEADER_BYTES + left * ENTRY_BYTES)


@given(entries.filter(bool), st.data())
def test_a_flipped_bit_ends_the_record_where_it_is(written, data):
    whole = bytearray(record(written))
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8
    found = parse(bytes(whole))
    if bit // 8 < HEADER_BYTES:
        assert found is None
    else:
        assert dict(found.claims) == said(written[: (bit // 8 - HEADER_BYTES) // ENTRY_BYTES])


@given(entries, st.binary(max_size=200))
def test_garbage_after_the_record_is_not_believed(written, garbage):
    assert dict(parse(record(written) + b"\xff" * 5 + garbage).claims) == said(written)


@given(st.binary(max_size=300))
def test_no_garbage_is_a_record(garbage):
    assert parse(garbage) is None


def test_an_entry_of_another_blob_is_not_believed():
    other = Blob(BlobId("sha256", "cd" * 32), BLOB.size)
    assert not parse(header(BLOB) + entry(other, 0, Claim(bytes(32), Grade.OWN))).claims


def test_an_entry_beyond_the_blob_is_not_believed():
    assert not parse(header(BLOB) + entry(BLOB, CHUNKS, Claim(bytes(32), Grade.OWN))).claims


@pytest.fixture
def file(tmp_path):
    file = RecordFile(Disk(fsync=False), tmp_path / "record", BLOB)
    yield file
    file.close()


def test_a_record_is_made_with_its_first_entry(file):
    assert read(file._file.path) is None
    file.append([(0, Claim(bytes(32), Grade.OWN))])
    file.append([(1, Claim(bytes(32), Grade.SINGLE))])
    assert set(read(file._file.path).claims) == {0, 1}


def test_appending_goes_on_before_a_torn_tail(file):
    file.append([(0, Claim(bytes(32), Grade.OWN))])
    file.close()
    with file._file.path.open("ab") as raw:
        raw.write(entry(BLOB, 7, Claim(bytes(32), Grade.OWN))[:-1])
    again = RecordFile(Disk(fsync=False), file._file.path, BLOB, length=read(file._file.path).length)
    again.append([(1, Claim(bytes(32), Grade.OWN))])
    again.close()
    assert set(read(file._file.path).claims) == {0, 1}


def test_a_failed_append_is_made_good_by_the_next(file):
    class Torn(Disk):
        torn = True

        def write(self, fd, data, offset):
            if self.torn:
                super().write(fd, data[: len(data) // 2], offset)
                self.torn = False
                raise StoreError("torn")
            super().write(fd, data, offset)

    file.append([(0, Claim(bytes(32), Grade.OWN))])
    file._file._disk = Torn(fsync=False)
    with pytest.raises(StoreError):
        file.append([(1, Claim(bytes(32), Grade.OWN))])
    assert set(read(file._file.path).claims) == {0}
    file.append([(2, Claim(bytes(32), Grade.OWN))])
    assert set(read(file._file.path).claims) == {0, 2}
