"""Anybody on the LAN can lie by multicast: forged nodes, broken packets, goodbyes in others' names. It costs little."""

import random
import socket
import struct
import threading
import time

import pytest
import zeroconf
from lan import Lan, inside
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
MEMORY_MAX = 30 * MIB


@pytest.fixture
def lan(tmp_path):
    with Lan(tmp_path, 3, rate="1gbit", origin_rate="1gbit") as lan:
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
        self._over = threading.Event()
        self._socket = inside(lan.namespace(LIAR), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        self._socket.bind(("", GROUP[1]))

    def run(self):
        began = time.monotonic()
        while not self._over.is_set():
            while self.sent < (time.monotonic() - began) * PER_SECOND:
                self._socket.sendto(self._lies[self.sent % len(self._lies)], GROUP)
                self.sent += 1
            time.sleep(0.005)

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
    before, during = new_model(lan, 96), new_model(lan, 96)
    one, two = lan.daemons((1, 2))
    for model in (before, during):
        assert one.bring(model.name)["event"] == "done"
    quiet = time.monotonic()
    assert two.bring(before.name)["peers"] == before.size
    quiet = time.monotonic() - quiet
    tag = Membership.open(Identity.load(tmp_path / "liar")).tag
    ids = [node.ask("/-/api/status").json["node_id"] for node in (one, two)]
    told = lies(tag, [(ids[0], 1), (ids[1], 2)], random.Random(1))
    memory, cpu, began = two.memory, two.cpu_s, time.monotonic()
    linked_before = two.peers[0]["linked_for_s"]
    with Liar(lan, told) as liar:
        time.sleep(SECONDS)
        burdened = (two.cpu_s - cpu) / (time.monotonic() - began)
        linked = two.peers
        assert linked, two.log[-3000:]
        [peer] = linked
        flooded = time.monotonic()
        done = two.bring(during.name)
        flooded = time.monotonic() - flooded
    grown = two.memory - memory
    figure(f"{liar.sent} lies in {time.monotonic() - began:.0f} s; {burdened:.0%} of a core; memory {grown / MIB:+.1f} MiB")
    figure(f"fetch {flooded:.2f} s, before the flood {quiet:.2f} s")
    assert done["peers"] == during.size
    assert peer["node_id"] == ids[0]
    assert peer["linked_for_s"] >= linked_before + SECONDS  # the same link all along
    assert grown <= MEMORY_MAX
    assert flooded <= 2 * quiet + 1
    assert burdened <= 0.5
