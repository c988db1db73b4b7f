"""What delivery may rely on, of the store on disk and of the one in memory alike (delivery/ports)."""

import os
from dataclasses import replace

import pytest
from fakes.stores import COMMIT, REPO, InMemory, OnDisk, read, sample, seal_of, word_for

from p2pmodel.content import Blob, ChunkMap, FileEntry, Grade, Hub, Repo, RepoKind, Snapshot, chunk_digest
from p2pmodel.content.pieces import PIECE_ENTRY_BYTES, piece_entry
from p2pmodel.errors import StoreError, WrongBytesError
from p2pmodel.limits import CHUNK_BYTES

PIECES = b"".join(piece_entry(b"piece %d" % number) for number in range(3))
ONE = sample(1)
OTHER = sample(2)
SMALL = sample(3, 700, "git-sha1")


@pytest.fixture(params=["disk", "memory"])
def house(request, tmp_path):
    house = OnDisk(tmp_path / "state") if request.param == "disk" else InMemory()
    yield house
    house.close()


@pytest.fixture
def store(house):
    return house.store


def test_nothing_is_found_in_a_new_store(store):
    assert store.find(ONE.blob.id) is None
    assert list(store.blobs()) == []


def test_a_begun_blob_is_partial_and_holds_nothing(store):
    stored = store.open(ONE.blob, private=False)
    assert (stored.blob, stored.sealed, stored.private, stored.seal) == (ONE.blob, False, False, None)
    assert (len(stored.held), len(stored.own), len(stored.claimed), stored.digest(0)) == (0, 0, 0, None)
    assert store.find(ONE.blob.id).held == 0
    stored.close()


def test_a_written_chunk_is_held_at_once_with_its_digest(store):
    stored = store.open(ONE.blob, private=False)
    ONE.write(stored, [1])
    assert 1 in stored.held
    assert 0 not in stored.held
    assert stored.digest(1) == ONE.digest(1)
    assert stored.check(1)
    assert not stored.check(0)
    buffer = memoryview(bytearray(5))
    stored.read_into(1, buffer)
    assert buffer == ONE.chunk(1)
    assert store.find(ONE.blob.id).held == 1
    stored.close()


def test_only_a_chunk_of_grade_own_is_own_and_a_second_write_can_make_it_so(store):
    stored = store.open(ONE.blob, private=False)
    ONE.write(stored, [0], Grade.SINGLE)
    assert 0 in stored.held
    assert 0 not in stored.own
    ONE.write(stored, [0], Grade.OWN)
    assert 0 in stored.own
    ONE.write(stored, [0], Grade.SINGLE)
    assert 0 in stored.own
    stored.close()


def test_a_proof_makes_a_chunk_own_without_a_write_and_lasts(house):
    stored = house.store.open(ONE.blob, private=False)
    ONE.write(stored, [0], Grade.SINGLE)
    ONE.write(stored, [1], Grade.OWN)
    assert not stored.prove(0, ONE.digest(1)), "it is another chunk by now"
    assert 0 not in stored.own
    assert stored.prove(0, ONE.digest(0))
    assert stored.prove(1, ONE.digest(1))
    assert (0 in stored.own, stored.grade(0), stored.grade(1)) == (True, Grade.ROOT, Grade.OWN)
    with pytest.raises(WrongBytesError):
        stored.write(0, memoryview(bytes(CHUNK_BYTES)), chunk_digest(bytes(CHUNK_BYTES)), Grade.SINGLE)
    stored.commit()
    stored = house.crash().open(ONE.blob, private=False)
    assert stored.confirm(0)
    assert (0 in stored.own, stored.grade(0)) == (True, Grade.ROOT)
    ONE.write(stored, [0], Grade.OWN)
    assert stored.grade(0) is Grade.OWN
    stored.close()


def test_what_is_not_here_or_sealed_cannot_be_proven(store):
    stored = store.open(ONE.blob, private=False)
    assert not stored.prove(0, ONE.digest(0))
    ONE.write(stored)
    stored.finish(None, seal_of(stored))
    assert not stored.prove(0, ONE.digest(0))
    stored.close()


def test_a_chunk_of_another_size_is_the_callers_bug(store):
    stored = store.open(ONE.blob, private=False)
    with pytest.raises(ValueError, match="chunk 1"):
        stored.write(1, memoryview(b"four"), bytes(32), Grade.OWN)
    stored.close()


def test_another_digest_replaces_the_chunk(store):
    stored = store.open(ONE.blob, private=False)
    stored.write(1, memoryview(b"false"), chunk_digest(b"false"), Grade.SINGLE)
    ONE.write(stored, [1])
    assert stored.digest(1) == ONE.digest(1)
    assert stored.check(1)
    stored.close()


def test_the_maps_are_the_same_objects_for_the_blobs_whole_life(house):
    stored = house.store.open(ONE.blob, private=False)
    maps = stored.held, stored.own, stored.claimed
    ONE.write(stored)
    stored.commit()
    stored.drop([0])
    ONE.write(stored, [0])
    stored.finish(None, seal_of(stored))
    house.damage(ONE.blob.id, 1)
    stored.check(1)
    assert all(now is then for now, then in zip((stored.held, stored.own, stored.claimed), maps, strict=True))
    stored.close()


def test_concurrent_opens_share_one_object_that_lives_until_its_last_close(store):
    first, second = (store.open(ONE.blob, private=False) for _ in range(2))
    assert first is second
    first.close()
    ONE.write(second)
    assert read(second) == ONE.data
    second.close()


def test_a_blob_that_was_begun_in_vain_leaves_nothing(house):
    house.store.open(ONE.blob, private=False).close()
    assert house.store.find(ONE.blob.id) is None
    assert list(house.restart().blobs()) == []


def test_what_was_committed_is_claimed_after_a_crash_and_the_rest_is_forgotten(house):
    stored = house.store.open(ONE.blob, private=False)
    ONE.write(stored, [0])
    stored.commit()
    ONE.write(stored, [1])
    stored = house.crash().open(ONE.blob, private=False)
    assert (set(stored.held), set(stored.claimed)) == (set(), {0})
    assert stored.digest(0) == ONE.digest(0)
    assert stored.digest(1) is None
    assert not stored.check(0)
    stored.close()


def test_a_clean_close_records_everything_and_still_only_claims_it(house):
    stored = house.store.open(ONE.blob, private=False)
    ONE.write(stored)
    stored.close()
    for run in (lambda: house.store, house.restart):
        store = run()
        assert store.find(ONE.blob.id).held == 2
        stored = store.open(ONE.blob, private=False)
        assert (len(stored.held), len(stored.claimed)) == (0, 2)
        stored.close()


def test_a_confirmed_chunk_is_held_with_the_grade_it_had(house):
    stored = house.store.open(ONE.blob, private=False)
    ONE.write(stored, [0], Grade.OWN)
    ONE.write(stored, [1], Grade.SINGLE)
    stored.commit()
    stored = house.crash().open(ONE.blob, private=False)
    assert stored.confirm(0)
    assert stored.confirm(1)
    assert stored.confirm(1)
    assert (set(stored.held), set(stored.own), set(stored.claimed)) == ({0, 1}, {0}, set())
    stored.finish(None, seal_of(stored))
    assert read(stored) == ONE.data
    stored.close()


def test_the_word_that_a_chunk_came_with_is_durable_with_it_and_goes_when_the_chunk_goes(house):
    stored = house.store.open(ONE.blob, private=False)
    word = word_for(ONE, 0, 2)
    ONE.write(stored, [0], Grade.SINGLE, word)
    stored.commit()
    ONE.write(stored, [1], Grade.SINGLE, word)
    assert [stored.word(index) for index in range(2)] == [word, word]
    stored = house.crash().open(ONE.blob, private=False)
    assert (stored.word(0), stored.word(1)) == (word, None), "of what is not here nothing is said"
    assert stored.confirm(0)
    assert stored.word(0) == word
    stored.drop([0])
    assert stored.word(0) is None
    stored.close()


def test_words_are_kept_until_the_seal_and_no_longer(house):
    stored = house.store.open(ONE.blob, private=False)
    ONE.write(stored, None, Grade.SINGLE, word_for(ONE, 0, 2))
    stored.close()
    stored = house.restart().open(ONE.blob, private=False)
    assert all(stored.confirm(index) for index in range(2))
    stored.finish(None, seal_of(stored))
    assert stored.word(0) is None
    stored.drop([0])
    assert stored.word(1) is None, "our own check stands behind it"
    stored.close()


def test_words_stay_with_a_blob_that_becomes_public(house):
    stored = house.store.open(ONE.blob, private=True)
    ONE.write(stored, [0], Grade.SINGLE, word_for(ONE, 0))
    stored.commit()
    stored.publish()
    stored = house.crash().open(ONE.blob, private=False)
    assert stored.word(0) == word_for(ONE, 0)
    stored.close()


def test_a_claimed_chunk_that_is_not_what_the_record_says_is_forgotten_for_good(house):
    stored = house.store.open(ONE.blob, private=False)
    ONE.write(stored)
    stored.commit()
    house.crash()
    house.damage(ONE.blob.id, 0)
    stored = house.store.open(ONE.blob, private=False)
    assert not stored.confirm(0)
    assert stored.confirm(1)
    assert (set(stored.held), set(stored.claimed), stored.digest(0)) == ({1}, set(), None)
    stored.close()
    stored = house.restart().open(ONE.blob, private=False)
    assert set(stored.claimed) == {1}
    stored.close()


def test_confirming_a_held_chunk_hashes_it_again(house):
    stored = house.store.open(ONE.blob, private=False)
    ONE.write(stored)
    house.damage(ONE.blob.id, 1)
    assert stored.confirm(0)
    assert not stored.confirm(1)
    assert set(stored.held) == {0}
    assert not stored.confirm(1)
    stored.close()


def test_a_dropped_chunk_is_not_claimed_by_the_next_run(house):
    stored = house.store.open(ONE.blob, private=False)
    ONE.write(stored)
    stored.commit()
    stored.drop([0])
    assert (set(stored.held), set(stored.own), stored.digest(0)) == ({1}, {1}, None)
    stored.commit()
    stored = house.crash().open(ONE.blob, private=False)
    assert set(stored.claimed) == {1}
    stored.close()


def test_a_chunk_that_was_replaced_is_claimed_as_what_it_is_now(house):
    stored = house.store.open(ONE.blob, private=False)
    stored.write(1, memoryview(b"false"), chunk_digest(b"false"), Grade.SINGLE)
    stored.commit()
    ONE.write(stored, [1])
    stored.commit()
    stored = house.crash().open(ONE.blob, private=False)
    assert stored.digest(1) == ONE.digest(1)
    assert stored.confirm(1)
    stored.close()


def test_only_a_complete_blob_can_be_finished(store):
    stored = store.open(ONE.blob, private=False)
    ONE.write(stored, [0])
    with pytest.raises(StoreError):
        stored.finish(None, seal_of(stored))
    with pytest.raises(StoreError):
        stored.manifest()
    assert not stored.sealed
    stored.close()


def test_a_finished_blob_is_sealed_keeps_its_descriptor_and_survives_a_crash(house):
    stored = house.store.open(ONE.blob, private=False)
    ONE.write(stored)
    fd = stored.fileno()
    stored.finish(None, seal_of(stored))
    assert stored.sealed
    assert stored.seal == seal_of(stored)
    assert stored.fileno() == fd
    assert read(stored) == ONE.data
    store = house.crash()
    assert store.find(ONE.blob.id).sealed
    assert store.find(ONE.blob.id).held == 2
    stored = store.open(ONE.blob, private=False)
    assert stored.sealed
    assert stored.held.complete
    assert stored.seal == seal_of(stored)
    assert [stored.digest(index) for index in range(2)] == [ONE.digest(index) for index in range(2)]
    assert stored.manifest().digests == ONE.digest(0) + ONE.digest(1)
    assert all(stored.check(index) for index in range(2))
    stored.close()


def test_a_hedge_that_comes_after_the_seal_changes_nothing(store):
    stored = store.open(ONE.blob, private=False)
    ONE.write(stored)
    stored.finish(None, seal_of(stored))
    stored.write(1, memoryview(b"false"), chunk_digest(b"false"), Grade.OWN)
    assert read(stored) == ONE.data
    assert stored.digest(1) == ONE.digest(1)
    stored.close()


def test_finishing_twice_keeps_the_newer_seal(house):
    ONE.put(house.store)
    stored = house.store.open(ONE.blob, private=False)
    newer = replace(seal_of(stored), signer=b"n" * 32)
    stored.finish(None, newer)
    stored.close()
    stored = house.restart().open(ONE.blob, private=False)
    assert stored.seal == newer
    stored.close()


def test_an_empty_blob_is_complete_at_once(store):
    empty = sample(0, 0)
    stored = store.open(empty.blob, private=False)
    assert stored.held.complete
    stored.finish(None, seal_of(stored))
    stored.close()
    assert store.find(empty.blob.id).sealed


def test_damage_in_a_sealed_blob_is_noticed_and_mended_in_place(house):
    ONE.put(house.store)
    house.damage(ONE.blob.id, 1)
    stored = house.restart().open(ONE.blob, private=False)
    before = os.fstat(stored.fileno()).st_ino
    assert stored.check(0)
    assert not stored.check(1)
    assert not stored.sealed
    assert set(stored.held) == {0} == set(stored.own)
    assert stored.digest(1) == ONE.digest(1), "the digests of a sealed blob are proven"
    assert not house.store.find(ONE.blob.id).sealed
    ONE.write(stored, [1])
    stored.finish(None, seal_of(stored))
    assert read(stored) == ONE.data
    assert os.fstat(stored.fileno()).st_ino == before
    stored.close()
    assert house.restart().find(ONE.blob.id).sealed


def test_damage_found_before_a_crash_does_not_cost_the_other_chunks(house):
    ONE.put(house.store)
    house.damage(ONE.blob.id, 1)
    stored = house.restart().open(ONE.blob, private=False)
    assert not stored.check(1)
    stored = house.crash().open(ONE.blob, private=False)
    assert (stored.sealed, set(stored.claimed)) == (False, {0})
    assert stored.confirm(0)
    assert 0 in stored.own
    stored.close()


def test_a_chunk_dropped_from_a_sealed_blob_unseals_it(store):
    ONE.put(store)
    stored = store.open(ONE.blob, private=False)
    stored.drop([0])
    assert not stored.sealed
    assert set(stored.held) == {1}
    stored.close()


def test_another_size_under_the_same_name_is_refused_once_the_size_is_proven(store):
    wrong = Blob(ONE.blob.id, ONE.blob.size - 1)
    stored = store.open(wrong, private=False)
    with pytest.raises(StoreError, match="size"):
        store.open(ONE.blob, private=False)
    stored.write(0, ONE.chunk(0), ONE.digest(0), Grade.SINGLE)
    stored.close()
    ONE.put(store)
    with pytest.raises(StoreError, match="size"):
        store.open(wrong, private=False)
    assert store.find(ONE.blob.id).blob == ONE.blob


# Two names for the same bytes


def test_an_alias_leads_to_the_same_state_and_the_same_object(house):
    SMALL.put(house.store, alias=SMALL.alias)
    for run in (lambda: house.store, house.restart):
        store = run()
        assert store.find(SMALL.alias) == store.find(SMALL.blob.id)
        stored = store.open(Blob(SMALL.alias, SMALL.blob.size), private=False)
        assert stored.sealed
        assert stored.blob == SMALL.blob
        stored.close()
        assert len(store.blobs()) == 1


def test_finishing_bytes_that_are_sealed_under_their_alias_keeps_one_file(store):
    twin = sample(3, 700, "sha256")
    SMALL.put(store)
    stored = store.open(twin.blob, private=False)
    twin.write(stored)
    stored.finish(twin.alias, seal_of(stored))
    assert stored.sealed
    assert read(stored) == SMALL.data
    assert stored.check(0)
    assert [state.blob for state in store.blobs()] == [SMALL.blob]
    assert store.find(twin.blob.id) == store.find(SMALL.blob.id)
    stored.close()
    assert store.find(twin.blob.id).sealed


# Private and public


def test_a_private_blob_is_in_no_inventory(house):
    before = house.store.inventory()
    ONE.put(house.store, private=True)
    assert house.store.inventory() == before
    assert house.store.inventory_since(before[0]) == []
    assert house.store.find(ONE.blob.id).private
    assert house.restart().find(ONE.blob.id).private


@pytest.mark.parametrize("sealed", [False, True])
def test_a_private_blob_becomes_public_when_it_is_published_and_not_by_being_opened(house, sealed):
    stored = house.store.open(ONE.blob, private=True)
    ONE.write(stored)
    stored.commit()
    if sealed:
        stored.finish(None, seal_of(stored))
    sequence, _ = house.store.inventory()
    assert house.store.open(ONE.blob, private=False) is stored
    assert stored.private
    stored.publish()
    assert not stored.private
    assert [entry.state for entry in house.store.inventory_since(sequence)] == [2 if sealed else 1]
    assert read(stored) == ONE.data
    stored.close()
    assert house.store.open(ONE.blob, private=True) is stored
    assert not stored.private
    stored.close()
    stored.close()
    store = house.crash()
    assert not store.find(ONE.blob.id).private
    stored = store.open(ONE.blob, private=False)
    assert (stored.held if sealed else stored.claimed) == ChunkMap.full(2)
    stored.close()


def test_a_part_of_a_public_blob_can_be_withdrawn_and_one_that_was_whole_here_cannot(house):
    stored = house.store.open(ONE.blob, private=False)
    ONE.write(stored, [1])
    stored.commit()
    sequence, _ = house.store.inventory()
    stored.withdraw()
    stored.withdraw()
    assert stored.private
    assert [entry.state for entry in house.store.inventory_since(sequence)] == [0]
    ONE.write(stored, [0])
    stored.close()
    assert house.crash().find(ONE.blob.id).private
    stored = house.restart().open(ONE.blob, private=True)
    assert stored.claimed == ChunkMap.full(2)
    stored.publish()
    ONE.write(stored)
    stored.finish(None, seal_of(stored))
    stored.withdraw()
    assert not stored.private
    stored.drop([0])
    stored.withdraw()
    assert not stored.private
    stored.close()


# The inventory


def test_the_inventory_number_rises_by_one_with_each_public_change(store):
    start, _ = store.inventory()
    stored = store.open(ONE.blob, private=False)
    assert store.inventory()[0] == start + 1
    ONE.write(stored)
    stored.commit()
    store.open(ONE.blob, private=False).close()
    assert store.inventory()[0] == start + 1
    stored.finish(None, seal_of(stored))
    assert store.inventory()[0] == start + 2
    stored.close()
    assert [(entry.blob, entry.size, entry.state) for entry in store.inventory_since(start)] == [
        (ONE.blob.id, ONE.blob.size, 2)
    ]
    assert store.inventory_since(start + 2) == []


def test_an_inventory_number_that_is_not_of_this_run_gets_everything(house):
    ONE.put(house.store)
    sequence, _ = house.store.inventory()
    assert house.store.inventory_since(sequence + 1) is None
    assert house.restart().inventory_since(0) is None


def test_stores_with_the_same_public_blobs_have_the_same_digest(house):
    other = InMemory()
    for blob in (ONE, OTHER):
        blob.put(house.store)
    for blob in (OTHER, ONE):
        assert other.store.inventory()[1] != house.store.inventory()[1]
        blob.put(other.store)
    assert len(house.store.inventory()[1]) == 16
    assert house.store.inventory()[1] == other.store.inventory()[1] == house.restart().inventory()[1]
    other.close()


# How files are cut


def test_the_list_of_a_sealed_blobs_pieces_is_kept_beside_it(house):
    ONE.put(house.store)
    assert house.store.pieces(ONE.blob.id, 0, 10) == b""
    house.store.keep_pieces(ONE.blob.id, PIECES[PIECE_ENTRY_BYTES:])
    house.store.keep_pieces(ONE.blob.id, PIECES)
    store = house.restart()
    assert store.pieces(ONE.blob.id, 0, 10) == PIECES
    assert store.pieces(ONE.blob.id, 1, 1) == PIECES[PIECE_ENTRY_BYTES : 2 * PIECE_ENTRY_BYTES]
    assert store.pieces(ONE.blob.id, 3, 10) == b""
    store.open(ONE.blob, private=False).close()
    assert store.pieces(ONE.blob.id, 0, 1)


def test_what_is_not_sealed_has_no_list(store):
    store.keep_pieces(OTHER.blob.id, PIECES)
    stored = store.open(OTHER.blob, private=False)
    store.keep_pieces(OTHER.blob.id, PIECES)
    assert store.pieces(OTHER.blob.id, 0, 1) == b""
    stored.close()


# What hubs said


def snapshot_of(*blobs, repo=REPO, public=True):
    files = tuple(FileEntry(f"file-{n}.bin", blob.blob.size, blob.blob) for n, blob in enumerate(blobs))
    return Snapshot(repo, COMMIT, (*files, FileEntry("no-hash.txt", 3, None)), b'{"any": "json"}', public)


def test_a_snapshot_comes_back_as_it_was_put(house):
    snapshot = snapshot_of(ONE, SMALL)
    house.store.put_snapshot(snapshot)
    for run in (lambda: house.store, house.crash):
        store = run()
        assert store.snapshot(REPO, COMMIT) == snapshot
        assert store.snapshot(REPO, "0" * 40) is None
        assert store.snapshot(Repo(Hub.MODELSCOPE, RepoKind.MODEL, REPO.name), COMMIT) is None
        assert list(store.snapshots()) == [(REPO, COMMIT)]


def test_a_ref_is_what_the_hub_last_said(house):
    assert house.store.ref(REPO, "main") is None
    house.store.put_ref(REPO, "main", "0" * 40)
    house.store.put_ref(REPO, "main", COMMIT)
    assert house.crash().ref(REPO, "main") == COMMIT


def test_documents_are_kept_by_key(house):
    house.store.put_document("info", b"{}")
    house.store.put_document("info", b"[]")
    store = house.crash()
    assert (store.document("info"), store.document("other")) == (b"[]", None)


def test_a_snapshot_is_materialised_with_what_is_sealed(store):
    ONE.put(store)
    snapshot = snapshot_of(ONE, OTHER)
    path = store.materialise(snapshot, snapshot.files)
    assert path.parts[-3:] == ("models--org--model", "snapshots", COMMIT)
    assert store.materialise(snapshot, snapshot.files) == path


def test_a_spool_gives_back_what_was_written_and_leaves_nothing_behind(store):
    spool = store.spool(10)
    spool.write(b"world", 5)
    spool.write(b"hello", 0)
    buffer = memoryview(bytearray(10))
    assert spool.read_into(buffer, 0) == 10
    assert buffer == b"helloworld"
    assert spool.read_into(buffer, 8) == 2
    spool.grow(3)
    spool.write(b"!!!", 10)
    assert spool.read_into(buffer, 8) == 5
    assert buffer[:5] == b"ld!!!"
    spool.close()
    assert list(store.blobs()) == []
