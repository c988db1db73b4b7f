"""The whole daemon under a manager: the test hands over sockets and credentials and listens, as systemd does for the unit."""

import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from p2pmodel.peering.membership import new_join_token

_PATIENCE_S = 30  # a busy machine; nothing here waits for it to pass
_COMMAND = (sys.executable, "-c", "from p2pmodel.cli import main; raise SystemExit(main())")
_SERVE = (*_COMMAND, "serve", "--peering", "127.0.0.1:0", "--set", "discovery.mdns=false")


@contextmanager
def _inherited(*socks):
    """Duplicates that a child may inherit, far from the numbers that it will find them under."""
    fds = [fcntl.fcntl(sock, fcntl.F_DUPFD, 20) for sock in socks]
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


@pytest.fixture
def manager(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(_PATIENCE_S)
        yield sock


@pytest.fixture
def gateway():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def service(tmp_path, manager, gateway):
    """`p2pmodel serve` as p2pmodel.service starts it: type notify, watchdog, socket, state directory, credentials."""
    (tmp_path / "credentials").mkdir()
    for name, secret in (("cluster-key", new_join_token()), ("hub-token", "hf_canary")):
        (tmp_path / "credentials" / name).write_text(secret + "\n")
    environ = {
        "PATH": os.environ["PATH"],
        "NOTIFY_SOCKET": manager.getsockname(),
        "WATCHDOG_USEC": "200000",
        "STATE_DIRECTORY": str(tmp_path / "state"),
        "CREDENTIALS_DIRECTORY": str(tmp_path / "credentials"),
        "LISTEN_FDS": "1",
        "LISTEN_FDNAMES": "gateway",
        "HOME": str(tmp_path),
    }
    with _inherited(gateway) as (fd,), (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            ["/bin/bash", "-c", f'export LISTEN_PID=$$; exec "$0" "$@" 3<&{fd}', *_SERVE],
            env=environ,
            pass_fds=[fd],
            stderr=log,
        )
    yield process
    if process.poll() is None:
        process.kill()
        process.wait()


def _told(manager: socket.socket, wanted: str) -> str:
    """The first message that begins so; what comes before it is of no interest."""
    while not (message := manager.recv(4096).decode()).startswith(wanted):
        pass
    return message


def test_the_service_is_ready_watched_serves_the_handed_socket_and_takes_leave(service, manager, gateway, tmp_path):
    assert "STATUS=" in _told(manager, "READY=1")
    _told(manager, "WATCHDOG=1")
    _told(manager, "WATCHDOG=1")

    port = gateway.getsockname()[1]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
    connection.request("GET", "/-/api/status")
    status = json.loads(connection.getresponse().read())
    connection.close()
    assert status["mode"] == "closed"  # by the cluster-key credential
    assert status["state_dir"] == str(tmp_path / "state")
    announced = json.loads((tmp_path / "state" / "run" / "daemon.json").read_text())
    assert announced["gateway"].endswith(f":{port}")
    assert announced["pid"] == service.pid

    service.send_signal(signal.SIGTERM)
    _told(manager, "STOPPING=1")
    assert service.wait(_PATIENCE_S) == 0
    assert not (tmp_path / "state" / "run" / "daemon.json").exists()
    assert "canary" not in (tmp_path / "log").read_text()
