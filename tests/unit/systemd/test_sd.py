"""The test plays the service manager: it makes the sockets, variables and files that systemd would."""

import fcntl
import os
import socket
import subprocess
import sys

import pytest

from p2pmodel import sd


@pytest.fixture
def manager(tmp_path):
    """A notification socket as systemd binds it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(1)
        yield sock


def test_the_manager_hears_that_the_daemon_is_ready(manager):
    assert sd.notify("READY=1\nSTATUS=serving", {"NOTIFY_SOCKET": manager.getsockname()})
    assert manager.recv(100) == b"READY=1\nSTATUS=serving"


def test_an_abstract_socket_is_reached_by_its_at_sign():
    name = f"p2pmodel-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name)
        sock.settimeout(1)
        assert sd.notify("WATCHDOG=1", {"NOTIFY_SOCKET": "@" + name})
        assert sock.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "vsock:2:1234"])
def test_without_a_manager_to_hear_it_nothing_happens(address):
    assert not sd.notify("READY=1", {"NOTIFY_SOCKET": address})


def test_the_watchdog_is_fed_twice_as_often_as_the_manager_looks():
    assert sd.watchdog_interval_s({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}) == 15.0
    assert sd.watchdog_interval_s({"WATCHDOG_USEC": "30000000"}) == 15.0


@pytest.mark.parametrize(
    "environ", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "30", "WATCHDOG_PID": "1"}]
)
def test_no_watchdog_is_fed_where_none_watches_this_process(environ):
    assert sd.watchdog_interval_s(environ) is None


def test_sockets_meant_for_another_process_are_left_alone():
    assert sd.listen_fds({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) == {}
    assert sd.listen_fds({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"}) == {}
    assert sd.listen_fds({}) == {}


def test_a_process_finds_the_sockets_that_were_bound_for_it_by_name():
    """A child gets two listening sockets as descriptors 3 and 4, as systemd hands them over."""
    program = (
        "import os, socket; os.environ['LISTEN_PID'] = str(os.getpid());"
        "from p2pmodel import sd; fds = sd.listen_fds();"
        "print([os.get_inheritable(fd) for each in fds.values() for fd in each],"
        "sorted((name, [socket.socket(fileno=fd).getsockname()[1] for fd in each]) for name, each in fds.items()))"
    )
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        # Far above the targets first, so that moving one down does not overwrite the other.
        high = [fcntl.fcntl(sock, fcntl.F_DUPFD, 20) for sock in (one, two)]
        done = subprocess.run(
            ["/bin/bash", "-c", f'exec "$0" -c "$1" 3<&{high[0]} 4<&{high[1]}', sys.executable, program],
            env={"LISTEN_FDS": "2", "LISTEN_FDNAMES": "gateway:", "PATH": os.environ["PATH"]},
            pass_fds=high,
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
        for fd in high:
            os.close(fd)
        ports = [sock.getsockname()[1] for sock in (one, two)]
    assert done.stdout.strip() == f"[False, False] {[('gateway', [ports[0]]), ('unknown', [ports[1]])]}"


def test_a_credential_is_a_file_of_the_managers_directory(tmp_path):
    (tmp_path / "hub-token").write_text("t")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert sd.credential("hub-token", environ) == tmp_path / "hub-token"
    assert sd.credential("cluster-key", environ) is None
    assert sd.credential("hub-token", {}) is None
