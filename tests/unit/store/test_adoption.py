"""Files of somebody's cache in the store: linked or where they lie, never written, let go when they change."""

import os

import pytest
from fakes.stores import COMMIT, ONE_KEY, REPO, read, sample

from p2pmodel.content import FileEntry, Manifest, Seal, Snapshot
from p2pmodel.errors import StoreError, StoreFullError
from p2pmodel.limits import CHUNK_BYTES
from p2pmodel.store.adoption import Candidate

ONE = sample(1, 2 * CHUNK_BYTES + 5)
SMALL = sample(2, 700, "git-sha1")


@pytest.fixture(params=["linked", "where it lies"])
def linked(request, monkeypatch):
    """A file of another user, or on another device, gets no name in the store."""
    if request.param == "where it lies":
        monkeypatch.setattr(Candidate, "link", lambda *_: False)
    return request.param == "linked"


def lay(tmp_path, what=ONE, name="file"):
    path = tmp_path / name
    path.write_bytes(what.data)
    return path


def adopt(store, path, name=None):
    candidate = store.candidate(path, name)
    if candidate is None:
        return None
    while not candidate.hashed:
        candidate.step()
    blob, _ = candidate.names()
    try:
        return store.adopt(candidate, Seal.sign(Manifest(blob, candidate.digests), ONE_KEY))
    finally:
        candidate.close()


@pytest.mark.usefixtures("linked")
def test_an_adopted_file_is_sealed_private_and_known_by_both_names_of_a_small_one(house, tmp_path):
    path = lay(tmp_path, SMALL)
    mode = path.stat().st_mode
    assert adopt(house.store, path, SMALL.blob.id)
    for name in (SMALL.blob.id, SMALL.alias):
        state = house.store.find(name)
        assert (state.blob, state.sealed, state.private) == (SMALL.blob, True, True)
    stored = house.store.open(SMALL.blob, private=False)
    stored.publish()
    assert stored.check(0)
    assert read(stored) == SMALL.data
    assert stored.seal.vouches_for(stored.manifest())
    stored.close()
    assert not house.store.find(SMALL.blob.id).private
    assert path.stat().st_mode == mode


def test_a_linked_one_is_the_same_file(house, tmp_path):
    path = lay(tmp_path)
    adopt(house.store, path)
    name = ONE.blob.id.hex
    assert (house.state_dir / "private/blobs/sha256" / name[:2] / name).samefile(path)


@pytest.mark.usefixtures("linked")
def test_it_is_known_after_a_restart_public_or_not_and_not_hashed_twice(house, tmp_path):
    path, small = lay(tmp_path), lay(tmp_path, SMALL, "small")
    adopt(house.store, path)
    adopt(house.store, small)
    stored = house.store.open(ONE.blob, private=False)
    stored.publish()
    stored.close()
    files = (FileEntry("w.bin", ONE.blob.size, ONE.blob),)
    shown = house.store.materialise(Snapshot(REPO, COMMIT, files, b"{}", public=True), files)
    assert (shown / "w.bin").read_bytes() == ONE.data
    store = house.restart()
    assert (store.find(ONE.blob.id).private, store.find(SMALL.alias).private) == (False, True)
    assert store.inventory_since(1) == []
    assert store.candidate(path, None) is None
    stored = store.open(ONE.blob, private=False)
    assert all(stored.check(index) for index in range(ONE.count))
    stored.close()


@pytest.mark.usefixtures("linked")
def test_a_file_that_changed_while_no_daemon_ran_is_let_go(house, tmp_path):
    path = lay(tmp_path)
    adopt(house.store, path)
    house.store.close()
    with path.open("r+b") as file:
        file.write(b"changed")
    os.utime(path, ns=(1, 1))
    store = house.start()
    assert store.find(ONE.blob.id) is None
    assert path.read_bytes().startswith(b"changed")
    assert store.statistics.bytes_sealed == store.statistics.bytes_adopted == 0


@pytest.mark.usefixtures("linked")
def test_a_file_that_changes_under_us_parts_from_its_owners(house, tmp_path):
    path = lay(tmp_path)
    adopt(house.store, path)
    stored = house.store.open(ONE.blob, private=True)
    with path.open("r+b") as file:
        file.write(b"changed")
    changed = path.read_bytes()
    assert not stored.check(0)
    assert stored.check(1)
    assert not stored.sealed
    ONE.write(stored, [0])
    stored.finish(None, Seal.sign(stored.manifest(), ONE_KEY))
    assert read(stored) == ONE.data
    stored.close()
    assert path.read_bytes() == changed
    assert house.store.statistics.bytes_adopted == 0
    assert house.restart().find(ONE.blob.id).sealed


def test_without_an_index_a_file_that_is_writable_is_still_somebodys(house, tmp_path):
    path = lay(tmp_path)
    adopt(house.store, path)
    house.store.close()
    (house.state_dir / "index.sqlite").unlink()
    with path.open("r+b") as file:
        file.write(b"changed")
    changed = path.read_bytes()
    stored = house.start().open(ONE.blob, private=True)
    assert not stored.check(0)
    ONE.write(stored)
    stored.close()
    assert path.read_bytes() == changed


def test_what_is_adopted_takes_no_room_until_its_owner_gives_it_up(house, tmp_path):
    path = lay(tmp_path)
    adopt(house.store, path)
    store = house.restart(quota_bytes=ONE.blob.size)
    store.spool(ONE.blob.size).close()
    with pytest.raises(StoreFullError):
        store.spool(ONE.blob.size + 1)
    assert store.find(ONE.blob.id).sealed
    path.unlink()
    store = house.restart(quota_bytes=ONE.blob.size)
    store.spool(1).close()
    assert store.find(ONE.blob.id) is None


def test_removing_leaves_the_owners_file(house, tmp_path, linked):
    path = lay(tmp_path)
    adopt(house.store, path)
    house.store.remove(ONE.blob.id)
    assert house.store.find(ONE.blob.id) is None
    assert path.stat().st_nlink == 1
    assert adopt(house.store, path), f"it can be adopted again ({linked})"


def test_a_false_name_a_link_and_a_file_in_motion_are_refused(house, tmp_path):
    path = lay(tmp_path)
    with pytest.raises(StoreError, match="not what its name says"):
        adopt(house.store, path, SMALL.alias)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(StoreError):
        adopt(house.store, tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError):
        adopt(house.store, tmp_path / "pipe")
    candidate = house.store.candidate(path, None)
    candidate.step()
    path.write_bytes(b"new")
    with pytest.raises(StoreError, match="changed while it was read"):
        candidate.names()
    candidate.close()
    assert list(house.store.blobs()) == []


def test_what_the_store_has_is_not_adopted(house, tmp_path):
    ONE.put(house.store)
    path = lay(tmp_path)
    assert adopt(house.store, path, ONE.blob.id) is None
    assert adopt(house.store, path) is False
