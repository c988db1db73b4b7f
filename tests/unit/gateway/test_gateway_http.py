"""HTTP as it comes over the wire: heads, bodies, keep-alive, and clients that do it wrong."""

import os
import socket

import pytest
import trio

from p2pmodel.errors import ConfigError
from p2pmodel.gateway import bind

FILE = os.urandom(3 << 20)


@pytest.fixture
def files(rig):
    return rig.add("org/model", {"w.bin": FILE, "a.json": b"{}", "empty": b"", "dir/ü ber+1%.txt": b"odd"})


async def test_a_file_arrives_byte_for_byte_over_many_spans(rig, files):
    rig.delivery.span_bytes = 700_001
    answer = await rig.get("/org/model/resolve/main/w.bin")
    assert answer.status == 200
    assert answer.body == FILE
    assert answer.headers["content-length"] == str(len(FILE))
    assert rig.gateway.statistics.bytes_out == len(FILE)
    assert rig.gateway.statistics.requests == {("hf_file", 200): 1}
    assert sum(rig.gateway.statistics.seconds) == 1


async def test_a_connection_serves_one_request_after_the_other(rig, files):
    client = await rig.connect()
    for _ in range(3):
        assert (await client.get("/org/model/resolve/main/a.json")).body == b"{}"
        assert (await client.get("/org/model/resolve/main/empty")).body == b""
        assert (await client.get("/org/model/resolve/main/nothing")).status == 404
    assert rig.gateway.statistics.clients == 1


async def test_pipelined_requests_are_answered_in_order(rig, files):
    client = await rig.connect()
    one = f"GET /org/model/resolve/main/%s HTTP/1.1\r\nHost: localhost:{rig.port}\r\n\r\n"
    await client.send(one % "a.json" + one % "w.bin" + one % "a.json")
    assert [(await client.answer()).body for _ in range(3)] == [b"{}", FILE, b"{}"]


async def test_http_1_0_gets_its_answer_and_the_end(rig, files):
    client = await rig.connect()
    await client.send(f"GET /org/model/resolve/main/a.json HTTP/1.0\r\nHost: localhost:{rig.port}\r\n\r\n")
    assert (await client.answer()).body == b"{}"
    assert await client.rest() == b""


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.0\r\n\r\n", 421),
        (b"GET http://localhost:PORT/ HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost:PORT\r\nHost: evil\r\n\r\n", 400),
        (b"POST /x HTTP/1.1\r\nHost: localhost:PORT\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /x HTTP/1.1\r\nHost: localhost:PORT\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\nHost: localhost:PORT\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 40_000, 431),
        (b"GET /org/model/resolve/main/%ff HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", 400),
        (b"GET /api/v1/models/o/n/repo?FilePath=%ff HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", 400),
        (b"TRACE /org HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", 405),
        (b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", 400),
    ],
)
async def test_what_is_no_proper_request_is_refused_and_the_gateway_lives_on(rig, files, raw, status):
    client = await rig.connect()
    await client.send(raw.replace(b"PORT", str(rig.port).encode()))
    answer = await client.answer()
    assert answer.status == status
    assert (await rig.get("/healthz")).status == 200


async def test_a_body_where_none_belongs_is_refused_without_a_reset(rig, files):
    client = await rig.connect()
    answer = await client.get("/org/model/resolve/main/a.json", "Content-Length: 300000", body=b"x" * 300_000)
    assert answer.status == 400
    assert answer.headers["connection"] == "close"
    assert await client.rest() == b""


async def test_every_answer_carries_the_safety_headers_and_never_cors(rig, files):
    rig.upstreams.headers = [
        ("Access-Control-Allow-Origin", "*"),
        ("Content-Type", "text/html"),
        ("Content-Disposition", "inline"),
    ]
    for target in ("/healthz", "/org/model/resolve/main/a.json", "/org/nothing/resolve/main/x", "/org/page", "/-/nothing"):
        headers = (await rig.get(target)).headers
        assert headers["x-content-type-options"] == "nosniff", target
        assert headers["cross-origin-resource-policy"] == "same-origin", target
        assert headers["content-disposition"].startswith("attachment"), target
        assert not [name for name in headers if name.startswith("access-control")], target


async def test_a_status_has_its_phrase_which_clients_show_in_their_errors(rig, files):
    client = await rig.connect()
    await client.get("/-/nothing", read=False)
    assert (await client.stream.receive_some(22)) == b"HTTP/1.1 404 Not Found"


async def test_web_pages_and_rebound_names_reach_no_handler(rig, files):
    target = "/org/model/resolve/main/a.json"
    assert (await rig.get(target, host=f"evil.example:{rig.port}")).status == 421
    assert (await rig.get(target, "Origin: https://evil.example")).status == 403
    assert (await rig.get(target, "Sec-Fetch-Site: cross-site")).status == 403
    assert rig.delivery.asked == []
    assert rig.gateway.statistics.requests == {("refused", 421): 1, ("refused", 403): 2}


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/org/model/resolve/main/dir/%C3%BC%20ber+1%25.txt", "dir/ü ber+1%.txt"),
        ("/org/model/resolve/main/dir%2F%C3%BC%20ber%2B1%25.txt", "dir/ü ber+1%.txt"),
    ],
)
async def test_names_are_decoded_segment_by_segment(rig, files, target, path):
    answer = await rig.get(target)
    assert answer.body == b"odd"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''%C3%BC%20ber%2B1%25.txt"


@pytest.mark.parametrize(
    ("target", "revision"),
    [
        ("/org/model/resolve/refs%2Fpr%2F1/a.json", "refs/pr/1"),
        ("/org/model/resolve/refs/pr/1/a.json", "refs/pr/1"),
        ("/org/model/resolve/refs/convert/parquet/a.json", "refs/convert/parquet"),
        ("/org/model/resolve/feature%2Fx/a.json", "feature/x"),
    ],
)
async def test_an_encoded_slash_in_a_revision_is_no_separator(rig, files, target, revision):
    assert (await rig.get(target)).body == b"{}"
    assert rig.delivery.asked[0][1] == revision


async def test_a_source_that_fails_before_the_first_byte_is_a_proper_error(rig, files):
    rig.delivery.fails_at = 0
    answer = await rig.get("/org/model/resolve/main/w.bin")
    assert answer.status == 504
    assert "last source" in answer.json()["error"]


async def test_a_source_that_fails_in_the_middle_ends_the_body_with_fin(rig, files):
    rig.delivery.fails_at = 1 << 20
    client = await rig.connect()
    await client.get("/org/model/resolve/main/w.bin", read=False)
    # A second request lies unread in the socket: closing over it would be a reset.
    await client.get("/org/model/resolve/main/w.bin", read=False)
    received = await client.rest()
    assert received.partition(b"\r\n\r\n")[2] == FILE[: 1 << 20]
    assert rig.gateway.statistics.broken == 1


async def test_a_file_that_lost_its_end_on_disk_ends_the_body_and_not_the_gateway(rig, files):
    rig.delivery.span_bytes = 3 << 20
    rig.delivery.on_disk_bytes = 1 << 20
    client = await rig.connect()
    await client.get("/org/model/resolve/main/w.bin", read=False)
    assert (await client.rest()).partition(b"\r\n\r\n")[2] == FILE[: 1 << 20]
    assert (await rig.get("/healthz")).status == 200


async def test_a_client_that_stops_in_the_middle_gives_its_download_up(rig, files):
    client = await rig.connect()
    await client.get("/org/model/resolve/main/w.bin", read=False)
    await client.take(1000)
    rig.delivery.span_bytes = 1 << 16
    await client.stream.aclose()
    with trio.fail_after(5):
        await rig.delivery.left.wait()


async def test_draining_ends_idle_clients_and_lets_the_others_have_their_answer(start_gateway):
    async with start_gateway() as rig:
        rig.add("org/model", {"w.bin": FILE})
        idle, busy = await rig.connect(), await rig.connect()
        assert (await idle.get("/healthz")).status == 200
        rig.delivery.gate = trio.Event()
        await busy.get("/org/model/resolve/main/w.bin", read=False)
        await rig.delivery.waiting.wait()
        rig.gateway.drain()
        assert await idle.rest() == b""
        with pytest.raises(OSError, match="attempts"):
            await rig.connect()
        rig.delivery.gate.set()
        answer = await busy.answer()
        assert answer.body == FILE
        assert answer.headers["connection"] == "close"
        assert await busy.rest() == b""


async def test_when_all_places_are_taken_the_longest_idle_client_makes_way(start_gateway):
    async with start_gateway(clients_max=2) as rig:
        first, second = await rig.connect(), await rig.connect()
        await first.get("/healthz")
        await second.get("/healthz")
        await first.get("/healthz")
        assert (await rig.get("/healthz")).status == 200
        assert await second.rest() == b""
        assert (await first.get("/healthz")).status == 200


@pytest.mark.scorecard("S12")
async def test_a_client_that_does_not_end_its_head_makes_way_too(start_gateway):
    async with start_gateway(clients_max=2) as rig:
        slow = [await rig.connect() for _ in range(2)]
        for client in slow:
            await client.send("GET /healthz HTTP/1.1\r\nHost: loc")
        with trio.fail_after(2):
            assert (await rig.get("/healthz")).status == 200
        assert await slow[0].rest() == b""
        await slow[1].send(f"alhost:{rig.port}\r\n\r\n")
        assert (await slow[1].answer()).status == 200


async def test_places_can_be_taken_away_and_given_while_clients_are_there(start_gateway):
    async with start_gateway(clients_max=3) as rig:
        clients = [await rig.connect() for _ in range(3)]
        for client in clients:
            await client.get("/healthz")
        rig.gateway.resize(1)
        assert await clients[0].rest() == await clients[1].rest() == b""
        assert (await clients[2].get("/healthz")).status == 200
        rig.gateway.resize(2)
        assert (await rig.get("/healthz")).status == 200
        assert (await clients[2].get("/healthz")).status == 200


async def test_localhost_means_both_loopback_addresses_on_one_port():
    listeners = bind("localhost", 0)
    try:
        ports = {listener.getsockname()[1] for listener in listeners}
        hosts = [listener.getsockname()[0] for listener in listeners]
        assert len(ports) == 1
        assert hosts in (["127.0.0.1", "::1"], ["127.0.0.1"])
    finally:
        for listener in listeners:
            listener.close()


def test_a_port_in_use_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=str(port)):
            bind("localhost", port)


def test_a_name_cannot_be_listened_on():
    with pytest.raises(ConfigError, match="IP address"):
        bind("model-box", 0)


async def test_listening_beyond_this_machine_needs_a_token(start_gateway):
    async with start_gateway() as rig, trio.open_nursery() as nursery:
        listeners = bind("0.0.0.0", 0)
        with pytest.raises(ConfigError, match="open to other machines"):
            await rig.gateway.serve(listeners)
        listeners[0].close()
        nursery.cancel_scope.cancel()


async def test_a_gateway_with_a_token_tells_clients_how_to_show_it(start_gateway):
    async with start_gateway(token="s3cret") as rig:
        rig.add("org/model", {"a.json": b"{}"})
        refused = await rig.get("/org/model/resolve/main/a.json")
        assert refused.status == 401
        assert refused.headers["www-authenticate"].startswith("Basic")
        assert (await rig.get("/org/model/resolve/main/a.json", "Authorization: Bearer s3cret")).status == 200
        assert rig.delivery.asked[-1][-1].token is None
