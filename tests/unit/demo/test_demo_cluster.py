"""The demo's own judgement, on nodes that are not there: it must see what would be wrong."""

import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from p2pmodel.demo import cluster
from p2pmodel.demo.cluster import Model, Outcome
from p2pmodel.demo.nodes import Cluster, Step
from p2pmodel.demo.stage import Stage
from p2pmodel.errors import P2pmodelError

FILES = {"config.json": b"{}", "sub/weights": b"w" * 1000, "sub/same": b"w" * 1000}


class FakeHub:
    """Each look at its counter shows the next value."""

    def __init__(self, *counts):
        self._counts = list(counts)

    def stats(self):
        return {"file_bytes": self._counts.pop(0)}


@dataclass
class FakeNode:
    number: int
    snapshot: Path
    hub: int = 0
    failure: Exception | None = None
    silent: bool = False

    def fetch(self, repo):
        if self.silent:
            return
        yield Step(event="progress", bytes=2002)
        if self.failure:
            raise self.failure
        yield Step(event="done", bytes=2002, upstream=self.hub, peers=2002 - self.hub, path=str(self.snapshot))


def _folder(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


@pytest.fixture
def model(tmp_path):
    return Model.of("acme/tiny", _folder(tmp_path / "hub", FILES))


@pytest.fixture
def nodes(tmp_path):
    folders = [_folder(tmp_path / f"node{number}", FILES) for number in (1, 2, 3)]
    return [FakeNode(number, folder, hub=1002 if number == 1 else 0) for number, folder in enumerate(folders, 1)]


def _soon():
    return time.monotonic() + 5


def _play(model, nodes, hub):
    outcome = Outcome()
    cluster._one_after_the_other(Stage(), outcome, hub, model, nodes, _soon())
    return outcome


def test_bytes_that_stand_in_two_files_count_once(model):
    assert model.size == 1002


def test_when_all_is_well_every_promise_is_kept(model, nodes):
    outcome = _play(model, nodes, FakeHub(1002))
    assert outcome.kept
    assert [row.node for row in outcome.fetched] == [1, 2, 3]


@pytest.mark.parametrize("wrong", ["another byte", "a file more", "a file less"])
def test_a_node_with_other_files_than_the_hub_breaks_a_promise(model, nodes, wrong):
    if wrong == "a file less":
        (nodes[2].snapshot / "config.json").unlink()
    else:
        (nodes[2].snapshot / ("sub/weights" if wrong == "another byte" else "new")).write_bytes(b"w" * 999 + b"v")
    assert not _play(model, nodes, FakeHub(1002)).kept


def test_a_hub_that_sent_a_byte_twice_breaks_a_promise(model, nodes):
    assert not _play(model, nodes, FakeHub(1003)).kept


def test_a_second_node_that_asked_the_hub_breaks_a_promise(model, nodes):
    nodes[1].hub = 1
    assert not _play(model, nodes, FakeHub(1002)).kept


@pytest.mark.parametrize(("sent", "kept"), [(1002, True), (1102, True), (1103, False)])
def test_a_cold_start_may_cost_a_tenth_more(model, nodes, sent, kept):
    outcome = Outcome()
    cluster._all_at_once(Stage(), outcome, FakeHub(500, 500 + sent), model, nodes, _soon())
    assert outcome.kept is kept


def test_a_fetch_that_fails_ends_the_demo_with_its_reason(model, nodes):
    nodes[0].failure = P2pmodelError("Node 1: the disk is full.")
    with pytest.raises(P2pmodelError, match="disk is full"):
        _play(model, nodes, FakeHub(0))


def test_a_fetch_that_takes_too_long_ends_the_demo(model, nodes):
    nodes[1].silent = True
    with pytest.raises(P2pmodelError, match="took more than"):
        cluster.fetch(Stage(), model, nodes, time.monotonic() + 0.05)


def test_a_broken_promise_is_said(model, nodes, capsys):
    outcome = _play(model, nodes, FakeHub(2004))
    Stage().show(outcome.as_dict(), as_json=False)
    shown = capsys.readouterr().out
    assert "BROKEN  The hub sent acme/tiny once: 2.00 × its bytes." in shown
    assert "kept    Nodes 2 and 3 took nothing from the hub." in shown


def test_a_node_that_cannot_start_is_told_with_the_last_words_of_its_log(tmp_path):
    with Cluster(tmp_path, "http://127.0.0.1:1", {"node": "nmae = 1"}) as nodes, pytest.raises(P2pmodelError) as caught:
        nodes.start(1)
    assert "name" in caught.value.next_step
