"""Damage, loss, quota and eviction of the store on disk: what the contract suite cannot see from outside."""

import hashlib
import os
import sqlite3
import threading
from pathlib import Path

import pytest
from fakes.stores import COMMIT, REPO, FaultyDisk, OnDisk, read, sample, seal_of

from p2pmodel.content import FileEntry, Snapshot
from p2pmodel.errors import StoreError, StoreFullError, StoreTooNewError
from p2pmodel.limits import CHUNK_BYTES

ONE = sample(1)
SMALL = sample(2, 700)
SNAPSHOT = Snapshot(REPO, COMMIT, (FileEntry("a", SMALL.blob.size, SMALL.blob),), b"{}", public=True)


# The index


def spoil(path, how):
    if how == "deleted":
        path.unlink()
    elif how == "garbage":
        path.write_bytes(b"garbage" * 1000)
    elif how == "emptied":
        path.write_bytes(b"")
    elif how == "cut short":
        os.truncate(path, path.stat().st_size // 2)
    else:
        with path.open("r+b") as file:
            file.seek(4096 * 2)
            file.write(os.urandom(4096 * 3))


@pytest.mark.parametrize("how", ["deleted", "garbage", "emptied", "cut short", "overwritten inside"])
def test_an_index_that_is_gone_or_damaged_is_begun_anew_and_the_blobs_are_found_again(house, how):
    ONE.put(house.store)
    SMALL.put(house.store, private=True)
    half = sample(3)
    stored = house.store.open(half.blob, private=False)
    half.write(stored, [0])
    stored.close()
    house.store.put_snapshot(SNAPSHOT)
    house.store.close()
    spoil(house.state_dir / "index.sqlite", how)
    store = house.start()
    assert store.find(ONE.blob.id).sealed
    assert store.find(SMALL.blob.id).private
    assert store.find(half.blob.id).held == 1
    assert (house.state_dir / "index.sqlite.damaged").exists() == (how not in {"deleted", "emptied"})
    stored = store.open(ONE.blob, private=False)
    assert stored.sealed
    assert stored.check(1)
    assert stored.manifest().digests == ONE.digest(0) + ONE.digest(1)
    stored.close()
    house.store.put_snapshot(SNAPSHOT)
    assert house.restart().snapshot(REPO, COMMIT) == SNAPSHOT


def test_without_an_index_a_damaged_blob_is_believed_in_no_chunk(house):
    ONE.put(house.store)
    house.store.close()
    (house.state_dir / "index.sqlite").unlink()
    store = house.start()
    house.damage(ONE.blob.id, 1)
    stored = store.open(ONE.blob, private=False)
    assert not stored.check(0)
    assert not stored.sealed
    assert (len(stored.held), len(stored.claimed)) == (0, 0)
    ONE.write(stored)
    stored.finish(None, seal_of(stored))
    assert read(stored) == ONE.data
    stored.close()


@pytest.mark.parametrize("table", ["blobs", "snapshots"])
def test_a_row_that_rotted_is_not_believed(house, table):
    SMALL.put(house.store)
    house.store.put_snapshot(SNAPSHOT)
    house.store.close()
    column = {"blobs": "digests", "snapshots": "listing"}[table]
    with sqlite3.connect(house.state_dir / "index.sqlite") as connection:
        connection.execute(f"UPDATE {table} SET {column} = zeroblob(length({column}))")
    connection.close()
    store = house.start()
    assert store.snapshot(REPO, COMMIT) == (SNAPSHOT if table == "blobs" else None)
    stored = store.open(SMALL.blob, private=False)
    assert stored.check(0)
    assert stored.digest(0) == SMALL.digest(0)
    stored.close()


@pytest.mark.scorecard("S33")
def test_an_index_of_a_newer_version_is_refused_and_left_alone(house):
    house.store.close()
    with sqlite3.connect(house.state_dir / "index.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreTooNewError):
        house.start()
    with sqlite3.connect(house.state_dir / "index.sqlite") as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (99,)
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    house.start()


@pytest.mark.scorecard("S3")
def test_an_index_that_cannot_even_be_opened_is_a_named_error(house, monkeypatch):
    def fails(*arguments, **how):
        raise sqlite3.OperationalError("disk I/O error")

    house.store.close()
    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", fails)
        with pytest.raises(StoreError, match="The index failed: disk I/O error"):
            house.start()
    house.start()


# The files


@pytest.mark.parametrize("change", ["cut short", "grown", "emptied"])
def test_a_sealed_file_of_another_length_is_mended(house, change):
    ONE.put(house.store)
    house.store.close()
    house.path(ONE.blob.id).chmod(0o644)  # sealed files are read-only, except to root
    os.truncate(house.path(ONE.blob.id), {"cut short": 100, "grown": ONE.blob.size + 9, "emptied": 0}[change])
    stored = house.start().open(ONE.blob, private=False)
    assert not stored.sealed
    good = [index for index in range(2) if stored.check(index)]
    assert good == ([0] if change == "grown" else [])
    ONE.write(stored, set(range(2)) - set(good))
    stored.finish(None, seal_of(stored))
    assert read(stored) == ONE.data
    stored.close()
    assert house.store.statistics.bytes_sealed == ONE.blob.size
    assert house.store.statistics.bytes_partial == 0


def test_a_sealed_file_that_somebody_removed_is_begun_again(house):
    ONE.put(house.store)
    house.path(ONE.blob.id).unlink()
    stored = house.store.open(ONE.blob, private=False)
    assert (stored.sealed, len(stored.held)) == (False, 0)
    assert house.store.statistics.bytes_sealed == 0
    stored.close()


def test_damage_while_the_blob_is_open_is_seen_by_the_files_stat(house):
    ONE.put(house.store)
    stored = house.store.open(ONE.blob, private=False)
    assert stored.check(0)
    assert stored.check(1)
    house.damage(ONE.blob.id, 0)
    assert stored.check(1)
    assert not stored.check(0)
    stored.close()


def test_a_chunk_is_hashed_on_first_use_and_not_again(house, monkeypatch):
    ONE.put(house.store)
    stored = house.restart().open(ONE.blob, private=False)
    hashed = []
    real = house.store._disk.digest
    monkeypatch.setattr(house.store._disk, "digest", lambda *args: hashed.append(args) or real(*args))
    for _ in range(3):
        assert stored.check(1)
    stored.close()
    stored = house.store.open(ONE.blob, private=False)
    assert stored.check(1)
    stored.close()
    assert len(hashed) == 1


def test_a_chunk_that_the_disk_cannot_read_is_damaged(house, monkeypatch):
    ONE.put(house.store)
    stored = house.restart().open(ONE.blob, private=False)

    def unreadable(*_args):
        raise StoreError("EIO")

    with monkeypatch.context() as patch:
        patch.setattr(house.store._disk, "read_into", unreadable)
        assert not stored.check(0)
    assert not stored.sealed
    assert stored.check(1)
    stored.close()


def test_start_hashes_nothing(house, monkeypatch):
    ONE.put(house.store)
    house.store.close()
    monkeypatch.setattr("p2pmodel.store.disk.Disk.digest", None)
    assert house.start().find(ONE.blob.id).sealed


def test_threads_write_different_chunks_of_one_blob(house):
    blob = sample(4, 5 * CHUNK_BYTES + 1)
    stored = house.store.open(blob.blob, private=False)
    start = threading.Barrier(6)

    def writer(index):
        start.wait()
        blob.write(stored, [index])
        stored.commit()

    threads = [threading.Thread(target=writer, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stored.held.complete
    assert hashlib.sha256(read(stored)).hexdigest() == blob.blob.id.hex
    stored = house.crash().open(blob.blob, private=False)
    assert len(stored.claimed) == 6
    stored.close()


def test_a_failed_sync_drops_what_was_not_recorded_and_forgets_no_drop(tmp_path):
    """The kernel calls pages clean after it failed to write them: asking again would be told that all is well."""
    disk = FaultyDisk()
    house = OnDisk(tmp_path / "state", disk=disk)
    blob = sample(8, 2 * CHUNK_BYTES + 1)
    stored = house.store.open(blob.blob, private=False)
    blob.write(stored, [0, 1])
    stored.commit()
    stored.drop([1])
    blob.write(stored, [2])
    disk._at, disk._error = len(disk.steps) + 1, StoreError("EIO")
    with pytest.raises(StoreError):
        stored.commit()
    assert set(stored.held) == {0}
    stored.commit()
    stored = house.crash().open(blob.blob, private=False)
    assert set(stored.claimed) == {0}
    stored.close()
    house.close()


# Room


def test_a_full_device_is_a_clear_error_and_nothing_is_lost(tmp_path):
    disk = FaultyDisk()
    house = OnDisk(tmp_path / "state", disk=disk)
    stored = house.store.open(ONE.blob, private=False)
    ONE.write(stored, [0])
    stored.commit()
    disk._at, disk._error = len(disk.steps) + 1, StoreFullError("full")
    with pytest.raises(StoreFullError):
        ONE.write(stored, [1])
    assert set(stored.held) == {0}
    assert house.store.statistics.bytes_partial == CHUNK_BYTES
    ONE.write(stored, [1])
    stored.finish(None, seal_of(stored))
    assert read(stored) == ONE.data
    stored.close()
    house.close()


def test_the_error_of_a_full_device_is_told_from_others(tmp_path, monkeypatch):
    house = OnDisk(tmp_path / "state")
    stored = house.store.open(ONE.blob, private=False)

    def no_space(*_args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", no_space)
        with pytest.raises(StoreFullError) as error:
            ONE.write(stored, [0])
    assert error.value.next_step
    stored.close()
    house.close()


def test_the_quota_is_kept_by_evicting_what_was_longest_unused(tmp_path):
    blobs = [sample(seed, 1000) for seed in range(4)]
    now = [0]
    house = OnDisk(tmp_path / "state", quota_bytes=2500, clock=lambda: now[0])
    for now[0], blob in enumerate(blobs[:2]):
        blob.put(house.store)
    now[0] = 5
    house.store.open(blobs[0].blob, private=False).close()
    sequence, _ = house.store.inventory()
    now[0] = 7
    blobs[2].put(house.store)
    assert [house.store.find(blob.blob.id) is not None for blob in blobs[:3]] == [True, False, True]
    assert blobs[1].blob.id in {entry.blob for entry in house.store.inventory_since(sequence) if entry.state == 0}
    assert house.store.statistics.blobs_evicted == 1
    assert house.store.statistics.bytes_sealed == 2000
    now[0] = 9
    house.restart()
    blobs[3].put(house.store)
    assert house.store.find(blobs[2].blob.id) is not None, "last uses outlive a restart"
    house.close()


def test_pinned_and_open_blobs_are_never_evicted(tmp_path):
    pinned, used, new = SMALL, sample(5, 700), sample(6, 700)
    house = OnDisk(tmp_path / "state", quota_bytes=1500)
    pinned.put(house.store)
    house.store.put_snapshot(SNAPSHOT)
    house.store.pin(REPO, COMMIT)
    used.put(house.store)
    stored = house.store.open(used.blob, private=False)
    with pytest.raises(StoreFullError, match="quota"):
        new.put(house.store)
    assert house.store.find(pinned.blob.id)
    assert house.store.find(used.blob.id)
    house.store.unpin(REPO, COMMIT)
    new_stored = house.store.open(new.blob, private=False)
    new.write(new_stored)
    new_stored.finish(None, seal_of(new_stored))
    assert house.store.find(pinned.blob.id) is None
    assert read(stored) == used.data
    new_stored.close()
    stored.close()
    house.close()


def test_what_is_only_kept_open_for_its_next_reader_makes_room(tmp_path):
    old, new = sample(5, 900), sample(6, 900)
    house = OnDisk(tmp_path / "state", quota_bytes=1500)
    old.put(house.store)
    kept = house.store.open(old.blob, private=False)
    kept.close(keep_open=True)
    new.put(house.store)
    assert house.store.find(old.blob.id) is None
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(kept.fileno())
    house.close()


def test_what_is_kept_open_goes_on_where_it_was_and_is_recorded_all_the_same(house):
    half = sample(3)
    stored = house.store.open(half.blob, private=False)
    half.write(stored, [0])
    stored.close(keep_open=True)
    again = house.store.open(half.blob, private=False)
    assert again is stored
    assert 0 in again.held
    again.close(keep_open=True)
    house.crash()
    assert house.store.find(half.blob.id).held == 1


def test_what_is_kept_open_is_looked_for_anew_after_a_while_and_bounded_in_number(tmp_path):
    now = [0.0]
    house = OnDisk(tmp_path / "state", clock=lambda: now[0])
    blobs = [sample(seed, 10) for seed in range(130)]
    for blob in blobs:
        blob.put(house.store)
        house.store.open(blob.blob, private=False).close(keep_open=True)
    paths = [house.store.layout.public.sealed(blob.blob.id) for blob in (blobs[0], blobs[-1])]
    assert [is_open(path) for path in paths] == [False, True]
    now[0] = 31.0
    paths[1].unlink()
    stored = house.store.open(blobs[-1].blob, private=False)
    assert not stored.sealed
    stored.close()
    house.close()


def is_open(path):
    """By this process."""
    return any(os.path.realpath(fd) == str(path) for fd in Path("/proc/self/fd").iterdir())


def test_a_file_that_does_not_fit_anyway_evicts_nothing(tmp_path):
    house = OnDisk(tmp_path / "state", quota_bytes=1500)
    SMALL.put(house.store)
    with pytest.raises(StoreFullError):
        sample(7, 1600).put(house.store)
    assert house.store.find(SMALL.blob.id).sealed
    house.close()


def test_what_can_never_fit_is_refused_before_anything_is_evicted(tmp_path):
    house = OnDisk(tmp_path / "state", quota_bytes=2500)
    idle, kept = sample(8, 1000), sample(9, 1000)
    for each in (idle, kept):
        each.put(house.store)
    house.store.check_room(500, [])
    house.store.check_room(1500, [kept.blob.id])  # once the other one is gone
    with pytest.raises(StoreFullError, match="quota") as refused:
        house.store.check_room(1501, [kept.blob.id])
    assert "store.quota" in refused.value.next_step
    with pytest.raises(StoreFullError):
        house.store.check_room(3000, [])
    assert house.store.statistics.blobs_evicted == 0
    house.close()


def test_the_room_that_must_stay_free_stays_free(tmp_path):
    house = OnDisk(tmp_path / "state", min_free_bytes=1 << 62)
    with pytest.raises(StoreFullError, match="min_free") as refused:
        SMALL.put(house.store)
    assert "lower store.min_free" in refused.value.next_step
    house.close()


def test_the_counts_come_back_to_nothing(house):
    for blob in (ONE, SMALL):
        blob.put(house.store)
    half = sample(3)
    stored = house.store.open(half.blob, private=True)
    half.write(stored, [1])
    stored.close()
    counts = house.store.statistics
    assert (counts.bytes_sealed, counts.bytes_partial) == (ONE.blob.size + SMALL.blob.size, 5)
    counts = house.restart().statistics
    assert (counts.bytes_sealed, counts.bytes_partial) == (ONE.blob.size + SMALL.blob.size, 5)
    stored = house.store.open(ONE.blob, private=False)
    stored.drop([0])
    stored.close()
    for blob in (ONE, SMALL, half):
        house.store.remove(blob.blob.id)
    assert (counts.bytes_sealed, counts.bytes_partial, list(house.store.blobs())) == (0, 0, [])


def test_a_full_disk_does_not_keep_what_is_here_from_being_opened(tmp_path, monkeypatch):
    """When the index cannot even note what was used."""
    house = OnDisk(tmp_path / "state")
    samples = [sample(number, 10) for number in range(3)]
    for each in samples:
        each.put(house.store)

    def full(uses):
        raise StoreFullError("No room left on the device.")

    monkeypatch.setattr(house.store._index, "touch", full)
    monkeypatch.setattr("p2pmodel.store.keeping.USES_PENDING_MAX", 2)
    for each in samples:
        stored = house.store.open(each.blob, private=False)
        assert read(stored) == each.data
        stored.close()
    monkeypatch.undo()
    house.close()
