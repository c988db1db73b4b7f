"""Bytes that leave before our own check, because enough members vouch for them; and what those are worth who should not be."""

import os
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import replace

import pytest
import trio
from fakes.hub import NOBODY, REPO, MemoryHub, blob_of
from fakes.neighbours import Lan
from fakes.node import Node, key_of
from simulation.lies import false_bytes
from structlog.testing import capture_logs

from p2pmodel.content import Attestation, Blob, Circle, Grade, Level, Manifest, Seal, Voucher, chunk_count, chunk_digest
from p2pmodel.content.naming import node_id_of
from p2pmodel.delivery.manifests import manifest_pages
from p2pmodel.delivery.ports import Span
from p2pmodel.delivery.recorder import FALSE_VOUCHER
from p2pmodel.errors import WrongBytesError
from p2pmodel.limits import CHUNK_BYTES
from p2pmodel.wire.messages import AskManifest, AskVoucher, VoucherPage

CHUNKS = 6
WEIGHTS = b"".join(bytes([index]) * CHUNK_BYTES for index in range(CHUNKS))
BLOB = blob_of(WEIGHTS)
CHUNK_S = 1.0  # what a chunk takes on the LAN
CLUSTER = Circle(b"cluster.", past=frozenset({b"oldkey.."}))


@pytest.fixture
def hub():
    made = MemoryHub()
    made.publish({"w.bin": WEIGHTS})
    return made


class Member(Node):
    def __init__(self, number, lan, hub, *, vouchers=0, recorder=None, closed=True):
        key = key_of(f"member {number}")
        name = node_id_of(key.public_key().public_bytes_raw())
        self.circle = CLUSTER
        super().__init__(
            name, lan, hub, closed=closed, key=key, vouchers=vouchers, circle=lambda: self.circle, recorder=recorder
        )


@asynccontextmanager
async def cluster(hub, sealers, vouchers, *, recorder=None, closed=True):
    """So many members that hold the file, and a late one. The LAN is fast until it comes."""
    lan = Lan()
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        members = [Member(number, lan, hub, closed=closed) for number in range(sealers)]
        for member in members:
            await stack.enter_async_context(member.running(nursery))
            await member.fetch()
        late = Member("late", lan, hub, vouchers=vouchers, recorder=recorder, closed=closed)
        await stack.enter_async_context(late.running(nursery))
        lan.rate = CHUNK_BYTES / CHUNK_S / max(1, sealers)  # of each
        hub.sent.clear()
        yield lan, members, late
        await stack.aclose()
        nursery.cancel_scope.cancel()


async def read(node, start=0, stop=BLOB.size, given=None):
    """Whether the answer began before the node had checked the whole file; and its bytes."""
    snapshot, entry = await node.delivery.entry(REPO, "main", "w.bin", NOBODY)
    async with node.delivery.read(snapshot, entry, start, stop, NOBODY) as reader:
        await reader.ready()
        early = node.bytes_of(BLOB) is None
        given = bytearray() if given is None else given
        while (span := await reader.next_span()) is not None:
            with span:
                given += os.pread(span.fd, span.length, span.offset)
        return early, bytes(given)


@pytest.mark.parametrize(
    ("sealers", "vouchers", "early"), [(2, 0, False), (1, 2, False), (2, 2, True), (3, 2, True), (3, 3, True), (2, 9, False)]
)
async def test_bytes_leave_early_once_enough_members_vouch_for_them(hub, autojump_clock, sealers, vouchers, early):
    async with cluster(hub, sealers, vouchers) as (_, _, late):
        assert await read(late) == (early, WEIGHTS)
        await trio.sleep(CHUNK_S)
        assert late.bytes_of(BLOB) == WEIGHTS
    assert hub.bytes_sent == 0


async def test_a_small_range_that_members_vouch_for_costs_the_hub_nothing(hub, autojump_clock):
    async with cluster(hub, 2, 2) as (_, _, late):
        early, data = await read(late, CHUNK_BYTES + 5, CHUNK_BYTES + 25)
        assert early
        assert data == WEIGHTS[CHUNK_BYTES + 5 : CHUNK_BYTES + 25]
    assert hub.bytes_sent == 0


async def test_in_an_open_cluster_nobody_is_asked_and_nobody_answers(hub, autojump_clock):
    async with cluster(hub, 2, 2, closed=False) as (lan, members, late):
        early, data = await read(late)
        assert (early, data == WEIGHTS) == (False, True)
        [answer] = await lan.nodes[members[0].name].answer(late.name, AskVoucher(request=1, blob=BLOB.id.to_bytes()))
        assert answer.code == "not_held"


class Liar:
    """A member's `PeerEvents` that says otherwise: `voucher` is made of the true one; the chunks `lies` are false."""

    def __init__(self, member, voucher=None, lies=()):
        self._events = member.delivery.seeding
        self._member = member
        self._voucher = voucher
        self._manifest = false_manifest(lies)
        self._lies = lies

    def __getattr__(self, name):
        return getattr(self._events, name)

    async def answer(self, peer, question):
        if isinstance(question, AskVoucher):
            true = Voucher.sign(BLOB, self._manifest.root, circle=CLUSTER, key=self._member.around.key)
            voucher = self._voucher(true) if self._voucher else true
            return [VoucherPage(request=question.request, voucher=voucher.to_bytes())]
        if isinstance(question, AskManifest):
            return manifest_pages(1, self._manifest, Seal.sign(self._manifest, self._member.around.key))
        return await self._events.answer(peer, question)

    async def seed(self, peer, blob, index):
        span = await self._events.seed(peer, blob, index)
        with span:
            data = os.pread(span.fd, span.length, span.offset)
        if index in self._lies:
            data = false_bytes(BLOB.id, index, CHUNK_BYTES)
        digest = chunk_digest(data)
        word = Attestation.sign(BLOB, index, digest, Level.CONFIRMED, circle=CLUSTER, key=self._member.around.key)
        return Span(memory_file(data), 0, len(data), digest, word.to_bytes())


def false_manifest(lies):
    chunks = [WEIGHTS[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES] for index in range(chunk_count(BLOB.size))]
    for index in lies:
        chunks[index] = false_bytes(BLOB.id, index, CHUNK_BYTES)
    return Manifest(BLOB, b"".join(map(chunk_digest, chunks)))


_FILES = []


def memory_file(data):
    fd = os.memfd_create("false", os.MFD_CLOEXEC)
    os.write(fd, data)
    _FILES.append(fd)
    return fd


@pytest.fixture(autouse=True)
def _no_file_is_left():
    yield
    while _FILES:
        os.close(_FILES.pop())


def becomes_liar(lan, member, **how):
    lan.nodes[member.name] = Liar(member, **how)


OTHER_BLOB = Blob(blob_of(b"other").id, BLOB.size)


@pytest.mark.parametrize(
    ("voucher", "why"),
    [
        (lambda true: Voucher.sign(BLOB, true.root, circle=Circle(b"others.."), key=key_of("member 0")), "foreign_cluster"),
        (lambda true: Voucher.sign(BLOB, true.root, circle=Circle(b"oldkey.."), key=key_of("member 0")), "old_epoch"),
        (lambda true: Voucher.sign(OTHER_BLOB, true.root, circle=CLUSTER, key=key_of("member 0")), "other_blob"),
        (lambda true: Voucher.sign(BLOB, true.root, circle=CLUSTER, key=key_of("member 1")), "not_its_own"),
        (lambda true: replace(true, signature=bytes(64)), "forged"),
    ],
)
async def test_what_is_no_vote_of_its_giver_is_refused_and_the_client_waits(hub, autojump_clock, voucher, why):
    async with cluster(hub, 2, 2) as (lan, members, late):
        becomes_liar(lan, members[0], voucher=voucher)
        with capture_logs() as logs:
            early, data = await read(late)
        assert (early, data == WEIGHTS) == (False, True)
        refused = [entry for entry in logs if entry["event"] == "voucher_refused"]
        assert {(entry["peer"], entry["why"]) for entry in refused} == {(members[0].name, why)}


async def test_who_is_banned_has_no_vote(hub, autojump_clock):
    async with cluster(hub, 2, 2) as (_, members, late):
        late.around.standing.convict(members[0].name, "false_digest")
        early, data = await read(late)
        assert (early, data == WEIGHTS) == (False, True)


async def test_who_leaves_takes_its_vote_along_and_brings_it_back(hub, autojump_clock):
    async with cluster(hub, 2, 2) as (lan, members, late), trio.open_nursery() as nursery:
        nursery.start_soon(late.fetch)
        await trio.sleep(2 * CHUNK_S)
        [download] = late.delivery.downloads.active
        assert download.vouching.agreed
        lan.drop(members[0].name)
        assert not download.vouching.agreed
        lan.heal(members[0].name)
        await trio.sleep(0.1)
        assert download.vouching.agreed


async def test_a_changed_key_ends_the_votes_under_the_one_before(hub, autojump_clock):
    async with cluster(hub, 2, 2) as (_, _, late), trio.open_nursery() as nursery:
        nursery.start_soon(late.fetch)
        await trio.sleep(2 * CHUNK_S)
        [download] = late.delivery.downloads.active
        assert download.vouching.agreed
        late.circle = Circle(b"newkey..", past=frozenset({CLUSTER.cluster}))
        assert not download.vouching.agreed


@pytest.mark.parametrize("liar", [0, 1, 2])
async def test_one_who_says_otherwise_is_found_out_before_a_byte_leaves(hub, autojump_clock, liar):
    async with cluster(hub, 3, 2) as (lan, members, late):
        becomes_liar(lan, members[liar], lies=range(CHUNKS))
        early, data = await read(late)
        assert (early, data == WEIGHTS) == (True, True)
        assert [ban.source for ban in late.delivery.bans()] == [members[liar].name]
    assert hub.bytes_sent <= 3 * CHUNK_BYTES


async def test_one_honest_member_is_enough_to_stop_many_liars(hub, autojump_clock):
    async with cluster(hub, 4, 2) as (lan, members, late):
        for member in members[:3]:
            becomes_liar(lan, member, lies=[3, 5])
        _, data = await read(late)
        assert data == WEIGHTS
        assert {ban.source for ban in late.delivery.bans()} == {member.name for member in members[:3]}


async def test_a_voucher_against_what_we_read_from_the_hub_ourselves_is_no_vote_and_a_ban(hub, autojump_clock):
    async with cluster(hub, 2, 2) as (lan, members, late):
        for member in members:
            becomes_liar(lan, member, lies=[1])
        stored = late.store.open(BLOB, private=False)
        own = memoryview(WEIGHTS)[CHUNK_BYTES : 2 * CHUNK_BYTES]
        stored.write(1, own, chunk_digest(own), Grade.OWN)
        stored.close()
        _, data = await read(late)
        assert data == WEIGHTS
        assert {ban.source for ban in late.delivery.bans()} == {member.name for member in members}


class Records:
    def __init__(self):
        self.flights = []

    def record(self, flight):
        self.flights.append(flight)


@pytest.mark.parametrize("leaves", [False, True])
async def test_as_many_liars_as_are_asked_for_are_found_out_too_late_and_by_proof(hub, autojump_clock, leaves):
    """The price of believing them: said to who reads to the end, in the log and by `why`, and never paid twice."""
    records = Records()
    async with cluster(hub, 2, 2, recorder=records) as (lan, members, late):
        hub.rate = CHUNK_BYTES / 60  # or that very chunk might be read from it, and all would be well
        for member in members:
            becomes_liar(lan, member, lies=[2])
        with capture_logs() as logs:
            stop = BLOB.size - CHUNK_BYTES if leaves else BLOB.size
            given = bytearray()
            with pytest.raises(WrongBytesError) if not leaves else nullcontext():
                await read(late, 0, stop, given)
            assert given[2 * CHUNK_BYTES : 3 * CHUNK_BYTES] == false_bytes(BLOB.id, 2, CHUNK_BYTES)
            assert len(given) == BLOB.size - CHUNK_BYTES, "the last chunk waits for our own check"
            await trio.sleep(600)
        assert late.bytes_of(BLOB) == WEIGHTS
        liars = {member.name for member in members}
        assert {ban.source for ban in late.delivery.bans()} == liars
        [said] = [entry for entry in logs if entry["event"] == "wrong_bytes_left"]
        assert (said["chunks"], set(said["vouched_by"]), said["log_level"]) == ([2], liars, "error")
        false = [flight for flight in records.flights if flight.outcome == FALSE_VOUCHER]
        assert {(flight.source, flight.first, flight.count) for flight in false} == {(liar, 2, 1) for liar in liars}
        assert (await read(late))[1] == WEIGHTS


@pytest.mark.parametrize(
    ("addresses", "early"),
    [
        (("10.0.0.9:7277", "10.0.0.9:7278"), False),
        (("[fd00::9]:7277", "[fd00::9]:7278"), False),
        (("10.0.0.9:7277", "10.0.0.8:7277"), True),
        (("127.0.0.1:7277", "127.0.0.1:7278"), True),
    ],
)
async def test_one_machine_is_not_several_members_however_many_ids_it_has(hub, autojump_clock, addresses, early):
    async with cluster(hub, 2, 2) as (lan, members, late):
        lan.addresses = {member.name: address for member, address in zip(members, addresses, strict=True)}
        assert await read(late) == (early, WEIGHTS)
