"""Chunks between nodes over loopback TCP with real TLS, and what hostile neighbours can do to that."""

import math
import struct
from contextlib import suppress
from dataclasses import replace

import pytest
import trio

from p2pmodel.content import Blob, BlobId, Grade
from p2pmodel.delivery.ports import Order
from p2pmodel.errors import ConfigError, NotHeldError, PeerProtocolError, ShortAnswerError, SourceError, WrongBytesError
from p2pmodel.limits import (
    CHUNK_BYTES,
    CONNECTIONS_PER_PEER_MAX,
    SEED_PROGRESS_TIMEOUT_S,
    UNPROVEN_CONNECTIONS_MAX,
    UNPROVEN_PER_ADDRESS_MAX,
)
from p2pmodel.network import Address, Candidate
from p2pmodel.peering import Identity, Membership, TcpNetwork, TlsSecure, new_join_token
from p2pmodel.peering.connection import Connection
from p2pmodel.wire import Role, Secrecy, Session, encode
from p2pmodel.wire.messages import AskTicket, Attach, Bye, Chunk, Get, Hello


@pytest.fixture
async def pair(tcp_node):
    """Two linked nodes."""

    async def make(*settings):
        nodes = [await tcp_node(**each) for each in settings or ({}, {})]
        nodes[0].hear_of(nodes[1])
        for node in nodes:
            await node.events.until_linked()
        return nodes

    return make


def whole(sink):
    return b"".join(sink.chunks[index][0] for index in sorted(sink.chunks))


@pytest.mark.parametrize(
    ("fetcher", "seeder", "tls_connections"),
    [("public", "public", 1), ("public", "never", 2), ("never", "public", 2)],
    ids=["plain", "the seeder wants TLS", "the fetcher wants TLS"],
)
async def test_chunks_arrive_byte_for_byte(pair, order, sink, blob_file, fetcher, seeder, tls_connections):
    one, two = await pair({"plain_data": fetcher}, {"plain_data": seeder})
    await one.peering.source(two.id).fetch(order, sink)
    assert whole(sink) == blob_file[2]
    assert sink.pieces == order.blob.size
    assert one.peering._secure.dialled + two.peering._secure.dialled == tls_connections
    assert one.peering.statistics.chunks_received == two.peering.statistics.chunks_sent == order.count
    assert one.peering.peers()[0].bytes_in > order.blob.size
    assert two.peering.peers()[0].bytes_out > order.blob.size


async def test_a_chunk_comes_with_its_digest_and_as_hearsay(pair, order, sink):
    one, two = await pair()
    graded = []

    async def arrived(index, data, digest, *, claimed, grade, word=b"", plain=False):
        await trio.lowlevel.checkpoint()
        graded.append((digest == claimed, grade))

    sink.arrived = arrived
    await one.peering.source(two.id).fetch(order, sink)
    assert graded == [(True, Grade.SINGLE)] * order.count


async def test_both_sides_of_a_link_can_fetch_at_once(pair, order, sink, blob_file, nursery):
    one, two = await pair()
    other = type(sink)()
    async with trio.open_nursery() as fetches:
        fetches.start_soon(one.peering.source(two.id).fetch, order, sink)
        fetches.start_soon(two.peering.source(one.id).fetch, order, other)
    assert whole(sink) == whole(other) == blob_file[2]


async def test_a_second_order_takes_the_same_connection(pair, order, sink):
    one, two = await pair({"plain_data": "never"}, {})
    source = one.peering.source(two.id)
    for _ in range(3):
        await source.fetch(order, sink)
    assert one.peering._secure.dialled == 2  # the link and one more


async def test_a_kept_connection_that_the_peer_has_closed_costs_the_order_nothing(pair, order, sink):
    one, two = await pair({"plain_data": "never"}, {})
    source = one.peering.source(two.id)
    await source.fetch(order, sink)
    with trio.CancelScope(shield=True):
        await trio.aclose_forcefully(source._idle[0].connection.stream)
    await source.fetch(order, sink)
    assert one.peering._secure.dialled == 3


async def test_many_orders_share_a_few_connections(pair, order, sink):
    one, two = await pair({"plain_data": "never"}, {})
    source = one.peering.source(two.id)
    async with trio.open_nursery() as fetches:
        for index in [0, 1, 2] * 3:
            fetches.start_soon(source.fetch, Order(order.blob, index, 1), sink)
    assert one.peering._secure.dialled <= 1 + CONNECTIONS_PER_PEER_MAX


async def test_a_chunk_that_the_peer_does_not_hold_is_a_source_error_and_the_connection_is_kept(pair, order, sink):
    one, two = await pair({"plain_data": "never"}, {})
    source = one.peering.source(two.id)
    for _ in range(2):
        with pytest.raises(SourceError, match="not_held"):
            await source.fetch(Order(Blob(BlobId("sha256", "00" * 32), 5), 0, 1), sink)
    await source.fetch(order, sink)
    assert one.peering._secure.dialled == 2


async def test_wrong_bytes_pass_through_and_the_next_order_is_unharmed(pair, order, sink, blob_file):
    one, two = await pair()

    def refuse(index):
        raise WrongBytesError("not what the manifest says")

    sink.on_arrived = refuse
    with pytest.raises(WrongBytesError):
        await one.peering.source(two.id).fetch(order, sink)
    sink.on_arrived = None
    await one.peering.source(two.id).fetch(order, sink)
    assert whole(sink) == blob_file[2]


async def test_after_wrong_bytes_on_a_plain_connection_all_comes_over_tls_and_nobody_is_blamed_for_the_first(
    pair, order, sink, blob_file
):
    """Whoever can write on the wire could have honest nodes ban each other."""
    one, two = await pair()
    source = one.peering.source(two.id)
    await source.fetch(order, sink)

    def refuse(index):
        raise WrongBytesError("not what the manifest says")

    sink.on_arrived = refuse
    for plain in (True, False, False):
        sink.plain.clear()
        with pytest.raises(WrongBytesError):
            await source.fetch(order, sink)
        assert sink.plain == [plain]
    two.peering._links.find(one.id).link.cut("silent")
    await one.events.until_linked(2)
    sink.plain.clear()
    sink.on_arrived = None
    await one.peering.source(two.id).fetch(order, sink)
    assert sink.plain == [False] * order.count
    assert whole(sink) == blob_file[2]


async def test_an_order_cancelled_in_the_middle_of_a_chunk_does_not_harm_the_next(pair, order, sink, blob_file):
    one, two = await pair()
    with trio.CancelScope() as scope:
        sink.on_progress = scope.cancel
        await one.peering.source(two.id).fetch(order, sink)
    assert scope.cancelled_caught
    assert sink.pieces < order.blob.size
    sink.on_progress = lambda: None
    await one.peering.source(two.id).fetch(order, sink)
    assert whole(sink) == blob_file[2]


async def test_a_private_chunk_travels_over_tls_alone(pair, order, sink, blob_file):
    one, two = await pair()
    public = two.events.seed

    async def private(peer, blob, index):
        span = await public(peer, blob, index)
        span.private = True
        return span

    two.events.seed = private
    source = one.peering.source(two.id)
    with pytest.raises(NotHeldError):
        await source.fetch(order, sink)
    assert not sink.chunks
    await source.fetch(replace(order, private=True), sink)  # though a plain connection waits for the next order
    assert whole(sink) == blob_file[2]
    two.events.seed = public
    await source.fetch(order, sink)


async def test_a_private_order_gets_a_connection_though_plain_ones_fill_the_peers_count(pair, order, sink, blob_file):
    one, two = await pair()
    source = one.peering.source(two.id)
    async with trio.open_nursery() as fetches:  # as a snapshot of small files leaves them
        for _ in range(CONNECTIONS_PER_PEER_MAX):
            fetches.start_soon(source.fetch, Order(order.blob, 0, 1), type(sink)())
    assert len(source._idle) == CONNECTIONS_PER_PEER_MAX
    await source.fetch(replace(order, private=True), sink)
    assert whole(sink) == blob_file[2]


async def test_a_data_connection_does_not_outlive_its_link(pair, order, sink):
    """A node that is not trusted any more must not go on reading."""
    one, two = await pair()
    source = one.peering.source(two.id)
    await source.fetch(order, sink)
    kept = source._take_idle(secret=False)
    two.peering.cut_untrusted(lambda _stream: False)
    await two.events.until_unlinked()
    seeded = len(two.events.seeded)
    get = Get(request=kept.session.next_request, blob=order.blob.id.to_bytes(), size=order.blob.size, first=0, count=1)
    await kept.send(get)
    assert isinstance(await kept.receive(), Bye)
    assert len(two.events.seeded) == seeded
    await kept.aclose()


async def test_a_node_that_is_not_trusted_any_more_gets_no_further_chunk_of_a_long_order(pair, order, sink):
    one, two = await pair()
    seed = two.events.seed

    async def deny_after_the_first(peer, blob, index):
        if index == 1:
            two.peering.cut_untrusted(lambda _stream: False)
            await two.events.until_unlinked()
        return await seed(peer, blob, index)

    two.events.seed = deny_after_the_first
    with pytest.raises(SourceError):
        await one.peering.source(two.id).fetch(order, sink)
    assert 2 not in sink.chunks


async def test_a_peer_killed_in_the_middle_of_a_chunk_fails_the_order_at_once(pair, order, sink):
    one, two = await pair()
    sink.on_progress = two.scope.cancel
    with pytest.raises(ShortAnswerError):
        await one.peering.source(two.id).fetch(order, sink)
    await one.events.until_unlinked()


async def test_a_seeder_whose_file_is_too_short_breaks_off_and_lives_on(pair, order, sink, blob_file):
    one, two = await pair()
    blob_file[0].truncate(CHUNK_BYTES + 10)
    with pytest.raises(ShortAnswerError):
        await one.peering.source(two.id).fetch(order, sink)
    assert list(sink.chunks) == [0]
    await one.peering.source(two.id).fetch(Order(order.blob, 0, 1), sink)


async def test_a_peer_that_stops_sending_fails_the_order_and_the_seeder_gives_up_later(
    autojump_clock, memory_node, memory_network, order, sink
):
    one, two = await memory_node(), await memory_node()
    one.hear_of(two)
    await one.events.until_linked()
    sink.on_progress = memory_network.stall
    began = trio.current_time()
    with pytest.raises(ShortAnswerError, match="no progress"):
        await one.peering.source(two.id).fetch(order, sink)
    assert trio.current_time() - began == pytest.approx(10, abs=1.5)
    await trio.sleep(2 * SEED_PROGRESS_TIMEOUT_S)
    assert two.peering.statistics.slow_readers == 1


async def test_a_peer_that_never_answers_a_get_fails_the_order(autojump_clock, memory_node, order, sink):
    one, two = await memory_node(), await memory_node()
    one.hear_of(two)
    await one.events.until_linked()

    async def seed(peer, blob, index):
        await trio.sleep(math.inf)

    two.events.seed = seed
    with pytest.raises(ShortAnswerError, match="no progress"):
        await one.peering.source(two.id).fetch(order, sink)


# Tickets


async def attach(node, ticket):
    connection = Connection(await TcpNetwork().dial(node.address), Session(Role.DIALLER, Secrecy.PLAIN))
    await connection.send(Attach(ticket=ticket))
    return connection, await connection.receive()


async def test_a_forged_ticket_is_refused(tcp_node):
    one = await tcp_node()
    connection, answer = await attach(one, bytes(16))
    assert answer.code == "bad_ticket"
    assert one.peering.statistics.tickets_refused == 1
    await connection.aclose()


async def test_a_ticket_is_good_once(pair):
    one, two = await pair()
    (ticket,) = await one.peering.ask(two.id, AskTicket(request=1))
    first, answer = await attach(two, ticket.ticket)
    assert type(answer).__name__ == "Attached"
    second, answer = await attach(two, ticket.ticket)
    assert answer.code == "bad_ticket"
    await first.aclose()
    await second.aclose()


async def test_a_ticket_is_no_good_over_the_tls_of_another_node(pair):
    one, two = await pair()
    (ticket,) = await one.peering.ask(two.id, AskTicket(request=1))
    stream, _ = await TlsSecure(Membership.open(Identity.generate())).wrap_dialled(await TcpNetwork().dial(two.address))
    connection = Connection(stream, Session(Role.DIALLER))
    await connection.expect(Hello)
    await connection.send(Attach(ticket=ticket.ticket))
    assert (await connection.receive()).code == "bad_ticket"
    await connection.aclose()


async def test_tickets_are_not_hoarded(pair):
    one, two = await pair()
    for _ in range(CONNECTIONS_PER_PEER_MAX):
        await one.peering.ask(two.id, AskTicket(request=1))
    with pytest.raises(SourceError, match="busy"):
        await one.peering.ask(two.id, AskTicket(request=1))


# Strangers


@pytest.mark.parametrize("other", [Membership.open, lambda identity: Membership.closed(identity, new_join_token())])
async def test_a_closed_cluster_refuses_open_nodes_and_those_of_another_token(tcp_node, other):
    token = new_join_token()
    one = await tcp_node(lambda identity: Membership.closed(identity, token))
    two = await tcp_node(lambda identity: Membership.closed(identity, token))
    stranger = await tcp_node(other)
    stranger.hear_of(one)
    one.hear_of(stranger)
    one.hear_of(two)
    await one.events.until_linked()
    while stranger.peering.statistics.dials_failed + one.peering.statistics.dials_failed < 2:
        await trio.lowlevel.checkpoint()
    assert one.peering.linked() == [two.id]
    assert stranger.peering.linked() == []
    assert one.peering.statistics.handshakes_failed >= 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 100,
        struct.pack(">I", (1 << 32) - 1) + b"x" * 1000,
        struct.pack(">I", 60_000) + b"\x91" * 60_000,
        b"\x16\x03\x01\xff\xff" + b"\0" * 70_000,
        b"",
    ],
    ids=["http", "ones", "a 4 GiB length", "nested msgpack", "a false TLS record", "nothing"],
)
async def test_garbage_at_the_door_is_closed_and_counted(tcp_node, garbage):
    one = await tcp_node()
    stream = await TcpNetwork().dial(one.address)
    await stream.send_all(garbage)
    if not garbage:
        await stream.aclose()
    else:
        with suppress(trio.BrokenResourceError):
            while await stream.receive_some():
                pass
    statistics = one.peering.statistics
    while not statistics.protocol_errors.total() + statistics.handshakes_failed:
        await trio.lowlevel.checkpoint()
    await stream.aclose()


async def test_an_address_gets_only_so_many_unproven_connections(tcp_node):
    one, two = await tcp_node(), await tcp_node()
    waiting = [await TcpNetwork().dial(one.address) for _ in range(UNPROVEN_PER_ADDRESS_MAX)]
    late = await TcpNetwork().dial(one.address)
    assert await late.receive_some() == b""
    assert one.peering.statistics.refused == 1
    for stream in waiting:
        await stream.aclose()
    two.hear_of(one)
    await two.events.until_linked()
    await late.aclose()


async def test_a_connection_that_proves_nothing_is_shed_in_time(autojump_clock, memory_node, memory_network):
    one = await memory_node()
    stream = await memory_network.at("10.0.0.77").dial(one.address)
    began = trio.current_time()
    assert await stream.receive_some() == b""
    assert trio.current_time() - began == pytest.approx(5, abs=0.1)


@pytest.mark.scorecard("S12")
async def test_a_crowd_of_strangers_keeps_no_newcomer_and_no_member_out(autojump_clock, memory_node, memory_network):
    one, two, three = [await memory_node() for _ in range(3)]
    two.hear_of(one)
    await two.events.until_linked()
    crowd = [
        await memory_network.at(f"10.0.1.{number % 20}").dial(one.address) for number in range(3 * UNPROVEN_CONNECTIONS_MAX)
    ]
    with trio.fail_after(2):
        three.hear_of(one)
        await three.events.until_linked()
    for _ in range(UNPROVEN_PER_ADDRESS_MAX):
        crowd.append(await memory_network.at(two.host).dial(one.address))
        crowd += [await memory_network.at(f"10.0.2.{number}").dial(one.address) for number in range(UNPROVEN_CONNECTIONS_MAX)]
    waiting = [stream for stream in crowd if stream.local.host == two.host]
    with trio.move_on_after(1) as scope:
        await waiting[0].receive_some()
    assert scope.cancelled_caught  # it has not been pushed out


# Members that misbehave


@pytest.mark.parametrize(
    "misbehaviour", ["garbage", "another chunk", "another size", "a 4 GiB length", "the end", "half a chunk"]
)
async def test_a_misbehaving_member_costs_one_order_and_is_named(tcp_node, impostor, order, sink, misbehaviour):
    async def misbehave(connection, get):
        size = CHUNK_BYTES
        first = Chunk(request=get.request, index=0, size=size, digest=bytes(32))
        frames = {
            "garbage": b"\0\0\0\x05hello",
            "another chunk": frame(Chunk(request=get.request, index=1, size=size, digest=bytes(32))),
            "another size": frame(Chunk(request=get.request, index=0, size=size - 1, digest=bytes(32))),
            "a 4 GiB length": b"\xff\xff\xff\xff",
            "the end": b"",
            "half a chunk": frame(first) + bytes(size // 2),
        }
        await connection.stream.send_all(frames[misbehaviour])

    evil = await impostor(misbehave)
    one = await tcp_node()
    one.peering.heard(Candidate(evil.address, None, "mdns"))
    await one.events.until_linked()
    expected = ShortAnswerError if misbehaviour in {"the end", "half a chunk"} else PeerProtocolError
    with pytest.raises(expected):
        await one.peering.source(evil.id).fetch(order, sink)
    assert one.peering.statistics.protocol_errors["fetching"] == (expected is PeerProtocolError)
    assert not sink.chunks


def frame(message):
    """As it stands on the wire, whatever the sender's session would say to it."""
    return encode(message)


async def test_a_port_in_use_is_said_with_the_setting_to_change(tcp_node):
    one = await tcp_node()
    two = await tcp_node(start=False)
    two.peering._settings = type(two.peering._settings)(listen=one.address)
    with pytest.raises(ConfigError, match="Cannot listen for peers"):
        await two.peering.run(two.events)


async def test_a_static_peer_is_dialled_by_name(tcp_node):
    one = await tcp_node()
    two = await tcp_node(peers=(Address("localhost", one.address.port),))
    await two.events.until_linked()
    assert two.peering.linked() == [one.id]
