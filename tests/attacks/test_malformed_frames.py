"""Malformed frames of every type of message, at every place of a connection: an error with a name, never anything else."""

import gc
import json
import os
import random
import runpy
import time
from pathlib import Path

import msgpack
import pytest
from attacks.mutations import framed, spoilt_bytes, spoilt_fields
from daemons import House, Site

from p2pmodel.errors import PeerProtocolError
from p2pmodel.wire import CLOSED, NEED_DATA, Role, Secrecy, Session, Unknown, decode
from p2pmodel.wire.messages import (
    AskInventory,
    AskManifest,
    AskTicket,
    Attach,
    Attached,
    Get,
    Hello,
    Message,
)

PROTOCOL = Path(__file__).parents[2] / "protocol"
GOOD = json.loads((PROTOCOL / "vectors/messages.json").read_text())["good"]
FRAMES = {}
for vector in GOOD:
    FRAMES.setdefault(vector["fields"]["t"], []).append(bytes.fromhex(vector["frame"])[4:])
GROWTH_MAX = 20_000_000
BLOB = b"\1" + bytes(32)

pytestmark = pytest.mark.scorecard("S10")


def greeting():
    return Hello(version=1, version_min=1, boot=bytes(8), port=7277)


def link():
    """The listener's side of a link, with questions of its own that wait for answers."""
    dialler, listener = Session(Role.DIALLER), Session(Role.LISTENER)
    dialler.receive_bytes(listener.send(greeting()))
    dialler.next_event()
    listener.receive_bytes(dialler.send(greeting()))
    listener.next_event()
    listener.send(AskTicket(request=1))
    listener.send(AskInventory(request=2, boot=bytes(8), since=0))
    listener.send(AskManifest(request=3, blob=BLOB))
    return listener


def data(*, fetching):
    dialler, listener = Session(Role.DIALLER, Secrecy.PLAIN), Session(Role.LISTENER, Secrecy.PLAIN)
    listener.receive_bytes(dialler.send(Attach(ticket=bytes(16))))
    listener.next_event()
    dialler.receive_bytes(listener.send(Attached()))
    dialler.next_event()
    if fetching:
        dialler.send(Get(request=1, blob=BLOB, size=10, first=0, count=1))
    return dialler if fetching else listener


def greeted():
    listener = Session(Role.LISTENER)
    listener.send(greeting())
    return listener


PLACES = {
    "link": link,
    "fetching": lambda: data(fetching=True),
    "seeding": lambda: data(fetching=False),
    "greeted": greeted,
    "awaiting a greeting": lambda: Session(Role.DIALLER),
    "awaiting a ticket": lambda: Session(Role.LISTENER, Secrecy.PLAIN),
}


def spoilt(body, dice):
    if dice.random() < 0.5:
        return spoilt_bytes(body, dice)
    return spoilt_fields(msgpack.unpackb(body), dice)


def memory():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def hear(session, frame):
    """Whether it is refused; anything but an event or a refusal is a failure."""
    try:
        session.receive_bytes(frame)
        while (event := session.next_event()) not in (NEED_DATA, CLOSED):
            assert isinstance(event, Message | Unknown)
            if session.body_remaining:
                return False
    except PeerProtocolError as refusal:
        why = str(refusal)
    else:
        return False
    assert 0 < len(why) <= 600
    assert session.next_event() is CLOSED
    return True


def try_all(count):
    """`count` frames of each type, in turn at every place. How many were refused."""
    dice = random.Random(10)
    refused = 0
    places = list(PLACES.values())
    for kind in FRAMES.values():
        sessions = [make() for make in places]
        for number in range(count):
            at = number % len(places)
            refused += hear(sessions[at], framed(spoilt(dice.choice(kind), dice), dice))
            # Half a frame waits for its rest, which the next one would be.
            sessions[at] = places[at]()
    return refused


def test_a_malformed_frame_of_any_type_is_refused_by_name():
    assert try_all(60) > 60 * len(FRAMES) / 2


@pytest.mark.attacks
@pytest.mark.timeout(600)
def test_ten_thousand_malformed_frames_of_each_type_leave_no_memory_behind(figure):
    try_all(100)
    before = memory()
    refused = try_all(10_000)
    grown = memory() - before
    figure(f"{10_000 * len(FRAMES)} frames of {len(FRAMES)} types, {refused} refused; memory {grown / 1e6:+.1f} MB")
    assert grown < GROWTH_MAX


@pytest.mark.attacks
@pytest.mark.timeout(600)
def test_a_daemon_closes_on_each_within_a_second_and_lives_on(tmp_path, figure):
    runner = runpy.run_path(str(PROTOCOL / "conformance/run.py"))
    dice = random.Random(11)
    with Site() as site, House(tmp_path, site) as house:
        site.hub.add_repo("model", "acme/tiny", {"config.json": b"{}"})
        daemon = house.daemon("node")
        daemon.bring("acme/tiny")
        node = runner["Node"]("127.0.0.1", daemon.peering, runner["Cluster"].of(runner["secret_of"](None)))
        doors = [node.link, node.tls, node.plain]
        before, slowest, tried = rss(daemon), 0.0, 0
        for kind in FRAMES.values():
            for number in range(36):
                body = spoilt(dice.choice(kind), dice)
                if not 1 <= len(body) <= 65_536 or acceptable(body):
                    continue
                slowest = max(slowest, offend(runner, doors[number % 3], len(body).to_bytes(4, "big") + body))
                tried += 1
        grown = rss(daemon) - before
        assert daemon.ask("/acme/tiny/resolve/main/config.json").body == b"{}"
    figure(
        f"{tried} connections with a malformed frame, the slowest closed after {slowest:.2f} s; memory {grown / 1e6:+.1f} MB"
    )
    assert tried > 500
    assert slowest <= 1.0
    assert grown < GROWTH_MAX


def acceptable(body):
    try:
        decode(body)
    except PeerProtocolError:
        return False
    return True


def offend(runner, door, frame):
    """After how many seconds the daemon closed on it."""
    try:
        with door() as connection:
            connection.send_bytes(frame)
            began = time.monotonic()
            connection.is_closed_by_peer()
            return time.monotonic() - began
    except runner["Closed"]:  # before all was said: at once
        return 0.0


def rss(daemon):
    return int(Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
