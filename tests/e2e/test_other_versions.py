"""A daemon of another version, and a state directory of one: it works or it is refused, and nothing is garbled.

Each message with fields that nobody knows yet: tests/protocol. Every bound of it: protocol/evolution.md.
"""

import hashlib
import shutil
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from daemons import MIB, House, files_in, until
from noise import noise

TOMORROW = Path(__file__).with_name("tomorrows_daemon.py")
FILES = {"config.json": b"{}", "model.safetensors": noise(61, 13 * MIB)}
SIZE = sum(map(len, FILES.values()))
LINKED_S = 3.0  # those who understand each other are by then

pytestmark = [pytest.mark.houses, pytest.mark.scorecard("S33")]


def other(house, name, peer, lowest, highest, alpn="p2pmodel/1"):
    """A daemon of another version that is to be linked with `peer`."""
    node = house.plan(name, [peer])
    return node.start(before=(sys.executable, str(TOMORROW), str(lowest), str(highest), alpn))


@pytest.fixture
def model(site):
    name = f"acme/model{len(site.hub.shelf.repos)}"
    site.hub.add_repo("model", name, FILES)
    return name


@pytest.mark.parametrize("first", ["today", "tomorrow"])
def test_a_version_that_still_speaks_ours_is_a_peer_like_any_other(site, house, model, first):
    today = house.daemon(f"today-{first}")
    tomorrow = other(house, f"tomorrow-{first}", today, 1, 2).linked(1)
    one, two = (today, tomorrow) if first == "today" else (tomorrow, today)
    assert one.bring(model)["upstream"] == SIZE
    done = two.bring(model)
    assert (done["peers"], done["upstream"], site.sent) == (SIZE, 0, SIZE)
    assert files_in(done["path"]) == FILES
    for node in (one, two):
        assert node.stop() == 0


@pytest.mark.parametrize(("lowest", "alpn"), [(2, "p2pmodel/1"), (1, "p2pmodel/2")], ids=["message", "opening"])
def test_a_version_that_does_not_is_no_peer_and_both_go_on_alone(site, house, model, lowest, alpn):
    today = house.daemon(f"today-{lowest}")
    stranger = other(house, f"stranger-{lowest}", today, lowest, 2, alpn)
    time.sleep(LINKED_S)
    for node in (today, stranger):
        assert node.ask("/-/api/peers").json["peers"] == []
        assert node.command("status").out.count("at 127.0.0.1 speaks another version of the protocol") == 1
        found = node.command("doctor").out
        assert "at 127.0.0.1 speaks another version" in found
        assert "none is linked" not in found
        assert node.log.count("peer_of_another_version") == 1, "however often it tries"
        done = node.bring(model)
        assert (done["peers"], done["upstream"]) == (0, SIZE)
        assert files_in(done["path"]) == FILES
        node.stop()


# A state directory


@pytest.fixture
def left(site, house, model):
    """A node that holds the model and is down."""
    node = house.daemon(f"left-{time.monotonic_ns()}")
    node.bring(model)
    assert node.stop() == 0
    site.hub.reset()
    return node


def tree(folder):
    """Every file below it, with its bytes; but for the lock, in which stands a pid."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def newer_format(state):
    (state / "VERSION").write_text("2\n")


def newer_index(state):
    with closing(sqlite3.connect(state / "index.sqlite")) as index:
        index.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize("change", [newer_format, newer_index])
def test_what_a_newer_version_wrote_is_left_alone(left, change):
    change(left.state)
    before = tree(left.state)
    process = left.begin()
    assert process.wait(20) == 1
    assert "newer p2pmodel" in left.log
    assert tree(left.state) == before


def test_an_index_of_the_version_before_is_brought_up_and_nothing_is_read_twice(site, left, model):
    with closing(sqlite3.connect(left.state / "index.sqlite")) as index:
        index.executescript("DROP TABLE adopted; PRAGMA user_version = 1;")
    done = left.start().bring(model)
    assert (done["here"], site.sent) == (SIZE, 0)
    assert files_in(done["path"]) == FILES
    assert left.stop() == 0


def test_a_record_of_another_version_is_not_believed_and_costs_a_fetch_alone(site, tmp_path, model):
    with House(tmp_path, site) as house:
        node = house.plan("torn")
        site.hub.pace.rate = 6 * MIB
        node.start()
        fetch = node.begin_command("fetch", model)
        records = until(lambda: list((node.state / "partial").rglob("*.log")), "a record")
        node.kill()
        fetch.communicate()
        for record in records:
            record.write_bytes(record.read_bytes().replace(b"p2pmrec1", b"p2pmrec2", 1))
        site.hub.pace.rate = None
        done = node.start().bring(model)
        assert files_in(done["path"]) == FILES
        assert node.stop() == 0
        shutil.rmtree(node.state)
