"""What of a flood of multicast is looked at, and that whom we know is heard through it."""

import random
import socket

import pytest
import zeroconf
from zeroconf import const

from p2pmodel.discovery.announcement import SERVICE
from p2pmodel.discovery.sieve import Sieve
from p2pmodel.limits import (
    MDNS_ADDRESSES_MAX,
    MDNS_NAMES_BURST,
    MDNS_NAMES_KNOWN_MAX,
    MDNS_NAMES_PER_ADDRESS_BURST,
    MDNS_NAMES_PER_S,
    MDNS_PACKETS_PER_ADDRESS_BURST,
    MDNS_STRANGE_BURST,
)

LIAR, HONEST = "10.0.0.66", "10.0.0.1"
FRIEND = "a" * 40


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sieve(clock):
    return Sieve(clock)


def announcement(node, service=SERVICE):
    info = zeroconf.ServiceInfo(
        service,
        f"{node}.{service}",
        port=1,
        addresses=[socket.inet_aton(HONEST)],
        properties={"id": node},
        server=f"{node}.local.",
    )
    out = zeroconf.DNSOutgoing(const._FLAGS_QR_RESPONSE | const._FLAGS_AA)
    for record in (info.dns_pointer(), info.dns_service(), info.dns_text(), *info.dns_addresses()):
        out.add_answer_at_time(record, 0)
    [packet] = out.packets()
    return packet


def question(name, kind=const._TYPE_PTR):
    out = zeroconf.DNSOutgoing(const._FLAGS_QR_QUERY)
    out.add_question(zeroconf.DNSQuestion(name, kind, const._CLASS_IN))
    [packet] = out.packets()
    return packet


def node(dice):
    return dice.randbytes(20).hex()


def test_one_address_may_tell_of_few_new_nodes_and_keeps_no_other_from_telling(sieve):
    dice = random.Random(1)
    passed = sum(sieve.passes(announcement(node(dice)), LIAR) for _ in range(1000))
    assert passed == MDNS_NAMES_PER_ADDRESS_BURST
    assert sieve.dropped == 1000 - passed
    assert sieve.passes(announcement(FRIEND), HONEST)


def test_all_addresses_together_may_tell_of_so_many_and_known_nodes_are_heard_all_the_same(sieve, clock):
    dice = random.Random(2)
    assert sieve.passes(announcement(FRIEND), HONEST)
    spoofed = [f"10.0.{number >> 8}.{number & 255}" for number in range(1, 2000)]
    assert sum(sieve.passes(announcement(node(dice)), address) for address in spoofed) == MDNS_NAMES_BURST - 1
    assert sieve.passes(announcement(FRIEND), HONEST)
    clock.now += 10
    again = [f"10.1.{number >> 8}.{number & 255}" for number in range(1, 2000)]
    assert sum(sieve.passes(announcement(node(dice)), address) for address in again) == 10 * MDNS_NAMES_PER_S


def test_an_address_may_not_even_repeat_itself_for_ever(sieve, clock):
    packets = [announcement(FRIEND)] * 500
    assert sum(sieve.passes(packet, LIAR) for packet in packets) == MDNS_PACKETS_PER_ADDRESS_BURST
    clock.now += 60
    assert sieve.passes(packets[0], LIAR)


@pytest.mark.parametrize("packet", [b"", b"\0", bytes(400), announcement("printer", "_ipp._tcp.local.")], ids=len)
def test_of_what_names_no_node_little_is_looked_at_whoever_sends_it(sieve, packet):
    passed = sum(sieve.passes(packet, f"10.0.{number >> 8}.{number & 255}") for number in range(1000))
    assert passed == MDNS_STRANGE_BURST
    assert sieve.passes(announcement(FRIEND), HONEST)


@pytest.mark.parametrize("name", [SERVICE, SERVICE.upper(), f"{FRIEND}.{SERVICE}", f"{FRIEND}.local."])
def test_questions_for_us_pass_and_make_nobody_known(sieve, name):
    for number in range(MDNS_STRANGE_BURST + MDNS_NAMES_BURST):
        assert sieve.passes(question(name), f"10.0.{number >> 8}.{number & 255}")
    assert not sieve._known


def test_it_remembers_so_many_and_no_more(sieve, clock):
    dice = random.Random(3)
    for number in range(3 * MDNS_ADDRESSES_MAX):
        clock.now += 1
        sieve.passes(announcement(node(dice)), f"10.0.{number >> 8}.{number & 255}")
    assert len(sieve._addresses) == MDNS_ADDRESSES_MAX
    assert len(sieve._known) == MDNS_NAMES_KNOWN_MAX
