"""`p2pmodel why`, and what `status` says of a live swarm."""

import json
import re

import pytest

from p2pmodel.cli.why import REASONS
from p2pmodel.swarm import HubReason

PEER = {"kind": "peer", "source": "ab" * 20, "address": "10.0.0.2:7277"}
HUB = {"kind": "hub", "source": "huggingface", "address": ""}
FILE = {
    "path": "model.safetensors",
    "blob": "sha256:" + "c" * 64,
    "bytes": 40_000_000,
    "chunks": 10,
    "chunks_here": 10,
    "recorded": 9,
    "runs": [
        {"first": 0, "last": 3, **HUB, "began": 1.8e9, "bytes": 16_000_000, "rate": 2e6, "reason": "my_turn"},
        {"first": 4, "last": 4, **PEER, "began": 1.8e9, "bytes": 4_000_000, "rate": 1e9, "reason": ""},
    ],
    "failures": [{**PEER, "outcome": "ShortAnswerError", "orders": 2, "last": 1.8e9}],
}
WHY = {
    "files": [FILE],
    "sources": [{**HUB, "bytes": 16_000_000, "orders": 1}, {**PEER, "bytes": 4_000_000, "orders": 3, "failed": 2}],
    "reasons": [{"reason": "my_turn", "bytes": 16_000_000}],
}


def test_each_run_of_chunks_is_told_with_its_source_and_why(run, daemon):
    daemon.documents["why"] = WHY
    code, out, _ = run("why", "org/model@v1", "model.safetensors")
    assert code == 0
    assert re.search(r"0-3 +hub huggingface +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +2\.0 MB/s +no peer held it; of the nodes", out)
    assert re.search(r"  4 +peer abababababab 10\.0\.0\.2:7277 .* 1\.0 GB/s +a peer held it", out)
    assert "failed: 2 orders of peer abababababab 10.0.0.2:7277, ShortAnswerError" in out
    assert "1 chunk came before the record begins" in out
    assert re.search(r"hub huggingface +16\.0 MB +80% +1 +0", out)
    assert "A hub gave 16.0 MB: no peer held it" in out
    path, query, _ = daemon.asked[0]
    assert path == "/-/api/why"
    assert query == {
        "repo": ["org/model"], "revision": ["v1"], "file": ["model.safetensors"], "hub": ["huggingface"], "type": ["model"],
    }  # fmt: skip


def test_of_a_whole_repo_long_lists_are_cut_and_say_how_to_see_more(run, daemon):
    runs = [{**FILE["runs"][0], "first": 2 * number, "last": 2 * number} for number in range(30)]
    daemon.documents["why"] = WHY | {"files": [FILE | {"runs": runs}, FILE | {"path": "unknown", "runs": [], "failures": []}]}
    out = run("why", "org/model")[1]
    assert "and 10 more runs: name the file" in out
    assert "unknown" not in out


def test_the_document_is_the_daemons_own(run, daemon):
    daemon.documents["why"] = WHY
    assert json.loads(run("why", "org/model", "--json")[1]) == WHY


def test_what_is_not_in_the_record_is_said_so(run, daemon):
    daemon.documents["why"] = WHY | {"sources": [], "reasons": [], "files": [FILE | {"runs": [], "failures": []}]}
    code, _, err = run("why", "org/model")
    assert code == 0
    assert "Nothing is recorded" in err


def test_a_repo_that_is_not_here_is_not_found(run, daemon):
    daemon.status = 404
    daemon.documents["why"] = {"error": "No public snapshot of org/x at main is known here."}
    code, _, err = run("why", "org/x")
    assert code == 3
    assert "No public snapshot" in err


def test_every_reason_has_its_words():
    assert set(REASONS) == set(HubReason)


LIVE = {
    "blob": "sha256:" + "c" * 64,
    "bytes": 8_000_000,
    "chunks": 2,
    "chunks_here": 1,
    "files": [{"hub": "huggingface", "type": "model", "repo": "org/model", "path": "w.bin"}],
    "rate": 1e6,
    "eta_s": 4.0,
    "cluster": {"nodes": 3, "least": 0.25, "eta_s": 90.0},
    "sources": [{**PEER, "orders": 2, "rate": 7e5}, {**HUB, "orders": 1, "rate": 3e5}],
}
STATUS = {
    "node_id": "ab" * 20, "name": "n", "version": "1", "state_dir": "/s", "gateway": "g", "peering": "p", "mode": "open",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "1.0 MB/s, 4 s to go here, 1 min 30 s to go in the cluster (3 nodes; the last has 25%)"),
        ({"eta_s": None, "rate": 0.0}, "0 B/s, no end in sight here"),
        ({"cluster": {"nodes": 1}}, "4 s to go here\n"),
    ],
)
def test_status_shows_a_transfers_swarm(run, daemon, change, words):
    daemon.documents["status"] = STATUS | {"downloads": [LIVE | change]}
    out = run("status")[1]
    assert "org/model w.bin" in out
    assert words in out
    assert "peer abababababab 10.0.0.2:7277: 700.0 kB/s, 2 orders" in out
    assert "hub huggingface: 300.0 kB/s, 1 order" in out
