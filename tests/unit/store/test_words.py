"""The words beside a partial blob: bounded, believed as far as they are whole, gone with the blob's last step."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fakes.stores import FaultyDisk, OnDisk, sample, seal_of, word_for
from hypothesis import given
from hypothesis import strategies as st

from p2pmodel.content import Grade
from p2pmodel.limits import CHUNK_BYTES, WORDS_KEPT_PER_CHUNK_MAX
from p2pmodel.store.disk import Disk
from p2pmodel.store.words import Kept, WordsFile, bytes_max, packed, parse, read

ONE = sample(1, 3 * CHUNK_BYTES)
OTHER = sample(2, 3 * CHUNK_BYTES)
WORDS = [word_for(ONE, 0), word_for(ONE, 0, 3), word_for(ONE, 1, 2)]
WHOLE = b"".join(packed(ONE.blob, word) for word in WORDS)
ENDS = [sum(len(packed(ONE.blob, word)) for word in WORDS[:count]) for count in range(4)]


def test_what_was_written_is_said():
    assert parse(ONE.blob, WHOLE) == Kept(WORDS, len(WHOLE))


@given(st.integers(0, len(WHOLE)))
def test_a_torn_tail_is_ignored(cut):
    left = sum(end <= cut for end in ENDS) - 1
    assert parse(ONE.blob, WHOLE[:cut]) == Kept(WORDS[:left], ENDS[left])


@given(st.integers(0, len(WHOLE) * 8 - 1))
def test_a_flipped_bit_ends_the_words_where_it_is(bit):
    whole = bytearray(WHOLE)
    whole[bit // 8] ^= 1 << bit % 8
    left = sum(end <= bit // 8 for end in ENDS) - 1
    assert parse(ONE.blob, bytes(whole)).words == WORDS[:left]


@given(st.binary(max_size=400))
def test_no_garbage_is_a_word(garbage):
    assert parse(ONE.blob, garbage) == Kept([], 0)


def test_a_word_of_another_blob_is_not_believed():
    other = word_for(OTHER, 0)
    for written in (packed(OTHER.blob, other), packed(ONE.blob, other)):
        assert parse(ONE.blob, written).words == []


@pytest.fixture
def file(tmp_path):
    file = WordsFile(Disk(fsync=False), tmp_path / "words", ONE.blob, Kept())
    yield file
    file.close()


def test_a_word_is_written_once_in_this_run_and_the_next(file, tmp_path):
    path = tmp_path / "words"
    file.append(WORDS[:2])
    file.append(WORDS[1:])
    again = WordsFile(Disk(fsync=False), path, ONE.blob, read(path, ONE.blob))
    again.append(WORDS)
    again.close()
    assert read(path, ONE.blob).words == WORDS


def test_who_signs_each_chunk_anew_does_not_fill_the_disk(file, tmp_path):
    for number in range(20):
        file.append([word_for(ONE, 0, 3, key=Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))])
    size = (tmp_path / "words").stat().st_size
    assert len(read(tmp_path / "words", ONE.blob).words) >= 3 * WORDS_KEPT_PER_CHUNK_MAX
    assert size <= bytes_max(ONE.blob) < 5000


def test_a_word_is_synced_before_the_record_that_rests_on_it(tmp_path):
    disk = FaultyDisk()
    house = OnDisk(tmp_path / "state", disk=disk)
    stored = house.store.open(ONE.blob, private=False)
    ONE.write(stored, [0], Grade.SINGLE, WORDS[1])
    disk.steps.clear()
    stored.commit()
    appended = ["unlink", "create", "write", "sync_data", "sync_directory"]
    assert disk.steps == ["sync_data", *appended, *appended]
    assert house.store.layout.public.words(ONE.blob.id).stat().st_size == len(packed(ONE.blob, WORDS[1]))
    ONE.write(stored, [1], Grade.SINGLE, WORDS[1])
    disk.steps.clear()
    stored.commit()
    assert disk.steps == ["sync_data", "write", "sync_data"], "a word that covers many chunks is written with the first"
    stored.close()
    house.close()


def test_no_words_are_left_beside_what_is_sealed_removed_or_was_left_by_another_version(house):
    shelf = house.store.layout.public
    stored = house.store.open(ONE.blob, private=False)
    ONE.write(stored, None, Grade.SINGLE, WORDS[1])
    stored.commit()
    assert shelf.words(ONE.blob.id).exists()
    stored.finish(None, seal_of(stored))
    stored.close()
    assert not list(shelf.partials.iterdir())
    shelf.words(ONE.blob.id).write_bytes(WHOLE)
    shelf.words(OTHER.blob.id).write_bytes(WHOLE)
    house.restart()
    assert not list(shelf.partials.iterdir())


@pytest.mark.parametrize("found", ["lost", "damaged", "a directory"])
def test_without_its_words_a_chunk_is_claimed_all_the_same(house, found):
    stored = house.store.open(ONE.blob, private=False)
    ONE.write(stored, [0], Grade.SINGLE, WORDS[1])
    stored.close()
    path = house.store.layout.public.words(ONE.blob.id)
    whole = path.read_bytes()
    path.unlink()
    if found == "damaged":
        path.write_bytes(whole[:-1])
    elif found == "a directory":
        path.mkdir()
    stored = house.restart().open(ONE.blob, private=False)
    assert (set(stored.claimed), stored.word(0)) == ({0}, None)
    if found == "a directory":
        path.rmdir()
    stored.close()
