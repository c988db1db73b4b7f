"""Removing, pinning and collecting, on a real store. Whole daemons: tests/e2e/test_adopt_and_upkeep.py."""

from types import SimpleNamespace

import pytest
from fakes.stores import REPO, OnDisk, sample

from p2pmodel.content import FileEntry, Hub, Repo, RepoKind, Snapshot
from p2pmodel.delivery.upkeep import Upkeep
from p2pmodel.errors import RepoNotFoundError, StoreError

ONE, BOTH, LOOSE = (sample(number, 700 + number) for number in range(3))
OTHER = Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/other")
HOUR = 3600


def snapshot(repo, commit, *samples):
    files = tuple(FileEntry(f"file{number}", each.blob.size, each.blob) for number, each in enumerate(samples))
    return Snapshot(repo, commit * 40, files, b"[]", public=True)


@pytest.fixture
def clock():
    return SimpleNamespace(now=1_000_000.0)


@pytest.fixture
def store(tmp_path, clock):
    house = OnDisk(tmp_path / "state", clock=lambda: clock.now)
    for each in (ONE, BOTH, LOOSE):
        each.put(house.store)
    for each in (snapshot(REPO, "a", ONE, BOTH), snapshot(OTHER, "b", BOTH)):
        house.store.put_snapshot(each)
        house.store.put_ref(each.repo, "main", each.commit)
        house.store.materialise(each, each.files)
    yield house.store
    house.close()


@pytest.fixture
def upkeep(store, clock):
    async def inline(function, *arguments):
        return function(*arguments)

    return Upkeep(
        None,
        store,
        blocking=inline,
        quiet=inline,
        publications=SimpleNamespace(over=list, forget=lambda _: None),
        clock=lambda: clock.now,
    )


async def test_a_repo_goes_with_the_files_that_no_other_names(upkeep, store):
    removed = await upkeep.remove(REPO, "")
    assert (removed.snapshots, removed.blobs, removed.bytes) == (("a" * 40,), 1, ONE.blob.size)
    assert store.find(ONE.blob.id) is None
    assert store.find(BOTH.blob.id).sealed
    assert store.snapshot(REPO, "a" * 40) is None
    assert store.ref(REPO, "main") is None
    folders = [path.name for path in (store.layout.root / "hub").iterdir()]
    assert folders == ["models--org--other"]


@pytest.mark.parametrize("revision", ["main", "a" * 40])
async def test_a_revision_is_named_by_branch_or_commit(upkeep, revision):
    assert (await upkeep.remove(REPO, revision)).snapshots == ("a" * 40,)


@pytest.mark.parametrize(("repo", "revision"), [(REPO, "v1"), (Repo(Hub.MODELSCOPE, RepoKind.MODEL, "org/model"), "")])
async def test_what_is_not_known_cannot_be_removed(upkeep, repo, revision):
    with pytest.raises(RepoNotFoundError):
        await upkeep.remove(repo, revision)


async def test_what_is_pinned_stays_until_it_is_unpinned(upkeep):
    assert await upkeep.pin(REPO, "") == "a" * 40
    with pytest.raises(StoreError, match="pinned"):
        await upkeep.remove(REPO, "")
    assert await upkeep.unpin(REPO, "") == ["a" * 40]
    assert await upkeep.unpin(REPO, "") == []
    assert (await upkeep.remove(REPO, "")).blobs == 1


async def test_a_file_in_use_is_left_for_the_next_gc(upkeep, store, clock):
    stored = store.open(ONE.blob, private=False)
    assert (await upkeep.remove(REPO, "")).busy == 1
    stored.close()
    clock.now += HOUR + 1
    assert (await upkeep.collect(dry_run=False)).blobs == 2


async def test_gc_takes_what_no_snapshot_names_and_nobody_used_lately(upkeep, store, clock):
    assert (await upkeep.collect(dry_run=False)).blobs == 0
    clock.now += HOUR + 1
    told = await upkeep.collect(dry_run=True)
    assert (told.blobs, told.bytes) == (1, LOOSE.blob.size)
    assert store.find(LOOSE.blob.id).sealed
    assert await upkeep.collect(dry_run=False) == told
    assert store.find(LOOSE.blob.id) is None
    assert store.find(ONE.blob.id).sealed
    assert store.find(BOTH.blob.id).sealed
