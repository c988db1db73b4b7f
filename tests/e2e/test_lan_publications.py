"""`p2pmodel push --lan`: a model that no hub has, on every node of a closed cluster, for a time."""

import time

import pytest
from daemons import MIB, files_in, noise, until

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
    for node in nodes[:2]:
        assert files_in(node.fetch("_lan/tiny")["path"]) == FILES
    about = nodes[1].ask("/api/models/_lan/tiny").json
    assert {sibling["rfilename"] for sibling in about["siblings"]} == set(FILES)
    commit = about["sha"]
    tree = nodes[1].ask(f"/api/models/_lan/tiny/tree/{commit}?recursive=true").json
    assert {entry["path"]: entry["size"] for entry in tree if entry["type"] == "file"} == {k: len(v) for k, v in FILES.items()}
    assert nodes[1].ask("/_lan/tiny/resolve/main/config.json").body == FILES["config.json"]
    assert nodes[1].ask("/api/models/_lan/tiny/refs").json["branches"][0]["targetCommit"] == commit
    assert sum(site.hub.counters.requests.values()) == 0


def test_a_new_publication_of_the_same_name_takes_the_place_of_the_old_one(nodes, published):
    before = nodes[0].fetch("_lan/tiny")["commit"]
    time.sleep(1)  # the name's holder says which is newer by the second
    lay(published, {"config.json": b'{"a": 2}'})
    assert nodes[0].command("push", published, "tiny", "--lan", "-q").code == 0
    assert nodes[0].fetch("_lan/tiny")["commit"] != before

    def newer():
        time.sleep(0.5)  # members are asked again after some seconds, not at once
        return nodes[1].bring("_lan/tiny").get("commit") != before

    until(newer, "the other node to hear of it")
    assert files_in(nodes[1].fetch("_lan/tiny")["path"])["config.json"] == b'{"a": 2}'


@pytest.mark.usefixtures("published")
def test_a_name_belongs_to_who_published_it_first(house, nodes):
    done = nodes[1].command("push", lay(house.folder / "other", {"w.bin": b"other"}), "tiny", "--lan")
    assert done.code == 2
    assert "another name" in done.err


def test_it_is_gone_when_its_time_is_over(house, nodes):
    folder = lay(house.folder / "short", {"w.bin": noise(92, 5000)})
    assert nodes[0].command("push", folder, "short", "--lan", "--lasts", "3s", "-q").code == 0
    assert nodes[1].fetch("_lan/short")["peers"] == 5000
    for node in nodes[:2]:
        until(lambda node=node: node.bring("_lan/short")["event"] == "error", "its time to be over")
        assert node.command("fetch", "_lan/short").code == 3
        assert node.ask("/api/models/_lan/short").status == 404
        assert node.command("gc").code == 0
        assert "_lan/short" not in node.command("list").out


@pytest.mark.parametrize("name", ["org/model", "model@v1"])
def test_only_plain_names_are_published(house, nodes, name):
    assert nodes[0].command("push", lay(house.folder / "mine", {}), name, "--lan").code == 2


def test_a_hub_is_never_asked_for_such_a_name(site, house):
    alone = house.daemon("alone")
    site.hub.reset()
    assert alone.command("fetch", "_lan/none").code == 3
    assert alone.command("push", lay(house.folder / "x", {"a": b"a"}), "x", "--lan").code == 2
    assert sum(site.hub.counters.requests.values()) == 0


@pytest.mark.usefixtures("published")
def test_it_outlives_the_node_that_brought_it(nodes):
    wanted = files_in(nodes[1].fetch("_lan/tiny")["path"])
    nodes[0].kill()
    fetched = nodes[2].fetch("_lan/tiny")
    assert files_in(fetched["path"]) == wanted
    assert fetched["peers"] == sum(map(len, wanted.values()))
