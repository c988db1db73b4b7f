"""Anybody on the LAN can lie by multicast: forged nodes, broken packets, goodbyes in others' names. It costs little."""

import random
import socket
import struct
import threading
import time
from contextlib import contextmanager

import pytest
import zeroconf
from lan import Lan, inside, within
from zeroconf import const

from p2pmodel.content import NodeId
from p2pmodel.discovery import Announcement
from p2pmodel.discovery.announcement import SERVICE
from p2pmodel.peering import Identity, Membership

pytestmark = [pytest.mark.lab, pytest.mark.scorecard("S14"), pytest.mark.timeout(300)]

MIB = 1 << 20
GROUP = ("224.0.0.251", 5353)
FORGED, PER_SECOND, SECONDS = 10_000, 1000, 60.0
LIAR = 3
MEMORY_MAX = 10 * MIB
CORE_MAX = 0.5
PAIRS, MODEL_MIB = 4, 48
SPEED_MIN = 0.9
NEWCOMER_MAX_S = 10.0


@pytest.fixture
def lan(tmp_path):
    with Lan(tmp_path, 3, rate="200mbit", origin_rate="1gbit") as lan:
        yield lan


def packets(info, ttl):
    """An announcement as a responder would send it; `ttl` 0 is a goodbye."""
    out = zeroconf.DNSOutgoing(const._FLAGS_QR_RESPONSE | const._FLAGS_AA)
    for record in (info.dns_pointer(ttl), info.dns_service(ttl), info.dns_text(ttl), *info.dns_addresses(ttl)):
        out.add_answer_at_time(record, 0)
    return out.packets()


def service(node, tag, port, host):
    txt = Announcement(NodeId(node), tag, port, bytes(8), 1, bytes(16)).to_txt(1)
    address = socket.inet_aton(host)
    return zeroconf.ServiceInfo(
        SERVICE, f"{node}.{SERVICE}", port=port, addresses=[address], properties=txt, server=f"{node}.local."
    )


class Liar(threading.Thread):
    """Sends lies at a steady rate."""

    def __init__(self, lan, lies):
        super().__init__()
        self.sent = 0
        self._lies = lies
        self._quiet = threading.Event()
        self._over = threading.Event()
        self._socket = inside(lan.namespace(LIAR), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        self._socket.bind(("", GROUP[1]))

    def run(self):
        due, last = 0.0, time.monotonic()
        while not self._over.is_set():
            due += (time.monotonic() - last) * PER_SECOND * (not self._quiet.is_set())
            last = time.monotonic()
            while self.sent < due:
                self._socket.sendto(self._lies[self.sent % len(self._lies)], GROUP)
                self.sent += 1
            time.sleep(0.005)

    @contextmanager
    def silence(self):
        self._quiet.set()
        time.sleep(0.1)  # what it has sent is read
        yield
        self._quiet.clear()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self.join()
        self._socket.close()


def lies(tag, victims, dice):
    made = []
    for number in range(FORGED):
        host = f"10.77.{dice.randrange(1, 200)}.{dice.randrange(1, 250)}"
        made += packets(service(dice.randbytes(20).hex(), tag, dice.randrange(1, 65536), host), 120)
        broken = struct.pack("!6H", 0, 0x8400, 0, dice.randrange(1, 200), 0, 0) + dice.randbytes(dice.randrange(1, 400))
        made.append(broken if number % 2 else dice.randbytes(dice.randrange(1, 500)))
    for node, number in victims:
        made[number :: FORGED // 4] = packets(service(node, tag, 7277, f"10.77.0.{number}"), 0) * len(
            made[number :: FORGED // 4]
        )
    return made


def test_a_flood_of_forged_announcements_neither_parts_peers_nor_slows_a_fetch(lan, new_model, figure, tmp_path):
    warm, *models = [new_model(lan, MODEL_MIB) for _ in range(1 + 2 * PAIRS)]
    one, two = lan.daemons((1, 2))
    for model in (warm, *models):
        assert one.bring(model.name)["event"] == "done"
    timed_fetch(two, warm)  # buffers and all
    tag = Membership.open(Identity.load(tmp_path / "liar")).tag
    ids = [node.ask("/-/api/status").json["node_id"] for node in (one, two)]
    told = lies(tag, [(ids[0], 1), (ids[1], 2)], random.Random(1))
    memory, cpu, began = two.memory, two.cpu_s, time.monotonic()
    linked_before = two.peers[0]["linked_for_s"]
    with Liar(lan, told) as liar:
        time.sleep(SECONDS)
        sent, lasted = liar.sent, time.monotonic() - began
        burdened = (two.cpu_s - cpu) / lasted
        grown = two.memory - memory
        linked = two.peers
        flooded, quiet = [], []
        for one_model, other_model in zip(models[::2], models[1::2], strict=True):
            flooded.append(timed_fetch(two, one_model))
            with liar.silence():
                quiet.append(timed_fetch(two, other_model))
        assert len(two.peers) == 1, two.log[-3000:]
    figure(f"{sent} lies in {lasted:.0f} s; {burdened:.0%} of a core; memory {grown / MIB:+.1f} MiB")
    times = "; ".join(", ".join(f"{took:.2f}" for took in row) for row in (flooded, quiet))
    figure(f"fetches in the flood and in its pauses, in turn: {times} s; the fastest {min(quiet) / min(flooded):.0%} as fast")
    [peer] = linked
    assert peer["node_id"] == ids[0]
    assert peer["linked_for_s"] >= linked_before + SECONDS  # the same link all along
    assert grown <= MEMORY_MAX
    assert burdened <= CORE_MAX
    assert min(quiet) >= SPEED_MIN * min(flooded)


def timed_fetch(node, model):
    began = time.monotonic()
    done = node.bring(model.name)
    assert (done["event"], done["peers"]) == ("done", model.size)
    return time.monotonic() - began


def test_a_newcomer_is_found_in_a_flood(lan, figure, tmp_path):
    """By multicast alone: it knows nobody's address, and nobody its own."""
    one = lan.daemon(1, "early").start()
    tag = Membership.open(Identity.load(tmp_path / "liar")).tag
    with Liar(lan, lies(tag, [], random.Random(2))):
        time.sleep(5)
        two = lan.daemon(2, "late").start()
        took = within(NEWCOMER_MAX_S, lambda: two.peers and one.peers, "the newcomer to be linked")
    figure(f"linked {took:.1f} s after its start")
