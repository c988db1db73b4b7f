"""The admin socket: who can reach it, who is let in, what may be asked."""

import json
import os
import socket
import stat
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from fakes.gateway import RawClient

from p2pmodel.admin import AdminDoor, Dial, LiveLimits, Verbs, bind
from p2pmodel.admin.door import OwnersGate, uid_of
from p2pmodel.errors import ConfigError
from p2pmodel.settings import LimitsSettings

NOBODY = 65534


async def snapshots(asked):
    return {"asked": dict(asked)}


def forgive(node):
    if node != "ab12":
        raise ConfigError("Nobody's id begins so.")
    return [node * 10]


@pytest.fixture
def changed():
    return []


@pytest.fixture
def limits(changed):
    dials = {key: Dial(lambda limit, key=key: changed.append((key, limit)), lambda: 5.0) for key in ("upstream", "clients")}
    return LiveLimits(LimitsSettings(upstream=10_000_000), dials)


@asynccontextmanager
async def open_door(folder, limits):
    listener = bind(folder)
    async with trio.open_nursery() as nursery:
        verbs = Verbs(limits=limits, adopting=None, upkeep=None, forgive=forgive, report={"snapshots": snapshots})
        await nursery.start(AdminDoor(verbs.table()).serve, listener)
        yield folder / "admin.sock"
        nursery.cancel_scope.cancel()


@pytest.fixture
async def door(tmp_path, limits):
    async with open_door(tmp_path / "run", limits) as path:
        yield path


@asynccontextmanager
async def connected(path):
    async with await trio.open_unix_socket(path) as stream:
        yield RawClient(stream, 0)


async def test_the_owner_changes_a_limit_and_is_told_all_of_them(door, changed):
    async with connected(door) as client:
        answer = await client.get("/limits?upstream=50MB%2Fs", method="POST")
    assert answer.status == 200
    told = json.loads(answer.body)["limits"]
    assert told == {"upstream": {"limit": 50_000_000, "now": 5.0}, "clients": {"limit": 256, "now": 5.0}}
    assert changed == [("upstream", 50_000_000)]


@pytest.mark.parametrize("query", ["upstream=fast", "clients=0", "quota=1", "upstream=1&clients=none"])
async def test_a_change_that_cannot_be_is_refused_whole(door, changed, query):
    async with connected(door) as client:
        answer = await client.get(f"/limits?{query}", method="POST")
    assert answer.status == 400
    assert changed == []


@pytest.mark.parametrize(("method", "target"), [("GET", "/limits?upstream=1"), ("POST", "/nothing")])
async def test_nothing_else_is_answered(door, changed, method, target):
    async with connected(door) as client:
        assert (await client.get(target, method=method)).status == 405
    assert changed == []


@pytest.mark.parametrize("folder", ["", "relative", "%00", "/a%00b"])
async def test_what_can_be_no_folder_is_not_adopted_and_ends_nothing(door, folder):
    async with connected(door) as client:
        assert (await client.get(f"/adopt?dir={folder}", method="POST")).status == 400
        assert (await client.get("/forgive?node=ab12", method="POST")).status == 200


async def test_the_owner_lifts_a_ban(door):
    async with connected(door) as client:
        answer = await client.get("/forgive?node=ab12", method="POST")
    assert (answer.status, json.loads(answer.body)) == (200, {"forgiven": ["ab12" * 10]})
    async with connected(door) as client:
        assert (await client.get("/forgive?node=", method="POST")).status == 400


async def test_the_owner_reads_pages_that_are_nobody_elses(door):
    async with connected(door) as client:
        answer = await client.get("/-/api/snapshots?repo=a%2Fb")
        assert (answer.status, json.loads(answer.body)) == (200, {"asked": {"repo": "a/b"}})
        assert (await client.get("/-/api/status")).status == 404


async def test_one_connection_may_ask_again(door):
    async with connected(door) as client:
        for _ in range(3):
            assert (await client.get("/limits?clients=9", method="POST")).status == 200


def test_the_kernel_says_who_is_at_the_other_end():
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert uid_of(one) == os.geteuid()


@pytest.mark.parametrize(("uid", "passes"), [(0, True), (os.geteuid(), True), (NOBODY, False), (os.geteuid() + 1, False)])
def test_root_and_the_daemons_own_user_pass(uid, passes):
    assert (OwnersGate(uid).check(None) is None) == passes


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("mode", [0o600, 0o666], ids=["as it is", "opened by mistake"])
async def test_another_user_is_not_let_in(limits, changed, mode):
    ask = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534); s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "s.sendall(b'POST /limits?upstream=1 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); print(s.recv(100).split()[1].decode())"
    )
    with tempfile.TemporaryDirectory() as place:  # pytest's own are its user's alone
        os.chmod(place, 0o755)  # noqa: PTH101  # nothing waits for it
        async with open_door(Path(place) / "run", limits) as path:
            path.chmod(mode)
            done = await trio.run_process(
                [sys.executable, "-c", ask, path], capture_stdout=True, capture_stderr=True, check=False
            )
    assert done.stdout == (b"403\n" if mode == 0o666 else b"")
    assert (b"PermissionError" in done.stderr) == (mode == 0o600)
    assert changed == []


# Where it lies


def test_only_its_owner_can_connect(tmp_path):
    with bind(tmp_path / "run"):
        assert stat.S_IMODE((tmp_path / "run" / "admin.sock").stat().st_mode) == 0o600


def test_what_a_killed_daemon_left_is_no_obstacle(tmp_path):
    bind(tmp_path).close()
    with bind(tmp_path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "admin.sock"))


def test_the_state_directory_may_have_a_long_path(tmp_path):
    folder = tmp_path / ("long" * 30)
    with bind(folder):
        assert (folder / "admin.sock").is_socket()


def test_a_folder_where_others_may_write_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o775)
    with pytest.raises(ConfigError, match="others may write"):
        bind(tmp_path / "run")


def test_a_link_to_a_folder_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError):
        bind(tmp_path / "run")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_another_users_folder_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    os.chown(tmp_path / "run", NOBODY, NOBODY)
    with pytest.raises(ConfigError, match="another user"):
        bind(tmp_path / "run")
