"""What clients, people and monitors reach over HTTP, as INTERFACE.md promises it; and strangers at the peer port."""

import http.client
import socket
import ssl
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from daemons import MIB
from noise import noise

RUNNER = Path(__file__).parents[2] / "protocol/conformance/run.py"
WEIGHTS = noise(1, 9 * MIB + 5)
FILES = {"config.json": b"{}", "empty.txt": b"", "odd +#&%ü.txt": b"odd", "model.safetensors": WEIGHTS}
METRICS = {
    "p2pmodel_bytes_total",
    "p2pmodel_chunks_total",
    "p2pmodel_peers",
    "p2pmodel_downloads_active",
    "p2pmodel_upstream_requests_total",
    "p2pmodel_upstream_latency_seconds",
    "p2pmodel_gateway_requests_total",
    "p2pmodel_gateway_seconds",
    "p2pmodel_store_bytes",
    "p2pmodel_store_quota_bytes",
    "p2pmodel_verify_failures_total",
    "p2pmodel_bans_total",
    "p2pmodel_build_info",
}


@pytest.fixture(scope="module")
def node(site, house):
    site.hub.add_repo("model", "acme/tiny", FILES)
    node = house.daemon("node")
    node.bring("acme/tiny")
    return node


def test_the_gateway_over_tls_is_as_env_tells_clients_that_need_it(site, house):
    """Up to 1.37 modelscope puts https:// before MODELSCOPE_DOMAIN, whatever it is told."""
    site.hub.add_repo("model", "acme/old", {"config.json": b"old"})
    node = house.daemon("over-tls", gateway__tls_listen="localhost:0")
    said = dict(line.removeprefix("export ").split("=", 1) for line in node.command("env").out.splitlines())
    context = ssl.create_default_context(cafile=said["REQUESTS_CA_BUNDLE"])
    target = "/api/v1/models/acme/old/repo?Revision=master&FilePath=config.json"
    with closing(http.client.HTTPSConnection(said["MODELSCOPE_DOMAIN"], timeout=20, context=context)) as connection:
        connection.request("GET", target)
        assert connection.getresponse().read() == b"old"
    assert node.ask(target).body == b"old"
    assert node.stop() == 0


@pytest.mark.parametrize("key", ["listen", "tls_listen"])
def test_a_gateway_that_other_machines_reach_wants_a_token_or_the_risk_named(house, tmp_path, key):
    wide = {f"gateway__{key}": "0.0.0.0:0"}
    refused = house.plan(f"wide-{key}", **wide)
    assert refused.begin().wait(20) == 2
    assert "gateway.token_file" in refused.log
    (tmp_path / "token").write_text("shown by clients\n")
    guarded = house.plan(f"guarded-{key}", gateway__token_file=str(tmp_path / "token"), **wide).start()
    assert guarded.ask("/-/api/status").status == 401
    assert guarded.ask("/-/api/status", X_P2pmodel_Token="shown by clients").status == 200
    anyone = house.plan(f"anyone-{key}", gateway__serve_anyone=True, **wide).start()
    assert anyone.ask("/-/api/status").status == 200
    for each in (guarded, anyone):
        assert each.stop() == 0


def test_health_and_readiness(node):
    assert node.ask("/healthz").status == 200
    assert node.ask("/readyz").status == 200


def test_a_node_that_can_take_nothing_more_is_not_ready_and_says_why(house):
    full = house.daemon("full", store__min_free="9999TB")
    answer = full.ask("/readyz")
    assert (answer.status, answer.json["ready"]) == (503, False)
    assert "store.min_free" in answer.json["reason"]
    assert full.ask("/healthz").status == 200


def test_every_promised_metric_is_there_by_its_name(node):
    text = node.ask("/metrics").body.decode()
    typed = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert typed >= METRICS
    assert "acme" not in text


def test_the_page_and_its_json_are_read_only(node):
    assert node.ask("/-/").headers["content-type"].startswith("text/html")
    assert node.ask("/-/api/status").json["node_id"]
    for path in ("/-/api/status", "/healthz", "/-/api/snapshots"):
        assert node.ask(path, method="POST").status in {403, 404, 405}
        assert node.ask(path, method="DELETE").status in {403, 404, 405}


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7276", "localhost:1", ""])
def test_an_unexpected_host_is_misdirected(node, host):
    assert node.ask("/acme/tiny/resolve/main/config.json", Host=host).status == 421


def test_both_loopback_addresses_answer_and_no_other(node):
    for host in ("127.0.0.1", "::1"):
        socket.create_connection((host, node.port), timeout=5).close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", node.port), timeout=5)


@pytest.mark.parametrize("path", FILES)
def test_every_file_is_served_byte_for_byte_without_redirect_or_xet(node, path):
    from urllib.parse import quote  # noqa: PLC0415  # here alone

    answer = node.ask(f"/acme/tiny/resolve/main/{quote(path)}")
    assert answer.status == 200
    assert answer.body == FILES[path]
    assert answer.headers["x-p2pmodel-source"] == "store"
    assert not {"location", "x-xet-hash", "link"} & answer.headers.keys()


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=4194300-4194309", 4194300, 4194310),
        ("bytes=-7", -7, None),
        ("bytes=9000000-", 9000000, None),
    ],
)
def test_ranges_are_exact(node, asked, start, stop):
    answer = node.ask("/acme/tiny/resolve/main/model.safetensors", Range=asked)
    assert answer.status == 206
    assert answer.body == WEIGHTS[start:stop]


@pytest.mark.parametrize("cold", ["bytes=5000000-5000009", "bytes=0-"])
def test_ranges_of_a_cold_file_are_exact(site, node, cold):
    name = f"acme/cold{cold[6]}"
    site.hub.add_repo("model", name, {"model.safetensors": noise(len(cold), 40 * MIB)})
    answer = node.ask(f"/{name}/resolve/main/model.safetensors", Range=cold)
    start, _, stop = cold.removeprefix("bytes=").partition("-")
    assert answer.body == noise(len(cold), 40 * MIB)[int(start) : int(stop) + 1 if stop else None]
    assert answer.headers["x-p2pmodel-source"] == "upstream"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/acme/none/resolve/main/config.json", "RepoNotFound"),
        ("/acme/tiny/resolve/nope/config.json", "RevisionNotFound"),
        ("/acme/tiny/resolve/main/nope", "EntryNotFound"),
        ("/api/models/acme/none", "RepoNotFound"),
        ("/api/models/acme/tiny/revision/nope", "RevisionNotFound"),
    ],
)
def test_what_is_unknown_is_a_404_with_the_code_that_clients_map(node, path, code):
    answer = node.ask(path)
    assert (answer.status, answer.headers["x-error-code"]) == (404, code)


@pytest.mark.parametrize(
    "path",
    ["/api/v1/models/acme/none/repo/files?Revision=master", "/api/v1/models/acme/tiny/repo?Revision=master&FilePath=nope"],
)
def test_what_is_unknown_to_modelscope_is_a_404_in_its_envelope(node, path):
    answer = node.ask(path)
    assert answer.status == 404
    assert answer.json["Success"] is False


@pytest.mark.parametrize("mode", ["open", "closed"])
def test_a_running_daemon_keeps_the_protocol(site, house, node, tmp_path, mode):
    """The conformance runner knows nothing of p2pmodel: garbage, giant lengths, nested msgpack and silence are its own."""
    arguments = []
    if mode == "closed":
        assert house.user.run("cluster", "init", "--key-file", tmp_path / "key").code == 0
        node = house.daemon("closed", cluster__key_file=str(tmp_path / "key"))
        node.bring("acme/tiny")
        arguments = ["--token-file", str(tmp_path / "key")]
    done = subprocess.run(
        [sys.executable, RUNNER, "127.0.0.1", str(node.peering), "--quick", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SKIP  " not in done.stdout
    assert node.ask("/healthz").status == 200


@pytest.mark.parametrize("port", ["port", "peering"])
def test_garbage_at_a_door_harms_nobody(node, port):
    for garbage in (b"\0" * 1000, b"\xff" * 100_000, b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01", b""):
        with socket.create_connection(("127.0.0.1", getattr(node, port)), timeout=5) as sock:
            try:
                sock.sendall(garbage)
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65536):
                    pass
            except TimeoutError:
                raise
            except OSError:  # refused half-way: a reset, or no longer connected
                pass
    assert node.ask("/acme/tiny/resolve/main/config.json").body == b"{}"
