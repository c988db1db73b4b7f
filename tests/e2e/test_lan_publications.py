"""`p2pmodel push --lan`: a model that no hub has, on every node of a closed cluster, for a time."""

import pytest
from daemons import MIB, files_in, until
from noise import noise

pytestmark = pytest.mark.houses

FILES = {"config.json": b'{"a": 1}', "deep/w.safetensors": noise(91, 9 * MIB)}


@pytest.fixture(scope="module")
def nodes(house):
    key = house.folder / "cluster-key"
    assert house.user.run("cluster", "init", "--key-file", key).code == 0
    closed = {"cluster__mode": "closed", "cluster__key_file": str(key)}
    one = house.daemon("one", **closed)
    two = house.daemon("two", [one], **closed)
    return one, two, house.daemon("three", [one, two], **closed)


def lay(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def published(site, house, nodes):
    folder = lay(house.folder / "mine", FILES)
    site.hub.reset()
    done = nodes[0].command("push", folder, "tiny", "--lan", "--json", "-q")
    assert done.code == 0, done.err
    assert done.json["repo"] == "_lan/tiny"
    return folder


@pytest.mark.usefixtures("published")
def test_every_node_has_it_under_its_name_and_no_hub_is_asked(site, nodes):
    assert files_in(nodes[0].bring("_lan/tiny")["path"]) == FILES
    assert files_in(nodes[1].fetch("_lan/tiny")["path"]) == FILES
    about = nodes[1].ask("/api/models/_lan/tiny").json
    assert {sibling["rfilename"] for sibling in about["siblings"]} == set(FILES)
    commit = about["sha"]
    tree = nodes[1].ask(f"/api/models/_lan/tiny/tree/{commit}?recursive=true").json
    assert {entry["path"]: entry["size"] for entry in tree if entry["type"] == "file"} == {k: len(v) for k, v in FILES.items()}
    assert nodes[1].ask("/_lan/tiny/resolve/main/config.json").body == FILES["config.json"]
    assert nodes[1].ask("/api/models/_lan/tiny/refs").json["branches"][0]["targetCommit"] == commit
    assert sum(site.hub.counters.requests.values()) == 0


@pytest.mark.usefixtures("published")
def test_a_name_belongs_to_who_published_it_first(house, nodes):
    done = nodes[1].command("push", lay(house.folder / "other", {"w.bin": b"other"}), "tiny", "--lan")
    assert done.code == 2
    assert "another name" in done.err


def test_it_is_gone_when_its_time_is_over(house, nodes):
    folder = lay(house.folder / "short", {"w.bin": noise(92, 5000)})
    assert nodes[0].command("push", folder, "short", "--lan", "--lasts", "2s", "-q").code == 0
    assert nodes[1].bring("_lan/short")["peers"] == 5000
    for node in nodes[:2]:
        until(lambda node=node: node.bring("_lan/short")["event"] == "error", "its time to be over")
        assert node.ask("/api/models/_lan/short").status == 404
    assert nodes[1].command("gc").code == 0
    held = nodes[1].ask("/-/api/snapshots").json["snapshots"]
    assert "_lan/short" not in [snapshot["repo"] for snapshot in held]


def test_a_hub_is_never_asked_for_such_a_name(site, nodes):
    site.hub.reset()
    assert nodes[1].bring("_lan/none")["kind"] == "RepoNotFoundError"
    assert sum(site.hub.counters.requests.values()) == 0


@pytest.mark.usefixtures("published")
def test_it_outlives_the_node_that_brought_it(nodes):
    wanted = files_in(nodes[1].bring("_lan/tiny")["path"])
    nodes[0].kill()
    fetched = nodes[2].bring("_lan/tiny")
    assert files_in(fetched["path"]) == wanted
    assert fetched["peers"] == sum(map(len, wanted.values()))
