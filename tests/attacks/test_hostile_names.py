"""Two hundred file names that a repo's owner may choose, hostile by the rules of POSIX or of Windows, and what somebody may
have put in our way before: nothing is ever written outside the store and the directory that was asked for."""

import os

import msgspec
import pytest
from daemons import House, Site, files_in

from p2pmodel.content import FileEntry, Hub, Repo, RepoKind, check_path
from p2pmodel.errors import StoreError, WrongAnswerError
from p2pmodel.store.disk import Disk
from p2pmodel.store.export import export
from p2pmodel.store.freshness import Freshness
from p2pmodel.store.tree import CacheTree, Leaf
from p2pmodel.upstream.huggingface import _file_of as huggingface_file
from p2pmodel.upstream.modelscope import _file_of as modelscope_file

DEVICES = ["CON", "PRN", "AUX", "NUL", *(f"{name}{digit}" for name in ("COM", "LPT") for digit in "0123456789¹²³")]
NAMES = [
    *("../" * depth + "evil" for depth in range(1, 13)),
    *("a/" * depth + "../" * (depth + 1) + "evil" for depth in range(1, 9)),
    *("..\\" * depth + "evil" for depth in range(1, 5)),
    "..", ".", "a/..", "a/.", "./evil", "a/./evil", "a/b/../../../evil", "..evil/../../x", "", "/", "//", "///evil", "/evil",
    "/etc/passwd", "/tmp/evil", "//host/share/evil", "a//evil", "a/", "evil/", "a/b/", "~/../evil",
    "\\evil", "\\\\host\\share\\evil",
    "\\\\?\\C:\\evil", "\\\\.\\pipe\\evil", "a\\..\\..\\evil", "a/..\\..\\evil", "..%2fevil/../..",
    *(f"{drive}:{sep}evil" for drive in "ACDZ" for sep in ("", "\\", "/")),
    "evil::$DATA", "evil:$DATA", "evil:Zone.Identifier", "config.json:Zone.Identifier:$DATA",
    *DEVICES,
    *(f"{name.lower()}.txt" for name in DEVICES),
    *(f"sub/{name.title()}.tar.gz/evil" for name in DEVICES),
    *(f"evil{chr(code)}name" for code in (*range(32), 127)),
    "evil.", "evil ", "evil. .", "a./evil", "a /evil", "...", "a/.../evil", " . ", "evil\u00a0. ",
    "\ud800", "a/\udfff", "x" * 256, "é" * 128, "x/" * 600 + "x", "x" * 5000, "a/" + "y" * 256 + "/b",
]  # fmt: skip
REPO = Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/model")
COMMIT, ETAG = "c" * 40, "a" * 64

pytestmark = pytest.mark.scorecard("S17")


def everything(top):
    return {str(path.relative_to(top)) for path in top.rglob("*")}


@pytest.fixture
def place(tmp_path):
    for name in ("tree", "aside", "target"):
        (tmp_path / name).mkdir()
    (tmp_path / "sealed").write_bytes(b"sealed")
    (tmp_path / "secret").write_text("secret")
    return tmp_path


def leaf(place, path):
    """Of a snapshot that passed every earlier check."""
    return Leaf(path, ETAG, place / "sealed", Freshness(1))


def test_there_are_two_hundred_of_them():
    assert len(set(NAMES)) >= 200


def test_each_is_refused_wherever_a_hub_or_a_peer_can_say_it():
    for name in NAMES:
        with pytest.raises(ValueError, match="a file name"):
            check_path(name)
        with pytest.raises(ValueError, match="a file name"):
            FileEntry(name, 1, None)
        with pytest.raises(WrongAnswerError):
            huggingface_file({"path": name, "size": 1, "oid": "0" * 40})
        with pytest.raises(WrongAnswerError):
            modelscope_file({"Path": name, "Size": 1, "Sha256": "0" * 64})


def test_the_refusal_names_the_file_and_the_way_out():
    for path in ("a/../../evil", "src/aux.py"):
        with pytest.raises(WrongAnswerError) as refused:
            huggingface_file({"path": path, "size": 1, "oid": "0" * 40})
        assert path in str(refused.value)
        assert "straight from the hub" in refused.value.next_step


def test_each_is_refused_once_more_where_files_are_made(place, figure):
    before = everything(place)
    tree = CacheTree(place / "tree", place / "aside", mode=0o755, disk=Disk(fsync=False))
    for name in NAMES:
        with pytest.raises((StoreError, ValueError)):
            tree.materialise(REPO, COMMIT, (), [leaf(place, name)])
        with pytest.raises(StoreError):
            export([leaf(place, name)], place / "target")
        tree.materialise(REPO, COMMIT, [name], ())
    made = {path for path in everything(place) - before if not path.startswith("tree/")}
    figure(f"{len(NAMES)} names, {len(made - {'aside/link-tree'})} files outside")
    assert made <= {"aside/link-tree"}
    assert (place / "secret").read_text() == "secret"


PLANTED = {
    "symlink": lambda there, secret: there.symlink_to(secret),
    "dangling symlink": lambda there, secret: there.symlink_to(secret.with_name("escaped")),
    "hard link": lambda there, secret: there.hardlink_to(secret),
    "directory": lambda there, secret: there.mkdir(),
    "fifo": lambda there, secret: os.mkfifo(there),
}


@pytest.mark.parametrize("kind", PLANTED)
@pytest.mark.parametrize("where", [f"snapshots/{COMMIT}/a", f"blobs/{ETAG}", "refs/main"])
def test_what_was_put_in_the_stores_way_is_replaced_or_refused_and_never_written_through(place, where, kind):
    there = place / "tree/models--org--model" / where
    there.parent.mkdir(parents=True)
    PLANTED[kind](there, place / "secret")
    tree = CacheTree(place / "tree", place / "aside", mode=0o755, disk=Disk(fsync=False))
    if kind == "directory":
        with pytest.raises(StoreError):
            tree.materialise(REPO, COMMIT, ["main"], [leaf(place, "a")])
    else:
        made = tree.materialise(REPO, COMMIT, ["main"], [leaf(place, "a")])
        assert (made / "a").read_bytes() == b"sealed"
        assert (made.parents[1] / "refs/main").read_text() == COMMIT
    assert (place / "secret").read_text() == "secret"
    assert not (place / "escaped").exists()


@pytest.mark.parametrize("kind", PLANTED)
@pytest.mark.parametrize("where", ["a", "sub"])
def test_what_was_put_in_an_exports_way_is_left_alone_and_never_written_through(place, where, kind):
    there = place / "target" / where
    PLANTED[kind](there, place / "secret")
    if (where, kind) == ("sub", "directory"):
        export([leaf(place, "sub/a")], place / "target")
    else:
        with pytest.raises(StoreError):
            export([leaf(place, "a" if where == "a" else "sub/a")], place / "target")
    assert (place / "secret").read_text() == "secret"
    assert not (place / "escaped").exists()


@pytest.mark.attacks
def test_a_real_daemon_writes_nothing_for_any_of_them(tmp_path):
    names = [name for name in NAMES if name and is_text(name)]
    with Site() as site, House(tmp_path / "house", site) as house:
        node = house.daemon("node")
        site.hub.add_repo("model", "acme/good", {"config.json": b"{}"})
        node.bring("acme/good")
        before = everything(tmp_path)
        for number, name in enumerate(names):
            site.hub.add_repo("model", f"acme/hostile{number}", {"config.json": b"{}", name: b"escaped"})
            assert node.bring(f"acme/hostile{number}")["event"] == "error", name
        made = everything(tmp_path) - before
        assert files_in(node.bring("acme/good")["path"]) == {"config.json": b"{}"}
    assert not [path for path in made if "evil" in path or "escape" in path]
    assert all(path.startswith("house/node/") for path in made)
    assert len(names) >= 200


def is_text(name):
    try:
        return bool(msgspec.json.encode(name))
    except UnicodeEncodeError:
        return False
