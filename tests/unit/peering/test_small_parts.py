"""Tickets, inventories, subnets, TCP streams."""

import ipaddress
import os
import random
import socket
import tempfile

import blake3
import pytest
import trio
from noise import noise

from p2pmodel.content import BlobId
from p2pmodel.limits import CONNECTIONS_PER_PEER_MAX, INVENTORY_ENTRIES_KEPT_MAX, MIB, TICKET_S
from p2pmodel.network import Address
from p2pmodel.peering import TcpNetwork
from p2pmodel.peering.inventories import Inventories
from p2pmodel.peering.subnets import OwnSubnets, interface_subnets
from p2pmodel.peering.tickets import Tickets
from p2pmodel.wire.messages import Inventory
from p2pmodel.wire.packed import InventoryEntry, pack_entries

ONE, TWO = "1" * 40, "2" * 40
BLOBS = [BlobId("sha256", f"{n:064x}") for n in range(5)]


def test_a_ticket_is_its_owners_once_and_for_seconds():
    tickets = Tickets(random.Random(1))
    first, second = tickets.issue(ONE, 0), tickets.issue(ONE, 0)
    assert tickets.spend(first, 1) == ONE
    assert tickets.spend(first, 1) is None
    assert tickets.spend(second, TICKET_S) is None
    assert tickets.spend(bytes(16), 0) is None


def test_a_peer_gets_no_more_tickets_than_it_may_have_connections_until_they_expire():
    tickets = Tickets(random.Random(1))
    assert all(tickets.issue(ONE, 0) for _ in range(CONNECTIONS_PER_PEER_MAX))
    assert tickets.issue(ONE, 0) is None
    assert tickets.issue(TWO, 0)
    assert tickets.issue(ONE, TICKET_S)


def page(entries, *, sequence=1, whole=True, boot=b"b" * 8):
    return Inventory(request=1, boot=boot, sequence=sequence, whole=whole, entries=pack_entries(entries), last=True)


def test_inventories_follow_whole_answers_and_deltas():
    known = Inventories()
    known.update(ONE, [page([InventoryEntry(BLOBS[0], 1, 2), InventoryEntry(BLOBS[1], 1, 1)])])
    known.update(TWO, [page([InventoryEntry(BLOBS[0], 1, 1)])])
    assert known.holders(BLOBS[0]) == {ONE: 2, TWO: 1}
    assert known.since(ONE, b"b" * 8) == 1
    assert known.since(ONE, b"c" * 8) == 0
    delta = [InventoryEntry(BLOBS[0], 1, 0), InventoryEntry(BLOBS[1], 1, 2), InventoryEntry(BLOBS[2], 1, 2)]
    known.update(ONE, [page(delta, sequence=2, whole=False)])
    assert known.holders(BLOBS[0]) == {TWO: 1}
    assert known.holders(BLOBS[1]) == {ONE: 2}
    assert known.count(ONE) == 2
    assert not known.behind(ONE, b"b" * 8, 2)
    known.update(ONE, [page([], sequence=3)])
    assert known.count(ONE) == 0
    known.forget(TWO)
    assert known.holders(BLOBS[0]) == {}
    assert known.behind(TWO, b"b" * 8, 1)


def test_inventories_are_bounded_over_all_peers():
    known = Inventories()
    known._kept = INVENTORY_ENTRIES_KEPT_MAX - 1
    known.update(ONE, [page([InventoryEntry(blob, 1, 2) for blob in BLOBS])])
    assert known.count(ONE) == 1


async def test_own_subnets_follow_the_interfaces(autojump_clock):
    subnets = []
    near = OwnSubnets(lambda: list(subnets))
    assert not near("10.0.0.7")
    subnets.append(ipaddress.ip_network("10.0.0.0/24"))
    await trio.sleep(11)
    assert near("10.0.0.7")
    assert not near("10.0.1.7")
    assert not near("huggingface.example")


def test_this_machines_loopback_is_one_of_its_subnets():
    assert ipaddress.ip_network("127.0.0.0/8") in interface_subnets()


@pytest.fixture
async def tcp_pair(nursery):
    listener = await TcpNetwork().listen("127.0.0.1", 0)
    send, receive = trio.open_memory_channel(1)
    over = trio.Event()

    async def handle(stream):
        await send.send(stream)
        await over.wait()

    nursery.start_soon(listener.serve, handle, nursery)
    async with await TcpNetwork().dial(Address("127.0.0.1", listener.port)) as dialled:
        yield dialled, await receive.receive()
        over.set()


async def test_a_file_larger_than_the_sockets_buffers_arrives_whole(tcp_pair, nursery):
    here, there = tcp_pair
    data = noise(3, 24 << 20)
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        nursery.start_soon(there.send_file, file.fileno(), 5, len(data) - 5)
        buffer = memoryview(bytearray(len(data) - 5))
        done = 0
        while done < len(buffer):
            done += await here.receive_into(buffer[done:])
    assert buffer == data[5:]


async def test_a_body_is_received_and_seen_in_order_whole_and_what_follows_it_is_left(tcp_pair, nursery):
    here, there = tcp_pair
    body = noise(4, 5 << 20)
    nursery.start_soon(there.send_all, body + b"frame")
    buffer, hasher = memoryview(bytearray(len(body))), blake3.blake3()
    done = 0
    while done < len(buffer):
        done += await here.receive_body(buffer[done:], hasher.update)
    assert buffer == body
    assert hasher.digest() == blake3.blake3(body).digest()
    assert await here.receive_some(10) == b"frame"  # five bytes wake us, although megabytes were waited for before


async def test_a_bodys_first_bytes_show_although_no_more_come(tcp_pair, nursery):
    here, there = tcp_pair
    await there.send_all(b"ab")
    buffer = memoryview(bytearray(MIB))
    with trio.fail_after(5):
        assert await here.receive_body(buffer, bytes) == 2
        nursery.start_soon(there.aclose)
        assert await here.receive_body(buffer, bytes) == 0


async def test_a_body_of_a_broken_or_closed_connection_is_an_error(tcp_pair, nursery):
    here, there = tcp_pair
    await here.send_all(b"unread")
    with trio.fail_after(5):
        await trio.lowlevel.wait_readable(there._socket)
        await there.aclose()  # with bytes unread: a reset
        with pytest.raises(trio.BrokenResourceError):
            await here.receive_body(memoryview(bytearray(10)), bytes)
        await here.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await here.receive_body(memoryview(bytearray(10)), bytes)


async def test_peeking_leaves_the_byte(tcp_pair):
    here, there = tcp_pair
    await there.send_all(b"ab")
    assert await here.peek() == b"a"
    assert await here.receive_some(10) == b"ab"
    await there.aclose()
    assert await here.peek() == b""


async def test_a_short_file_is_our_own_fault_and_a_reset_the_connections(tcp_pair):
    here, there = tcp_pair
    with tempfile.TemporaryFile() as file:
        os.ftruncate(file.fileno(), 10)
        with pytest.raises(OSError, match="ends before"):
            await there.send_file(file.fileno(), 0, 11)
    here._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    await here.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await there.send_all(bytes(64 << 20))
    with pytest.raises(trio.ClosedResourceError):
        await here.receive_some()


async def test_closing_wakes_who_waits(tcp_pair, nursery):
    here, _ = tcp_pair
    with pytest.RaisesGroup(trio.ClosedResourceError):
        async with trio.open_nursery() as waiting:
            waiting.start_soon(here.receive_some)
            await trio.testing.wait_all_tasks_blocked()
            await here.aclose()


async def test_dialling_nobody_is_an_os_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="connect"):
            await TcpNetwork().dial(Address("127.0.0.1", taken.getsockname()[1]))


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".local"])
async def test_a_name_that_is_none_is_a_host_that_nobody_has(host):
    with pytest.raises(OSError, match="no name of a host"):
        await TcpNetwork().dial(Address(host, 1))
    with pytest.raises(OSError, match="no name of a host"):
        await TcpNetwork().listen(host, 0)
