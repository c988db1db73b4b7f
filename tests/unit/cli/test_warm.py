"""`p2pmodel warm`: what it asks, what it shows, how it ends."""

import json

import pytest

NODE = {"files": 2, "bytes": 2_000_000, "here": 0, "peers": 0, "upstream": 0, "rate": 0.0, "text": ""}


def step(event, *nodes):
    given = [{**NODE, "node": name, "address": "", "state": state, **rest} for name, state, rest in nodes]
    return {"event": event, "commit": "c" * 40, "nodes": given}


BEGUN = step("progress", ("here", "running", {}), ("ab" * 20, "running", {"address": "10.0.0.2:7277", "rate": 1e6}))
DONE = step(
    "done",
    ("here", "done", {"upstream": 2_000_000, "files_done": 2}),
    ("ab" * 20, "done", {"address": "10.0.0.2:7277", "peers": 2_000_000, "files_done": 2}),
)
FAILED = step("done", ("here", "done", {}), ("ab" * 20, "failed", {"text": "No room left on the device."}))


def test_it_asks_for_what_was_named_and_sends_no_token(run, daemon, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    daemon.events = [BEGUN, DONE]
    code, _, _ = run("warm", "org/model@v1", "--nodes", "3", "--include", "*.json", "--exclude", "*.bin", "--wait")
    assert code == 0
    path, query, headers = daemon.asked[0]
    assert path == "/-/api/warm"
    assert query == {
        "repo": ["org/model"], "revision": ["v1"], "hub": ["huggingface"], "type": ["model"], "nodes": ["3"],
        "include": ["*.json"], "exclude": ["*.bin"],
    }  # fmt: skip
    assert "hf_canary" not in str(headers)


def test_with_wait_it_shows_all_nodes_as_one_and_then_each(run, daemon):
    daemon.events = [BEGUN, DONE]
    code, out, err = run("warm", "org/model", "--wait")
    assert code == 0
    assert "org/model on all: 4.0 MB of 4.0 MB (here 0 B, peers 2.0 MB, hub 2.0 MB)" in err
    heading, here, peer = out.splitlines()
    assert heading.startswith("NODE")
    assert here.split()[:2] == ["here", "done"]
    assert peer.split()[:3] == ["ab" * 6, "10.0.0.2:7277", "done"]
    assert "2 of 2" in peer


def test_without_wait_it_leaves_when_the_nodes_have_begun(run, daemon):
    daemon.events = [BEGUN, DONE]
    code, out, err = run("warm", "org/model")
    assert code == 0
    assert out.count("under way") == 2
    assert "go on by themselves" in err


@pytest.mark.parametrize("options", [(), ("--wait",)])
def test_nodes_that_failed_are_told_with_their_reason(run, daemon, options):
    daemon.events = [FAILED]
    code, out, err = run("warm", "org/model", *options)
    assert code == 1
    assert "failed: No room left on the device." in out
    assert "1 of 2 nodes" in err


def test_json_is_one_document(run, daemon):
    daemon.events = [BEGUN, DONE]
    document = json.loads(run("warm", "org/model", "--wait", "--json", "-q")[1])
    assert [node["state"] for node in document["nodes"]] == ["done", "done"]


def test_a_refusal_is_a_sentence_and_a_code_for_usage(run, daemon):
    daemon.status = 400
    daemon.documents["warm"] = {"error": "Only in a closed cluster may a node ask others."}
    code, out, err = run("warm", "org/model")
    assert (code, out) == (2, "")
    assert "Only in a closed cluster" in err


def test_an_answer_that_ends_in_the_middle_is_no_success(run, daemon):
    daemon.events = [BEGUN]
    code, _, err = run("warm", "org/model", "--wait", "-q")
    assert code == 1
    assert "too early" in err
