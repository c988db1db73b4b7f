"""Two daemons of a closed cluster: one asks the other to bring a model in, and each can say afterwards where it came from."""

import re

import pytest
from daemons import MIB, files_in, until
from noise import noise

pytestmark = pytest.mark.houses

FILES = {"config.json": b"{}", "model.safetensors": noise(21, 13 * MIB)}
SIZE = sum(map(len, FILES.values()))


@pytest.fixture(scope="module")
def nodes(house):
    key = house.folder / "cluster-key"
    assert house.user.run("cluster", "init", "--key-file", key).code == 0
    closed = {"cluster__mode": "closed", "cluster__key_file": str(key)}
    one = house.daemon("one", **closed)
    return one, house.daemon("two", [one], **closed)


@pytest.fixture(scope="module")
def model(site, house, nodes):
    """Both have it, for the first asked for it."""
    site.hub.add_repo("model", "acme/warm", FILES)
    before = site.sent
    done = nodes[0].command("warm", "acme/warm", "--wait", "--json")
    assert done.code == 0, done.err
    return done, site.sent - before


def test_one_node_asks_and_both_have_it_for_one_copy_from_the_hub(nodes, model):
    done, sent = model
    here, there = done.json["nodes"]
    assert (here["node"], here["state"], there["state"]) == ("here", "done", "done")
    assert here["bytes"] == there["bytes"] == SIZE
    assert sent <= 1.10 * SIZE
    assert "acme/warm on all" in done.err
    for node in nodes:
        fetched = node.fetch("acme/warm")
        assert (fetched["here"], fetched["upstream"]) == (SIZE, 0)
        assert files_in(fetched["path"]) == FILES


@pytest.mark.usefixtures("model")
def test_why_accounts_for_every_chunk_and_every_order_of_the_hub(nodes):
    upstream = 0
    for node in nodes:
        told = node.command("why", "acme/warm", "--json").json
        assert [(file["path"], file["recorded"]) for file in told["files"]] == [("config.json", 1), ("model.safetensors", 4)]
        assert all(source["rate"] > 0 for source in told["sources"])
        assert all(reason["reason"] for reason in told["reasons"])
        upstream += sum(source["bytes"] for source in told["sources"] if source["kind"] == "hub")
    assert SIZE <= upstream <= 1.10 * SIZE
    table = nodes[1].command("why", "acme/warm", "model.safetensors").out
    assert "13.6 MB in 4 chunks" in table
    assert re.search(r"^  0(-\d)? +(hub huggingface|peer [0-9a-f]{12} 127\.0\.0\.1:\d+) +20\d\d-", table, re.MULTILINE)


@pytest.mark.usefixtures("model")
def test_the_record_survives_kill_9_and_a_torn_line(nodes):
    node = nodes[1]
    told = node.command("why", "acme/warm", "--json").json
    node.kill()
    newest = max((node.state / "flights").iterdir())
    newest.write_bytes(newest.read_bytes() + b'{"blob":"sha256:torn')
    node.start().linked(1)
    assert node.command("why", "acme/warm", "--json").json == told


def test_private_models_are_not_told_of(site, nodes):
    site.hub.add_repo("model", "acme/secret", {"w.bin": noise(22, 1000)}, private=True)
    site.hub.add_user("hf_good", "ann", grants=["acme/secret"])
    nodes[0].fetch("acme/secret", HF_TOKEN="hf_good")
    done = nodes[0].command("why", "acme/secret")
    assert done.code == 3
    assert nodes[0].command("warm", "acme/secret", HF_TOKEN="hf_good").code in {3, 4}


def test_a_peer_goes_on_when_the_asker_has_left(site, nodes):
    site.hub.add_repo("model", "acme/left", {"w.bin": noise(23, 8 * MIB)})
    site.hub.pace.rate = 8e6
    one, two = nodes
    done = one.command("warm", "acme/left", "--nodes", "here,127.0.0.1")
    assert done.code == 0, done.err
    assert "go on by themselves" in done.err
    shown = until(lambda: two.ask("/-/api/status").json["downloads"], "the other to be at work")
    assert shown[0]["files"] == [{"hub": "huggingface", "type": "model", "repo": "acme/left", "path": "w.bin"}]
    one.kill()
    try:
        until(lambda: two.fetch("acme/left")["path"], "the other to have it")
    finally:
        one.start()


def test_in_open_mode_it_is_refused_in_a_sentence(house):
    open_node = house.daemon("open")
    other = house.daemon("other", [open_node])
    done = other.command("warm", "acme/warm")
    assert done.code == 2
    assert "closed cluster" in done.err
    assert "p2pmodel cluster init" in done.err
