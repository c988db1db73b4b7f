from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
import trio
from daemons import until

from p2pmodel.demo.hub import Hub, ThreadedHub, serve
from p2pmodel.demo.pace import Pace, parse_rate

WEIGHTS = bytes(range(256)) * 40
FILE = "/acme/tiny/resolve/main/model.safetensors"


async def test_stats_tell_who_asked_what_and_how_many_bytes_left(hub, client):
    await client.fetch(FILE, Range="bytes=0-99", token="hf_alice")
    await client.ask(FILE, "HEAD")
    await client.ask("/api/models/acme/tiny")
    stats = (await client.ask("/__stats")).json()
    assert stats["requests"] == {"GET hf resolve": 1, "GET cdn blob": 1, "HEAD hf resolve": 1, "GET hf info": 1}
    assert stats["statuses"] == {"302": 2, "206": 1, "200": 1}
    assert stats["file_bytes"] == 100
    assert stats["file_bytes_by_path"] == {"models/acme/tiny/model.safetensors": 100}
    assert stats["file_bytes_by_blob"] == {hashlib.sha256(WEIGHTS).hexdigest(): 100}
    assert stats["tokens_by_host"] == {"hub": 1, "cdn": 0}
    assert hub.log[0].had_token
    assert "hf_alice" not in repr(hub.log)
    log = (await client.ask("/__log")).json()
    assert [one["range"] for one in log] == ["bytes=0-99", "bytes=0-99", "", ""]


async def test_a_reset_starts_at_zero_and_keeps_the_repos(hub, client):
    await client.fetch(FILE)
    await client.ask("/__reset", "POST")
    assert (await client.ask("/__stats")).json()["requests_total"] == 0
    assert (await client.fetch(FILE)).body == WEIGHTS


async def test_one_rate_is_shared_by_all_connections(hub, client, autojump_clock):
    assert (await client.ask("/__settings", "POST", body=b'{"rate": "1kB"}')).status == 200
    before = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(client.fetch, FILE)
    assert trio.current_time() - before == pytest.approx(3 * 10.24, rel=0.05)
    assert (await client.ask("/__settings", "POST", body=b'{"rat": "1kB"}')).status == 400


async def test_a_pace_owes_nobody_the_time_that_nobody_used(autojump_clock):
    pace = Pace(1000)
    await trio.sleep(100)
    before = trio.current_time()
    await pace.take(1000)
    assert trio.current_time() - before > 0.9


@pytest.mark.parametrize(("text", "rate"), [("100mbit", 12.5e6), ("10Gbit/s", 1.25e9), ("12.5MB", 12.5e6), ("800bit", 100)])
def test_rates_are_read_in_bits_and_bytes(text, rate):
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "fast", "10", "-1mbit"])
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(ValueError, match="not a rate"):
        parse_rate(text)


async def test_garbage_ends_its_own_connection_only(hub, client):
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.server.handle, theirs)
        await ours.send_all(b"\x16\x03\x01 hello\r\n\r\n")
        assert await ours.receive_some(1) == b""
    assert hub.stats()["broken_connections"] == 1
    assert (await client.fetch(FILE)).body == WEIGHTS


@pytest.mark.parametrize(
    "asked",
    [
        {"target": "http://[/x"},
        {"target": "http://hub.example"},
        {"target": "*", "method": "OPTIONS"},
        {"target": FILE, "Range": "bytes=" + "9" * 5000 + "-"},
        {"target": "/api/models?limit=" + "9" * 5000},
        {"target": "/api/v1/datasets/" + "9" * 5000 + "/repo/tree"},
        {"target": "/acme/tiny/resolve/%ff%00/x"},
        {"target": "/acme/tiny/resolve/main/x", "Cookie": "\x01=;;="},
        {
            "target": "/api/models/acme/tiny/paths-info/main",
            "method": "POST",
            "body": b'[["x"]]',
            "Content-Type": "application/json",
        },
        {
            "target": "/api/models/acme/tiny/paths-info/main",
            "method": "POST",
            "body": b'{"paths": [[]]}',
            "Content-Type": "application/json",
        },
        {"target": "/api/models/acme/tiny/paths-info/main", "method": "POST", "body": b"\xff"},
        {"target": "/api/v1/login", "method": "POST", "body": b"7"},
    ],
)
async def test_a_senseless_request_gets_an_answer_and_harms_nobody(client, asked):
    assert (await client.ask(**asked)).status in {200, 302, 400, 401, 404, 405}
    assert (await client.fetch(FILE)).body == WEIGHTS


async def test_a_file_that_vanished_from_the_disk_costs_one_connection(hub, client, tmp_path):
    (tmp_path / "w").write_bytes(WEIGHTS)
    hub.add_repo("model", "acme/disk", {"w.bin": tmp_path / "w"})
    (tmp_path / "w").unlink()
    assert not (await client.fetch("/acme/disk/resolve/main/w.bin")).complete
    assert (await client.fetch(FILE)).body == WEIGHTS


async def test_an_idle_connection_is_closed_in_the_end(hub, autojump_clock):
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.server.handle, theirs)
        assert await ours.receive_some(1) == b""
    assert (hub.stats()["connections"], hub.stats()["broken_connections"]) == (0, 0)


def _get(url: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request("GET", url.removeprefix(f"{parts.scheme}://{parts.netloc}"), headers=headers)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def _disk_hub(tmp_path, size: int = 3_000_000) -> tuple[Hub, bytes]:
    data = os.urandom(size)
    (tmp_path / "w").write_bytes(data)
    hub = Hub()
    hub.add_repo("model", "acme/tiny", {"model.safetensors": tmp_path / "w"})
    return hub, data


def test_a_hub_in_a_thread_sends_files_from_disk_over_real_sockets(tmp_path):
    hub, data = _disk_hub(tmp_path)
    with ThreadedHub(hub) as running:
        redirect, _ = _get(running.url + FILE)
        assert redirect.headers["Location"].startswith(running.cdn_url)
        response, body = _get(redirect.headers["Location"], Range="bytes=1000000-")
        assert (response.status, body == data[1_000_000:]) == (206, True)
        until(lambda: hub.stats()["file_bytes"] == 2_000_000, "the last piece to be counted, which is after it was sent")
    with pytest.raises(OSError, match="refused"):
        _get(running.url + FILE)


def test_a_reset_connection_is_a_reset_for_the_client(tmp_path):
    hub, _ = _disk_hub(tmp_path)
    hub.configure({"cdn": "direct"})
    hub.fault("resolve", reset_at=0)
    with ThreadedHub(hub) as running, pytest.raises(ConnectionResetError):
        _get(running.url + FILE)


def test_a_port_in_use_is_an_error_of_the_one_who_asked():
    with ThreadedHub(Hub()) as running, pytest.raises(OSError, match="in use"):
        ThreadedHub(Hub(), port=urlsplit(running.url).port).__enter__()


async def test_the_storage_host_may_have_an_address_of_its_own(tmp_path):
    hub, data = _disk_hub(tmp_path, 10)
    async with serve(hub, cdn_host="localhost") as running:
        assert urlsplit(running.cdn_url).hostname == "localhost"
        redirect, _ = await trio.to_thread.run_sync(_get, running.url + FILE)
        _, body = await trio.to_thread.run_sync(_get, redirect.headers["Location"])
    assert body == data


def test_a_folder_is_served_by_a_process_that_prints_where(tmp_path):
    weights = tmp_path / "models" / "acme" / "tiny" / "sub" / "w.bin"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"123")
    hidden = tmp_path / "datasets" / "acme" / "hidden" / "a.csv"
    hidden.parent.mkdir(parents=True)
    hidden.write_bytes(b"x")
    (tmp_path / "hub.json").write_text(json.dumps({"users": {"hf_alice": "alice"}, "private": ["acme/hidden"]}))
    command = [sys.executable, "-m", "p2pmodel.demo.hub", str(tmp_path), "--rate", "1gbit", "--print-json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            said = json.loads(process.stdout.readline())
            assert said["repos"] == ["models/acme/tiny", "datasets/acme/hidden"]
            redirect, _ = _get(said["url"] + "/acme/tiny/resolve/main/sub/w.bin")
            assert _get(redirect.headers["Location"])[1] == b"123"
            assert _get(said["url"] + "/api/datasets/acme/hidden")[0].status == 401
            assert _get(said["url"] + "/api/datasets/acme/hidden", Authorization="Bearer hf_alice")[0].status == 200
            assert json.loads(_get(said["url"] + "/__stats")[1])["file_bytes"] == 3
        finally:
            process.send_signal(signal.SIGTERM)
