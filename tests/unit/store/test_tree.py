"""The cache tree and the export: right links, and nothing outside whatever a hub names and whatever lies there before."""

import os
from types import SimpleNamespace

import pytest
from fakes.stores import COMMIT, REPO, FaultyDisk, OnDisk, sample

from p2pmodel.content import FileEntry, Hub, Repo, RepoKind, Snapshot
from p2pmodel.errors import StoreError
from p2pmodel.store.disk import Disk
from p2pmodel.store.export import export
from p2pmodel.store.freshness import Freshness
from p2pmodel.store.tree import CacheTree, Leaf, folder_of

ONE = sample(1, 10)
TWO = sample(2, 20, "git-sha1")
MODELSCOPE = Repo(Hub.MODELSCOPE, RepoKind.MODEL, REPO.name)
HOSTILE = [
    "../evil", "a/../../evil", "/evil", "//evil", "a//evil", "./evil", "a/./evil", "..", ".", "", "a/", "a/..", "evil\0",
    "a\nb", "..\\evil", "C:\\evil", "C:evil", "\\\\host\\evil", "a:b", "con", "CON.txt", "nul/x", "lpt1", "a/aux.h", "evil.",
    "evil ", "a /b", "\x7f", "\ud800", "x" * 256, "x/" * 600 + "x", "é" * 128, "com¹", "a/\t",
]  # fmt: skip


def snapshot(files, *, repo=REPO, public=True):
    return Snapshot(
        repo, COMMIT, tuple(FileEntry(path, blob.blob.size, blob.blob) for path, blob in files.items()), b"", public
    )


def materialise(house, files, **details):
    made = snapshot(files, **details)
    return house.store.materialise(made, made.files)


def everything(top):
    return {path.relative_to(top).as_posix() for path in top.rglob("*")}


def test_a_snapshot_shows_every_sealed_file_and_stores_nothing_twice(house):
    ONE.put(house.store)
    TWO.put(house.store)
    house.store.put_ref(REPO, "main", COMMIT)
    house.store.put_ref(REPO, "refs/pr/1", COMMIT)
    house.store.put_ref(REPO, "old", "0" * 40)
    path = materialise(house, {"model.bin": ONE, "a/b/config.json": TWO, "copy.bin": ONE, "missing": sample(3, 30)})
    repo = house.state_dir / "hub" / "models--org--model"
    assert path == repo / "snapshots" / COMMIT
    assert (path / "model.bin").read_bytes() == (path / "copy.bin").read_bytes() == ONE.data
    assert (path / "a/b/config.json").read_bytes() == TWO.data
    assert (path / "a/b/config.json").readlink().as_posix() == f"../../../../blobs/{TWO.blob.id.hex}"
    assert not (path / "missing").is_symlink()
    assert (path / "model.bin").samefile(house.path(ONE.blob.id))
    assert {name for name in everything(repo / "refs") if (repo / "refs" / name).is_file()} == {"main", "refs/pr/1"}
    assert (repo / "refs" / "main").read_text() == COMMIT


def test_materialising_again_adds_and_repairs(house):
    ONE.put(house.store)
    path = materialise(house, {"a": ONE, "b": TWO})
    (path / "a").unlink()
    TWO.put(house.store)
    materialise(house, {"a": ONE, "b": TWO})
    assert ((path / "a").read_bytes(), (path / "b").read_bytes()) == (ONE.data, TWO.data)


def test_what_is_new_in_the_tree_is_durable_and_what_is_there_already_costs_nothing(tmp_path):
    disk = FaultyDisk()
    house = OnDisk(tmp_path / "state", disk=disk)
    ONE.put(house.store)
    house.store.put_ref(REPO, "main", COMMIT)
    disk.steps.clear()
    materialise(house, {"a/b": ONE})
    # The ref itself; then refs, blobs, snapshots/<commit>/a, and every directory above them.
    assert disk.steps == ["sync"] * (1 + 3 + 4)
    disk.steps.clear()
    materialise(house, {"a/b": ONE})
    assert disk.steps == []
    house.close()


def test_a_ref_moves_with_the_hub(house):
    for commit in ("1" * 40, "2" * 40):
        house.store.put_ref(REPO, "main", commit)
        house.store.materialise(Snapshot(REPO, commit, (), b"", public=True), ())
        assert (house.state_dir / "hub/models--org--model/refs/main").read_text() == commit


def test_the_same_names_on_two_hubs_do_not_mix(house):
    ONE.put(house.store)
    TWO.put(house.store)
    here, there = materialise(house, {"a": ONE}), materialise(house, {"a": TWO}, repo=MODELSCOPE)
    assert there.is_relative_to(house.state_dir / "modelscope")
    assert ((here / "a").read_bytes(), (there / "a").read_bytes()) == (ONE.data, TWO.data)


@pytest.mark.parametrize("case", ["snapshot", "file"])
def test_what_is_private_shows_in_the_private_tree_alone(house, case):
    ONE.put(house.store, private=case == "file")
    TWO.put(house.store)
    path = materialise(house, {"a": ONE, "b": TWO}, public=case == "file")
    assert path.is_relative_to(house.state_dir / "private" / "hub")
    assert ((path / "a").read_bytes(), (path / "b").read_bytes()) == (ONE.data, TWO.data)
    assert everything(house.state_dir / "hub") == set()


def test_linking_is_no_change_that_has_to_be_hashed_again(house):
    ONE.put(house.store)
    stored = house.store.open(ONE.blob, private=False)
    assert stored.fresh.covers_still(0, stored.fileno())
    materialise(house, {"a": ONE})
    assert stored.fresh.covers_still(0, stored.fileno())
    stored.close()


def test_a_damaged_file_disappears_from_the_tree_until_it_is_mended(house):
    ONE.put(house.store)
    path = materialise(house, {"a": ONE})
    house.damage(ONE.blob.id, 0)
    stored = house.store.open(ONE.blob, private=False)
    assert not stored.check(0)
    assert not (path / "a").exists()
    ONE.write(stored)
    stored.finish(None, stored.seal)
    stored.close()
    materialise(house, {"a": ONE})
    assert (path / "a").read_bytes() == ONE.data


def test_a_removed_blob_gives_its_room_back(house):
    ONE.put(house.store)
    path = materialise(house, {"a": ONE})
    stored = house.store.open(ONE.blob, private=False)
    with pytest.raises(StoreError, match="in use"):
        house.store.remove(ONE.blob.id)
    fd = os.dup(stored.fileno())
    stored.close()
    house.store.remove(ONE.blob.id)
    assert os.fstat(fd).st_nlink == 0
    os.close(fd)
    assert not (path / "a").exists()
    assert house.store.find(ONE.blob.id) is None
    assert house.store.statistics.bytes_sealed == 0


def test_a_file_system_without_hard_links_gets_symlinks(house, monkeypatch):
    def no_link(*_args, **_kwargs):
        raise PermissionError(1, "no hard links here")

    ONE.put(house.store)
    monkeypatch.setattr(os, "link", no_link)
    for _ in range(2):
        path = materialise(house, {"a": ONE})
        assert (path / "a").read_bytes() == ONE.data
    assert (path / "a").samefile(house.path(ONE.blob.id))


def test_no_two_repos_share_a_folder():
    names = ["a/b", "a--b", "a-/b", "a/b--c", "a--b/c", "a---b/c", "a/b---c", "a--/b", "a-%2Db".replace("%", "x")]
    repos = [Repo(Hub.MODELSCOPE, kind, name) for name in names for kind in RepoKind]
    assert len({folder_of(repo) for repo in repos}) == len(repos)
    assert folder_of(Repo(Hub.HUGGINGFACE, RepoKind.DATASET, "org/name")) == "datasets--org--name"


# What must not happen


@pytest.fixture
def tree(tmp_path):
    """A tree whose leaves bypass the checks of the values that usually guard it, with a secret beside it."""
    for name in ("tree", "aside", "target"):
        (tmp_path / name).mkdir()
    sealed = tmp_path / "sealed"
    sealed.write_bytes(ONE.data)
    return SimpleNamespace(
        top=tmp_path,
        made=CacheTree(tmp_path / "tree", tmp_path / "aside", mode=0o755, disk=Disk(fsync=False)),
        leaf=lambda path, etag=ONE.blob.id.hex: Leaf(path, etag, sealed, Freshness(1)),
    )


def outside(tree):
    return (
        everything(tree.top)
        - {f"tree/{name}" for name in everything(tree.top / "tree")}
        - {f"target/{name}" for name in everything(tree.top / "target")}
    )


@pytest.mark.scorecard("S17")
@pytest.mark.parametrize("path", HOSTILE)
def test_no_name_of_a_hub_writes_outside(tree, path):
    before = outside(tree)
    with pytest.raises((StoreError, ValueError)):
        tree.made.materialise(REPO, COMMIT, (), [tree.leaf(path)])
    with pytest.raises(StoreError):
        export([tree.leaf(path)], tree.top / "target")
    tree.made.materialise(REPO, COMMIT, [path], ())
    assert outside(tree) - {"aside/link-tree"} == before
    assert everything(tree.top / "target") == set()


@pytest.mark.scorecard("S17")
@pytest.mark.parametrize("commit", ["", ".", "..", "../x", "a/b", "/x", "x" * 200, "a..b", "-x", "\0"])
def test_no_commit_becomes_a_path(tree, commit):
    with pytest.raises(StoreError):
        tree.made.materialise(REPO, commit, (), ())


@pytest.mark.scorecard("S17")
@pytest.mark.parametrize("etag", ["", "..", "../../x", "ab", "AB" * 20, "x" * 40, "/" + "a" * 39])
def test_no_etag_becomes_a_path(tree, etag):
    with pytest.raises(StoreError):
        tree.made.materialise(REPO, COMMIT, (), [tree.leaf("a", etag)])


@pytest.mark.scorecard("S17")
@pytest.mark.parametrize(
    "where", ["", "/snapshots", f"/snapshots/{COMMIT}", f"/snapshots/{COMMIT}/sub", "/blobs", "/refs", "/refs/pr"]
)
@pytest.mark.parametrize("kind", ["link", "dangling link", "file"])
def test_what_stands_in_a_directorys_place_is_refused_and_never_followed(tree, where, kind):
    planted = tree.top / f"tree/models--org--model{where}"
    planted.parent.mkdir(parents=True, exist_ok=True)
    elsewhere = tree.top / "elsewhere"
    if kind == "link":
        elsewhere.mkdir()
    planted.write_text("mine") if kind == "file" else planted.symlink_to(elsewhere)
    with pytest.raises(StoreError, match="in the way"):
        tree.made.materialise(REPO, COMMIT, ["pr/1"], [tree.leaf("sub/a")])
    assert everything(elsewhere) == set() if elsewhere.exists() else kind != "link"


@pytest.mark.scorecard("S17")
@pytest.mark.parametrize("where", [f"snapshots/{COMMIT}/a", f"blobs/{ONE.blob.id.hex}", "refs/main"])
@pytest.mark.parametrize("kind", ["link", "dangling link", "file"])
def test_what_stands_in_a_files_place_is_replaced_and_never_written_through(tree, where, kind):
    planted, secret = tree.top / "tree/models--org--model" / where, tree.top / "secret"
    planted.parent.mkdir(parents=True)
    if kind == "link":
        secret.write_text("secret")
    planted.write_text("false") if kind == "file" else planted.symlink_to(secret)
    path = tree.made.materialise(REPO, COMMIT, ["main"], [tree.leaf("a")])
    assert (path / "a").read_bytes() == ONE.data
    assert (tree.top / "tree/models--org--model/refs/main").read_text() == COMMIT
    assert secret.read_text() == "secret" if kind == "link" else not secret.exists()


@pytest.mark.scorecard("S17")
def test_a_directory_in_a_files_place_is_refused(tree):
    (tree.top / f"tree/models--org--model/snapshots/{COMMIT}/a/b").mkdir(parents=True)
    with pytest.raises(StoreError):
        tree.made.materialise(REPO, COMMIT, (), [tree.leaf("a")])


# Export


def test_an_export_hard_links_and_can_be_repeated(tree):
    for _ in range(2):
        export([tree.leaf("a"), tree.leaf("sub/dir/b")], tree.top / "target")
    for name in ("a", "sub/dir/b"):
        assert (tree.top / "target" / name).samefile(tree.top / "sealed")


def test_an_export_to_another_file_system_copies(tree, monkeypatch):
    def other_device(*_args, **_kwargs):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_device)
    for _ in range(2):
        export([tree.leaf("a")], tree.top / "target")
    copy = tree.top / "target" / "a"
    assert copy.read_bytes() == ONE.data
    assert not copy.samefile(tree.top / "sealed")
    assert everything(tree.top / "target") == {"a"}


@pytest.mark.scorecard("S17")
@pytest.mark.parametrize("kind", ["other bytes", "other size", "link", "directory", "fifo"])
def test_an_export_never_overwrites(tree, kind):
    there = tree.top / "target" / "a"
    if kind == "directory":
        there.mkdir()
    elif kind == "fifo":
        os.mkfifo(there)
    elif kind == "link":
        there.symlink_to(tree.top / "sealed")
    else:
        there.write_bytes(bytes(len(ONE.data)) if kind == "other bytes" else b"mine")
    before = there.lstat()
    with pytest.raises(StoreError, match="exists and is another file"):
        export([tree.leaf("a")], tree.top / "target")
    assert there.lstat().st_ino == before.st_ino
    assert there.lstat().st_size == before.st_size


@pytest.mark.scorecard("S17")
def test_an_export_follows_no_link_out_of_its_directory(tree):
    (tree.top / "elsewhere").mkdir()
    (tree.top / "target" / "sub").symlink_to(tree.top / "elsewhere")
    with pytest.raises(StoreError, match="in the way"):
        export([tree.leaf("sub/a")], tree.top / "target")
    assert everything(tree.top / "elsewhere") == set()


def test_only_what_is_sealed_here_can_be_exported(house, tmp_path):
    ONE.put(house.store)
    files = snapshot({"a": ONE, "b": TWO}).files
    with pytest.raises(StoreError, match="b is not here"):
        house.store.export(files, tmp_path / "target")
    house.store.export(files[:1], tmp_path / "target")
    assert (tmp_path / "target" / "a").read_bytes() == ONE.data
