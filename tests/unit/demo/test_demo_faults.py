from __future__ import annotations

import gzip
import json

import pytest
import trio

WEIGHTS = bytes(range(256)) * 40
FILE = "/acme/tiny/resolve/main/model.safetensors"


@pytest.fixture(autouse=True)
def _direct(hub):
    hub.configure({"cdn": "direct", "resolve_cache": False})


async def test_a_fault_hits_the_nth_matching_requests_and_no_other(hub, client):
    hub.fault(r"GET .*model\.safetensors", skip=1, times=2, status=503)
    assert [(await client.ask(FILE)).status for _ in range(4)] == [200, 503, 503, 200]
    assert (await client.ask("/acme/tiny/resolve/main/config.json")).status == 200
    assert hub.stats()["faults_played"] == 2


async def test_a_fault_without_times_stays_until_the_reset(hub, client):
    hub.fault("resolve", status=500)
    assert [(await client.ask(FILE)).status for _ in range(3)] == [500] * 3
    hub.reset()
    assert (await client.ask(FILE)).status == 200


async def test_429_tells_how_long_to_wait(hub, client):
    hub.fault("", status=429, headers={"Retry-After": "7", "RateLimit": '"api";r=0;t=7'})
    reply = await client.ask(FILE)
    assert (reply.status, reply.headers["retry-after"], reply.headers["ratelimit"]) == (429, "7", '"api";r=0;t=7')


async def test_a_quota_is_told_ahead_and_refuses_when_it_is_spent(hub, client, autojump_clock):
    hub.configure({"quota": [2, 10]})
    replies = [await client.ask(FILE) for _ in range(3)]
    assert [reply.status for reply in replies] == [200, 200, 429]
    assert [reply.headers["ratelimit"][:9] for reply in replies] == ['"api";r=1', '"api";r=0', '"api";r=0']
    await trio.sleep(float(replies[2].headers["retry-after"]))
    assert (await client.ask(FILE)).status == 200
    hub.configure({"quota": None})
    assert "ratelimit" not in (await client.ask(FILE)).headers


async def test_latency_comes_before_the_head(hub, client, autojump_clock):
    hub.fault("", delay_s=12.0)
    before = trio.current_time()
    assert (await client.ask(FILE)).status == 200
    assert trio.current_time() - before >= 12


@pytest.mark.parametrize("effect", [{"truncate_at": 1000}, {"reset_at": 1000}])
async def test_a_cut_body_stops_after_the_given_bytes(hub, client, effect):
    hub.fault("", **effect)
    reply = await client.ask(FILE)
    assert (reply.status, reply.headers["content-length"], reply.body) == (200, "10240", WEIGHTS[:1000])
    assert not reply.complete
    assert hub.stats()["file_bytes"] == 1000


async def test_a_dropped_request_gets_no_answer(hub, client):
    hub.fault("", drop=True, times=1)
    assert (await client.ask(FILE)).status == 0
    assert (await client.ask(FILE)).status == 200


async def test_a_stalled_body_never_goes_on_but_ends_with_its_client(hub, client, autojump_clock):
    hub.fault("", stall_at=10)
    with trio.move_on_after(3600) as patience:
        await client.ask(FILE)
    assert patience.cancelled_caught
    assert hub.stats()["file_bytes"] == 10
    assert hub.stats()["connections"] == 0


@pytest.mark.parametrize("asked", ["bytes=0-", "bytes=4000-6000", "bytes=5000-5000"])
async def test_a_flipped_byte_is_the_same_lie_in_every_range(hub, client, asked):
    hub.fault("", flip_at=5000)
    reply = await client.ask(FILE, Range=asked)
    start = int(asked.removeprefix("bytes=").partition("-")[0])
    wrong = [start + at for at, byte in enumerate(reply.body) if byte != WEIGHTS[start + at]]
    assert wrong == [5000]


async def test_a_file_on_disk_is_corrupted_too(hub, client, tmp_path):
    (tmp_path / "w").write_bytes(WEIGHTS)
    hub.add_repo("model", "acme/disk", {"w.bin": tmp_path / "w"})
    hub.fault("", flip_at=0)
    assert (await client.ask("/acme/disk/resolve/main/w.bin")).body == b"\xff" + WEIGHTS[1:]
    assert (tmp_path / "w").read_bytes() == WEIGHTS


async def test_a_body_may_be_longer_than_the_file(hub, client):
    hub.fault("", extra_bytes=3)
    reply = await client.ask(FILE)
    assert (reply.complete, reply.headers["content-length"], reply.body) == (True, "10243", WEIGHTS + bytes(3))


async def test_an_endless_body_goes_on_until_the_client_leaves(hub, client, autojump_clock):
    hub.fault("", endless=True, rate=1e6)
    with trio.move_on_after(5):
        await client.ask(FILE)
    assert hub.stats()["connections"] == 0


async def test_a_range_may_be_ignored_or_answered_with_another(hub, client):
    hub.fault("", ignore_range=True, times=1)
    hub.fault("", content_range="bytes 7-8/9", times=2)
    assert ((await client.ask(FILE, Range="bytes=0-9")).status) == 200
    reply = await client.ask(FILE, Range="bytes=0-9")
    assert (reply.status, reply.headers["content-range"]) == (206, "bytes 7-8/9")


async def test_an_etag_may_change_on_the_way(hub, client):
    hub.fault("", etag="f" * 64)
    reply = await client.ask(FILE, "HEAD")
    assert {reply.headers["etag"], reply.headers["x-linked-etag"]} == {'"' + "f" * 64 + '"'}


async def test_a_body_may_come_compressed(hub, client):
    hub.fault("", gzip=True)
    reply = await client.ask(FILE)
    assert (reply.headers["content-encoding"], reply.complete) == ("gzip", True)
    assert gzip.decompress(reply.body) == WEIGHTS


async def test_a_redirect_may_lead_elsewhere(hub, client):
    hub.fault("", location="http://evil.example/x")
    reply = await client.ask(FILE)
    assert (reply.status, reply.headers["location"]) == (302, "http://evil.example/x")


async def test_faults_may_be_of_one_host_only(hub, client):
    hub.configure({"cdn": "redirect"})
    hub.fault("", host="cdn", status=503)
    assert (await client.ask(FILE)).status == 302
    assert (await client.fetch(FILE)).status == 503


async def test_a_slow_answer_takes_its_time(hub, client, autojump_clock):
    hub.fault("", rate=1024)
    before = trio.current_time()
    assert (await client.ask(FILE)).body == WEIGHTS
    assert trio.current_time() - before == pytest.approx(10, abs=0.1)


async def test_faults_come_over_http_and_never_touch_the_steering(hub, client):
    fault = {"match": "", "status": 500}
    assert (await client.ask("/__faults", "POST", body=json.dumps([fault, fault]).encode())).json() == {"added": 2}
    assert (await client.ask(FILE)).status == 500
    assert (await client.ask("/__reset", "POST")).status == 200
    assert (await client.ask(FILE)).status == 200
    for wrong in ({"match": "("}, {"nonsense": 1}, 7):
        assert (await client.ask("/__faults", "POST", body=json.dumps(wrong).encode())).status == 400
