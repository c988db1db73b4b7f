"""The test plays the service manager of a real daemon: systemd's sockets, variables and files, and its SIGTERM.

The pieces on their own, and those meant for another process: tests/unit/systemd.
"""

import fcntl
import http.client
import os
import signal
import socket
import time
from contextlib import closing

import pytest
from daemons import MIB, until
from noise import noise


@pytest.fixture
def manager(tmp_path):
    """A notification socket as systemd binds it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(10)
        yield sock


def test_the_manager_hears_of_readiness_life_and_the_end(house, manager):
    node = house.plan("notifying")
    process = node.begin(NOTIFY_SOCKET=manager.getsockname(), WATCHDOG_USEC="200000")
    words = {}
    while not words.get("WATCHDOG"):
        words |= dict(line.split("=", 1) for line in manager.recv(1000).decode().splitlines())
        if words.get("READY"):  # not before clients are served
            port = int(words["STATUS"].split(",")[0].rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port)):
                pass
    assert words["READY"] == "1"
    begun = time.monotonic()
    for _ in range(3):
        assert manager.recv(1000) == b"WATCHDOG=1"
    assert time.monotonic() - begun < 2
    process.send_signal(signal.SIGTERM)
    until(lambda: manager.recv(1000) == b"STOPPING=1", "STOPPING=1")
    assert node.wait() == 0


def test_clients_reach_the_daemon_through_the_sockets_of_the_manager(house):
    """Descriptors 3 and 4 in a shell that stands in for systemd; LISTEN_PID is the process that it becomes."""
    node = house.plan("activated", gateway__listen="localhost:1")  # a port that it could not have
    with socket.create_server(("127.0.0.1", 0)) as v4:
        port = v4.getsockname()[1]
        with socket.create_server(("::1", port), family=socket.AF_INET6) as v6:
            high = [fcntl.fcntl(sock, fcntl.F_DUPFD, 20) for sock in (v4, v6)]
            shell = ("/bin/bash", "-c", f'export LISTEN_PID=$$; exec "$@" 3<&{high[0]} 4<&{high[1]}', "systemd")
            try:
                node.start(before=shell, pass_fds=tuple(high), LISTEN_FDS="2", LISTEN_FDNAMES="gateway:gateway")
            finally:
                for fd in high:
                    os.close(fd)
    for host in ("127.0.0.1", "::1"):
        with closing(http.client.HTTPConnection(host, port, timeout=5)) as connection:
            connection.request("GET", "/healthz", headers={"Host": f"localhost:{port}"})
            assert connection.getresponse().status == 200
    assert node.command("status").code == 0
    assert node.stop() == 0
    assert '"stopped"' in node.log


def test_a_socket_of_the_manager_that_other_machines_reach_is_refused_without_a_token(house):
    node = house.plan("wide-open")
    with socket.create_server(("0.0.0.0", 0)) as wide:
        high = fcntl.fcntl(wide, fcntl.F_DUPFD, 20)
        try:
            shell = ("/bin/bash", "-c", f'export LISTEN_PID=$$; exec "$@" 3<&{high}', "systemd")
            process = node.begin(before=shell, pass_fds=(high,), LISTEN_FDS="1", LISTEN_FDNAMES="gateway")
            assert process.wait(20) == 2
        finally:
            os.close(high)
    assert "gateway.serve_anyone" in node.log


def test_credentials_close_the_cluster_and_are_shown_to_the_hub_alone(site, house, tmp_path):
    site.hub.add_repo("model", "acme/public", {"config.json": b"{}", "w.bin": noise(3, 100)})
    site.hub.add_user("hf_fromcredentials", "machine")
    token = house.user.run("cluster", "init", "--key-file", tmp_path / "cluster-key").out
    (tmp_path / "hub-token").write_text("hf_fromcredentials\n")
    node = house.plan("credentialed", cluster__mode="closed")
    node.config.write_text(node.config.read_text().partition("[[upstream]]")[0])  # the defaults take the credential
    node.start(CREDENTIALS_DIRECTORY=str(tmp_path), HF_ENDPOINT=site.url)
    assert node.ask("/-/api/status").json["mode"] == "closed"
    assert node.ask("/acme/public/resolve/main/w.bin").body == noise(3, 100)
    assert site.hub.stats()["tokens_by_host"]["hub"] > 0
    assert site.hub.stats()["auth_leaks"] == 0
    assert node.stop() == 0
    assert "hf_fromcredentials" not in node.log
    assert token.strip() not in node.log


def test_sigterm_lets_a_running_download_end(site, house):
    """Within the grace of 10 s: this one takes about 2."""
    weights = noise(1, 12 * MIB)
    site.hub.add_repo("model", "acme/slow", {"model.safetensors": weights})
    node = house.daemon("draining")
    site.hub.pace.rate = 6e6
    with closing(http.client.HTTPConnection("127.0.0.1", node.port, timeout=20)) as connection:
        connection.request("GET", "/acme/slow/resolve/main/model.safetensors", headers={"Host": f"localhost:{node.port}"})
        answer = connection.getresponse()
        first = answer.read(MIB)
        assert node.process is not None
        node.process.send_signal(signal.SIGTERM)
        until(lambda: "stopping" in node.log, "the daemon to hear it")
        with pytest.raises(ConnectionRefusedError):
            until(lambda: socket.create_connection(("127.0.0.1", node.port)).close(), "the door to be closed")
        assert first + answer.read() == weights
    assert node.wait() == 0


@pytest.mark.soak
def test_sigterm_cuts_what_does_not_end_within_the_grace(site, house):
    site.hub.add_repo("model", "acme/endless", {"model.safetensors": noise(2, 40 * MIB)})
    node = house.daemon("cutting")
    site.hub.pace.rate = 1e6
    with closing(http.client.HTTPConnection("127.0.0.1", node.port, timeout=20)) as connection:
        connection.request("GET", "/acme/endless/resolve/main/model.safetensors", headers={"Host": f"localhost:{node.port}"})
        connection.getresponse()
        begun = time.monotonic()
        assert node.stop() == 0
        assert 9 < time.monotonic() - begun < 13
