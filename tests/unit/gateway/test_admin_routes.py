import json
import re

import pytest

from p2pmodel.content import Hub, Repo, RepoKind
from p2pmodel.delivery.ports import NodeWarm, Selection, WarmStep
from p2pmodel.errors import UnavailableError


async def test_health_readiness_and_metrics(rig):
    assert (await rig.get("/healthz")).status == 200
    assert (await rig.get("/readyz")).json() == {"ready": True}
    rig.ready.append("The store is opening.")
    answer = await rig.get("/readyz")
    assert (answer.status, answer.json()) == (503, {"ready": False, "reason": "The store is opening."})
    metrics = await rig.get("/metrics")
    assert metrics.body == b"metric 1\n"
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")


async def test_reports_are_json_by_name(rig):
    assert (await rig.get("/-/api/status")).json() == {"node": "n1", "peers": []}
    assert (await rig.get("/-/api/status?a=1&a=2&b=%20")).json() == {"node": "n1", "peers": [], "a": "1", "b": " "}
    assert (await rig.get("/-/api/status?fail=1")).status == 404
    assert (await rig.get("/-/api/nothing")).status == 404
    assert (await rig.get("/-/else")).status == 404


@pytest.mark.parametrize("target", ["/-/api/status", "/healthz", "/-/api/fetch?repo=org/model"])
async def test_nothing_here_can_be_changed(rig, target):
    assert (await rig.get(target, "Content-Length: 0", method="POST")).status in {404, 405}
    assert rig.upstreams.requests == []


async def test_the_page_loads_nothing_from_elsewhere_and_runs_its_own_script_alone(rig):
    answer = await rig.get("/-/")
    assert answer.headers["content-disposition"] == "inline"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", policy)
    assert not re.search(rb"(?:src|href)=\"(?!data:|/-/)", answer.body)
    assert b"innerHTML" not in answer.body


def lines(answer):
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.body.splitlines()]


async def test_a_fetch_tells_its_steps_and_how_it_ended(rig, progress):
    repo = rig.add("org/data", {}, kind=RepoKind.DATASET)
    rig.delivery.steps = [progress(0), progress(2, path="/state/hub/x")]
    query = "repo=org/data&type=dataset&revision=v1&file=a%20b&include=*.json&include=*.txt&exclude=x*"
    first, last = lines(await rig.get(f"/-/api/fetch?{query}", "Authorization: Bearer hf_x"))
    assert first == {
        "event": "progress", "commit": "c0ffee" + "0" * 34, "files": 2, "files_done": 0, "bytes": 100, "here": 10,
        "peers": 20, "upstream": 30, "rate": 1.5, "path": None,
    }  # fmt: skip
    assert (last["event"], last["path"], last["files_done"]) == ("done", "/state/hub/x", 2)
    asked_repo, revision, selection, access = rig.delivery.asked[0]
    assert (asked_repo, revision, access.token) == (repo, "v1", "hf_x")
    assert selection == Selection(("a b",), ("*.json", "*.txt"), ("x*",))


async def test_a_fetch_that_fails_says_why_and_what_to_do(rig, progress):
    missing = lines(await rig.get("/-/api/fetch?repo=org/nothing"))
    assert missing == [
        {"event": "error", "kind": "RepoNotFoundError", "message": "There is no such repo.", "next_step": "Check its name."}
    ]
    rig.add("org/model", {})
    rig.delivery.steps = [progress(0), UnavailableError("The hub is gone.")]
    kinds = [(line["event"], line.get("kind")) for line in lines(await rig.get("/-/api/fetch?repo=org/model"))]
    assert kinds == [("progress", None), ("error", "UnavailableError")]


async def test_a_fetch_without_a_revision_means_the_hubs_own_default(rig):
    for hub in Hub:
        rig.add("org/model", {}, hub=hub)
        await rig.get(f"/-/api/fetch?repo=org/model&hub={hub}")
    assert {asked[0].hub: asked[1] for asked in rig.delivery.asked} == {Hub.HUGGINGFACE: "main", Hub.MODELSCOPE: "master"}
    assert rig.delivery.asked[0][0] == Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/model")


@pytest.mark.parametrize("query", ["", "repo=..", "repo=org/model&hub=else", "repo=org/model&type=else"])
async def test_a_fetch_of_nothing_sensible_is_refused(rig, query):
    answer = await rig.get(f"/-/api/fetch?{query}")
    assert answer.status == 400
    assert answer.json()["error"]


async def test_a_warm_tells_how_far_each_node_is(rig):
    repo = rig.add("org/model", {})
    node = NodeWarm("here", "", state="done", files=1, files_done=1)
    rig.delivery.steps = [WarmStep("c" * 40, (node,), over=False), WarmStep("c" * 40, (node,), over=True)]
    first, last = lines(await rig.get("/-/api/warm?repo=org/model&nodes=2&include=*.json", "Authorization: Bearer hf_x"))
    assert (first["event"], last["event"]) == ("progress", "done")
    assert last["nodes"][0]["files_done"] == 1
    assert rig.delivery.asked == [(repo, "main", Selection(include=("*.json",)), "2")], "the token stays here"
    assert (await rig.get("/-/api/warm?repo=org/nothing")).status == 404
