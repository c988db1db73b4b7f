"""Real multicast on the loopback interface; skipped where the kernel does not give it."""

import os
import socket
import struct

import pytest
import trio

from p2pmodel.discovery import Announcement, Mdns, mdns

GROUP = ("224.0.0.251", 5353)


def multicast_works():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.settimeout(1)
        loopback = socket.inet_aton("127.0.0.1")
        try:
            sock.bind(("", 0))
            group = "224.0.0.250"
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + loopback)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, loopback)
            sock.sendto(b"heard", (group, sock.getsockname()[1]))
            return sock.recv(16) == b"heard"
        except OSError:
            return False


needs_multicast = pytest.mark.skipif(not multicast_works(), reason="no multicast on the loopback interface here")


class Node:
    def __init__(self, node, tag="0123456789abcdef", **settings):
        self.said = Announcement(node=node, tag=tag, port=7277, boot=os.urandom(8), sequence=1, digest=bytes(16))
        self.candidates = []
        self.news = trio.Event()
        self.mdns = Mdns(lambda: self.said, self.heard, **{"interfaces": ["127.0.0.1"], **settings})

    def heard(self, candidate):
        self.candidates.append(candidate)
        self.news.set()
        self.news = trio.Event()

    async def until(self, predicate):
        with trio.fail_after(10):
            while not predicate():
                await self.news.wait()


async def until(predicate):
    with trio.fail_after(10):
        while not predicate():  # noqa: ASYNC110  # what another thread does sets no event of ours
            await trio.sleep(0.01)


@pytest.fixture
def cluster_tag():
    """Other tests, other daemons on this machine: each run is a cluster of its own."""
    return os.urandom(8).hex()


@needs_multicast
async def test_two_nodes_hear_of_each_other_and_of_changes(cluster_tag, nursery, monkeypatch):
    monkeypatch.setattr(mdns, "ANNOUNCE_GAP_MIN_S", 0.05)
    one, two = Node("1" * 40, cluster_tag), Node("2" * 40, cluster_tag)
    nursery.start_soon(one.mdns.run)
    nursery.start_soon(two.mdns.run)
    await one.until(lambda: one.candidates)
    await two.until(lambda: two.candidates)
    assert {(each.address.host, each.address.port, each.node) for each in one.candidates} == {("127.0.0.1", 7277, "2" * 40)}
    two.said = Announcement(node="2" * 40, tag=cluster_tag, port=7277, boot=two.said.boot, sequence=2, digest=bytes(16))
    two.mdns.changed()
    await one.until(lambda: one.mdns.present["2" * 40].sequence == 2)


@needs_multicast
async def test_another_cluster_and_malformed_records_are_counted_and_ignored(cluster_tag, nursery):
    one, other = Node("1" * 40, cluster_tag), Node("3" * 40, "f" * 16)
    nursery.start_soon(other.mdns.run)
    nursery.start_soon(one.mdns.run)
    await until(lambda: one.mdns.statistics.other_clusters)
    assert not one.candidates
    one.mdns._received((["10.0.0.1"], {b"v": b"1", b"id": b"\xff"}))
    assert one.mdns.statistics.malformed >= 1
    assert not one.candidates


@needs_multicast
async def test_leaving_says_goodbye(cluster_tag, nursery):
    """A pointer whose time to live is 0 is what tells others to forget us."""
    one, scope = Node("4" * 40, cluster_tag), trio.CancelScope()
    with group_member() as ear, trio.fail_after(10):
        nursery.start_soon(run_in, one, scope)
        await until(lambda: one.mdns.statistics.announced)
        scope.cancel()
        goodbye = struct.pack(">HHI", 12, 1, 0)
        while not (b"4" * 40 in (packet := await ear.recv(9000)) and goodbye in packet):
            pass


async def run_in(node, scope):
    with scope:
        await node.mdns.run()


def group_member():
    sock = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP[0]) + socket.inet_aton("127.0.0.1"))
    sock._sock.bind(GROUP)
    return sock


async def test_without_any_network_it_says_so_once_and_tries_again(autojump_clock, nursery, capsys):
    one = Node("5" * 40, interfaces=[], own_addresses=list)
    nursery.start_soon(one.mdns.run)
    await trio.sleep(100)
    assert one.mdns.statistics.failures == 4
    assert one.mdns.statistics.announced == 0


async def test_interfaces_that_cannot_be_listed_are_no_network(autojump_clock, nursery):
    def fails():
        raise OSError(24, "Too many open files")

    one = Node("6" * 40, interfaces=[], own_addresses=fails)
    nursery.start_soon(one.mdns.run)
    await trio.sleep(100)
    assert one.mdns.statistics.failures == 4
