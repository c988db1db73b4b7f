"""Listings are decoded once for the thousands of requests that a snapshot takes, and never an older one than was written."""

from dataclasses import replace

import pytest
from fakes.stores import COMMIT, REPO

from p2pmodel.content import FileEntry, Snapshot
from p2pmodel.store.recent import RecentSnapshots


def listing(commit=COMMIT, files=3, *, public=True):
    return Snapshot(REPO, commit, tuple(FileEntry(f"{n}", n, None) for n in range(files)), b"[]", public)


def test_a_listing_is_taken_out_of_the_index_once(house, monkeypatch):
    house.store.put_snapshot(listing())
    house.restart()
    assert house.store.snapshot(REPO, COMMIT) == listing()

    def again(repo, commit):
        raise AssertionError("decoded again")

    monkeypatch.setattr(house.store._index, "snapshot", again)
    assert house.store.snapshot(REPO, COMMIT) == listing()


def test_a_listing_that_is_no_longer_public_is_so_at_once(house):
    house.store.put_snapshot(listing())
    assert house.store.snapshot(REPO, COMMIT).public
    house.store.put_snapshot(listing(public=False))
    assert not house.store.snapshot(REPO, COMMIT).public


@pytest.mark.parametrize("files", [5, 100])
def test_only_so_many_files_are_kept_and_always_the_last_listing(files, monkeypatch):
    monkeypatch.setattr("p2pmodel.store.recent.SNAPSHOT_FILES_DECODED_MAX", 12)
    recent = RecentSnapshots()
    made = [listing(f"{n:040x}", files) for n in range(4)]
    for each in made:
        recent.keep(each)
        recent.keep(replace(each))
    kept = [each for each in made if recent.find(REPO, each.commit)]
    assert kept == (made[-2:] if files == 5 else made[-1:])
