"""The main job: several nodes, one hub, every byte from the hub once. Real processes on real sockets."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from daemons import MIB, files_in
from noise import noise

WEIGHTS = noise(1, 9 * MIB + 1)
FILES = {
    "config.json": b'{"model_type": "bert"}',
    "empty.txt": b"",
    "sub/deep/vocab.txt": b"hello\n",
    "model.safetensors": WEIGHTS,
}
SIZE = sum(map(len, FILES.values()))


@pytest.fixture(scope="module")
def nodes(site, house):
    """Three nodes in open mode, all linked."""
    one = house.daemon("one")
    two = house.daemon("two", [one])
    three = house.daemon("three", [one, two])
    one.linked(2)
    return one, two, three


def test_the_second_and_third_node_take_no_payload_byte_from_the_hub(site, nodes):
    site.hub.add_repo("model", "acme/tiny", FILES)
    first, *others = nodes
    done = first.fetch("acme/tiny")
    assert files_in(done["path"]) == FILES
    assert (done["upstream"], done["peers"], site.sent) == (SIZE, 0, SIZE)
    for node in others:
        done = node.fetch("acme/tiny")
        assert files_in(done["path"]) == FILES
        assert (done["upstream"], done["peers"]) == (0, SIZE)
    assert site.sent == SIZE
    assert [node.received("upstream") for node in nodes] == [SIZE, 0, 0]


def test_what_is_here_is_fetched_without_a_word_to_the_hub_about_its_bytes(site, nodes):
    site.hub.add_repo("model", "acme/again", {"config.json": b"{}", "w.bin": noise(2, 100_000)})
    nodes[0].bring("acme/again")
    site.hub.reset()
    done = nodes[0].fetch("acme/again@" + site.hub.repo("model", "acme/again").head.id)
    assert (done["here"], done["upstream"], done["peers"]) == (100_002, 0, 0)
    assert site.hub.log == []


def test_the_same_file_of_two_hubs_is_stored_once_and_moved_once(site, nodes):
    shared = {"model.safetensors": noise(3, 5 * MIB), "config.json": b'{"hidden_size": 3}'}
    site.hub.add_repo("model", "acme/both", shared)
    first, second, _ = nodes
    here = first.bring("acme/both")
    there = first.bring("acme/both", "modelscope")
    assert files_in(there["path"]) == shared
    assert (there["here"], there["upstream"], there["peers"]) == (sum(map(len, shared.values())), 0, 0)
    for name in shared:
        assert Path(here["path"], name).samefile(Path(there["path"], name))
    moved = sum(map(len, shared.values()))
    assert second.bring("acme/both", "modelscope")["peers"] == moved
    assert second.bring("acme/both")["here"] == moved
    probes = 2  # a ModelScope listing does not say whether its files are public: each node reads one byte of one to see
    assert site.sent == moved + probes


@pytest.mark.parametrize("count", [2, 3])
def test_nodes_that_start_a_cold_model_together_cost_the_hub_about_one_copy(site, nodes, count):
    weights = noise(10 + count, 40 * MIB)
    name = f"acme/cold{count}"
    site.hub.add_repo("model", name, {"config.json": b"{}", "model.safetensors": weights})
    site.hub.pace.rate = 60e6  # the uplink is what the nodes share
    with ThreadPoolExecutor(count) as together:
        ended = list(together.map(lambda node: node.bring(name), nodes[:count]))
    for done in ended:
        assert files_in(done["path"])["model.safetensors"] == weights
    assert site.sent <= 1.10 * len(weights)
    assert sum(done["upstream"] for done in ended) <= 1.10 * len(weights)


def test_datasets_and_branches_are_fetched_like_models(site, nodes):
    site.hub.add_repo("dataset", "acme/data", {f"part{number}.csv": b"%d" % number for number in range(40)})
    repo = site.hub.repo("dataset", "acme/data")
    repo.commit({"part0.csv": b"changed"}, branch="feature/x")
    for node, hub in zip(nodes, ("huggingface", "modelscope", "huggingface"), strict=True):
        done = node.bring("acme/data", hub, type="dataset")
        assert files_in(done["path"]) == {f"part{number}.csv": b"%d" % number for number in range(40)}
    done = nodes[1].fetch("acme/data@feature/x", "part0.csv", "--type", "dataset")
    assert files_in(done["path"])["part0.csv"] == b"changed"


def test_a_node_hears_from_its_peer_of_the_others(site, house, nodes):
    """Peer exchange: multicast is off here, and the newcomer was told of one node only."""
    house.plan("newcomer", [nodes[2]]).start().linked(3).kill()
