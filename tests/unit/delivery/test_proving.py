"""Bytes that leave before our own check, because the hub's own root proves them: whoever gave them."""

import os
from contextlib import AsyncExitStack, asynccontextmanager
from types import MappingProxyType

import pytest
import trio
from fakes.hub import NOBODY, REPO, MemoryHub, blob_of
from fakes.neighbours import Lan
from fakes.node import Node, key_of
from noise import noise
from simulation.lies import false_bytes
from structlog.testing import capture_logs

from p2pmodel.content import (
    Access,
    Attestation,
    Grade,
    Hub,
    Level,
    PieceList,
    Repo,
    RepoKind,
    chunk_digest,
    chunk_start,
    cutting,
)
from p2pmodel.content.cutting import Cutter
from p2pmodel.content.naming import node_id_of
from p2pmodel.content.pieces import PIECE_ENTRY_BYTES, piece_entry
from p2pmodel.delivery import piece_lists, proving, reader
from p2pmodel.delivery.pace import Urgency
from p2pmodel.delivery.piece_lists import PIECES
from p2pmodel.delivery.ports import Location, Span
from p2pmodel.limits import CHUNK_BYTES, PROOF_S
from p2pmodel.wire.messages import AskManifest, AskPieces, PiecesPage, Problem

CHUNKS = 5
WEIGHTS = noise(44, (CHUNKS - 1) * CHUNK_BYTES + 70_001)
BLOB = blob_of(WEIGHTS)
CHUNK_S = 1.0  # what a chunk takes on the LAN


def listed(data):
    cutter = Cutter()
    cutter.feed(data)
    return cutter.finish()


LIST = listed(WEIGHTS)


@pytest.fixture(autouse=True)
def _these_files_are_large(monkeypatch):
    for module in (proving, piece_lists, reader):
        monkeypatch.setattr(module, "LARGE_BLOB_BYTES", 2 * CHUNK_BYTES)


@pytest.fixture
def hub():
    made = MemoryHub()
    made.publish({"w.bin": WEIGHTS})
    made.roots[BLOB.id] = LIST.root()
    return made


class Peer(Node):
    def __init__(self, name, lan, hub, **more):
        key = key_of(name)
        super().__init__(node_id_of(key.public_key().public_bytes_raw()), lan, hub, key=key, **more)


@asynccontextmanager
async def cluster(hub, holders=1, *, repo=REPO, have_lists=True):
    """So many peers that hold the file, and a late one. The LAN is fast until it comes."""
    lan = Lan()
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        peers = [Peer(f"peer {number}", lan, hub) for number in range(holders)]
        for peer in peers:
            await stack.enter_async_context(peer.running(nursery))
            await peer.fetch(repo=repo)
            await trio.sleep(1)
            peer.store.keep_pieces(BLOB.id, LIST.entries if have_lists else b"")
        late = Peer("late", lan, hub)
        await stack.enter_async_context(late.running(nursery))
        lan.rate = CHUNK_BYTES / CHUNK_S / max(1, holders)  # of each
        hub.sent.clear()
        hub.asked.clear()
        yield lan, peers, late
        await stack.aclose()
        nursery.cancel_scope.cancel()


async def read(node, start=0, stop=BLOB.size, repo=REPO):
    """How many chunks were here when the answer began, whether the whole was when its last byte left; and its bytes."""
    snapshot, entry = await node.delivery.entry(repo, "main", "w.bin", NOBODY)
    async with node.delivery.read(snapshot, entry, start, stop, NOBODY) as reader:
        await reader.ready()
        here, given = node.store.find(BLOB.id).held, bytearray()
        while (span := await reader.next_span()) is not None:
            with span:
                given += os.pread(span.fd, span.length, span.offset)
        return here, bytes(given)


async def test_bytes_of_one_peer_leave_as_they_come_and_the_hub_is_asked_for_one_root(hub, autojump_clock):
    async with cluster(hub) as (_, _, late):
        here, data = await read(late)
        assert data == WEIGHTS
        assert here <= 3
        await trio.sleep(CHUNK_S)
        assert late.bytes_of(BLOB) == WEIGHTS
        assert late.store.pieces(BLOB.id, 0, len(LIST)) == LIST.entries, "it can hand the list on"
    assert hub.bytes_sent == 0
    assert hub.asked["xet_root"] == 1


async def test_a_range_in_the_middle_waits_for_the_chunks_beside_it_and_no_others(hub, autojump_clock):
    async with cluster(hub) as (_, _, late):
        start = 3 * CHUNK_BYTES + 1000
        here, data = await read(late, start, start + 1000)
        assert data == WEIGHTS[start : start + 1000]
        assert here == 3
    assert hub.bytes_sent == 0


async def test_the_last_bytes_of_a_file_leave_too(hub, autojump_clock):
    async with cluster(hub) as (_, _, late):
        here, data = await read(late, BLOB.size - 100)
        assert data == WEIGHTS[-100:]
        assert here <= 3
    assert hub.bytes_sent == 0


@pytest.mark.parametrize("without", ["a root", "a list", "the ability", "a client"])
async def test_without_what_it_takes_all_is_as_before(hub, autojump_clock, without):
    if without == "a root":
        hub.roots.clear()
    async with cluster(hub, have_lists=without != "a list") as (lan, peers, late):
        lan.unable = {peers[0].name: {PIECES}} if without == "the ability" else {}
        if without == "a client":
            await late.fetch()
            assert hub.asked["xet_root"] == 0
            return
        here, data = await read(late)
        assert (here, data) == (CHUNKS, WEIGHTS)
    assert hub.bytes_sent == 0


async def test_a_client_that_joins_a_fetch_has_the_proof_looked_for_at_once(hub, autojump_clock):
    async with cluster(hub) as (lan, _, late), trio.open_nursery() as nursery:
        lan.rate = CHUNK_BYTES / 100  # nothing else happens for long
        nursery.start_soon(late.fetch)
        await trio.sleep(30)
        assert hub.asked["xet_root"] == 0
        nursery.start_soon(read, late)
        await trio.sleep(0.5)
        assert hub.asked["xet_root"] == 1
        nursery.cancel_scope.cancel()


async def test_a_hub_without_roots_is_not_asked_for_one(hub, autojump_clock):
    repo = Repo(Hub.MODELSCOPE, RepoKind.MODEL, "org/model")
    hub.publish({"w.bin": WEIGHTS}, repo=repo)
    async with cluster(hub, repo=repo) as (_, _, late):
        here, data = await read(late, repo=repo)
        assert (here, data) == (CHUNKS, WEIGHTS)
    assert hub.asked["xet_root"] == 0


async def test_a_hub_that_is_away_names_no_root_and_the_file_comes_all_the_same(hub, autojump_clock):
    async with cluster(hub) as (_, _, late):
        snapshot, entry = await late.delivery.entry(REPO, "main", "w.bin", NOBODY)
        hub.down = True
        async with late.delivery.read(snapshot, entry, 0, 100, NOBODY) as reader:
            await reader.ready()
            with await reader.next_span() as span:
                assert os.pread(span.fd, span.length, span.offset) == WEIGHTS[:100]
        assert late.store.find(BLOB.id).sealed


async def test_a_private_file_is_proven_to_those_whom_the_hub_lets_in_and_its_list_is_hidden_from_others(hub, autojump_clock):
    repo, alice, lan = Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/secret"), Access("alice"), Lan()
    place = hub.publish({"w.bin": WEIGHTS}, repo=repo, tokens={"alice"})
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        one, two, stranger = [Peer(name, lan, hub, closed=True, sharing="prove") for name in ("one", "two", "stranger")]
        for peer in (one, two, stranger):
            await stack.enter_async_context(peer.running(nursery))
        await one.fetch(repo=repo, access=alice)
        await trio.sleep(1)
        assert one.store.pieces(BLOB.id, 0, 1)
        lan.rate = CHUNK_BYTES / CHUNK_S
        async with two.delivery.read(place, place.files[0], 0, BLOB.size, alice) as reader:
            await reader.ready()
            [download] = two.delivery.downloads.active
            assert (download.proving.pieces is not None, download.stored.held.complete) == (True, False)
        question = AskPieces(request=1, blob=BLOB.id.to_bytes(), first=0)
        [answer] = await lan.nodes[one.name].answer(stranger.name, question)
        assert answer.code == "not_held"
        nursery.cancel_scope.cancel()


# Who lists what is not so, or gives it


class Liar:
    """A peer that changes the chunks `lies` before it gives and signs them; its list is `pieces`, if there is one."""

    def __init__(self, peer, lies=MappingProxyType({}), *, pieces=None, silent=False):
        self._events, self._peer, self._lies, self._pieces, self._silent = peer.delivery.seeding, peer, lies, pieces, silent

    def __getattr__(self, name):
        return getattr(self._events, name)

    async def answer(self, peer, question):
        if isinstance(question, AskPieces) and self._silent:
            await trio.sleep_forever()
        if isinstance(question, AskManifest) and self._lies:  # or it would be told from its own seal
            return [Problem(code="not_held")]
        if isinstance(question, AskPieces) and self._pieces is not None:
            some = self._pieces[question.first * PIECE_ENTRY_BYTES :][: 100 * PIECE_ENTRY_BYTES]
            return [PiecesPage(request=1, first=question.first, pieces=some)] if some else [Problem(code="not_held")]
        return await self._events.answer(peer, question)

    async def seed(self, peer, blob, index):
        span = await self._events.seed(peer, blob, index)
        with span:
            data = bytearray(os.pread(span.fd, span.length, span.offset))
        self._lies.get(index, bytes)(data)
        word = Attestation.sign(blob, index, chunk_digest(data), Level.CONFIRMED, circle=self.circle, key=self._peer.around.key)
        fd = os.memfd_create("false", os.MFD_CLOEXEC)
        try:
            os.write(fd, data)
            return Span(fd, 0, len(data), chunk_digest(data), word.to_bytes())
        finally:
            os.close(fd)

    @property
    def circle(self):
        return self._peer.around.circle()


def all_of_it(data):
    data[:] = false_bytes(BLOB.id, 0, len(data))


def flipped(at):
    def flip(data):
        data[at] ^= 1

    return flip


LAST_OF_A_CHUNK, FIRST_OF_A_CHUNK, INSIDE = flipped(-1), flipped(0), flipped(60_000)


@pytest.mark.parametrize(
    ("chunk", "lie"),
    [
        (0, all_of_it),
        (0, LAST_OF_A_CHUNK),
        (2, all_of_it),
        (2, FIRST_OF_A_CHUNK),
        (2, INSIDE),
        (CHUNKS - 1, FIRST_OF_A_CHUNK),
    ],
)
async def test_a_false_chunk_never_leaves_and_its_signer_is_convicted(hub, autojump_clock, lie, chunk):
    async with cluster(hub, 2) as (lan, peers, late):
        for peer in peers:  # whoever is asked
            lan.nodes[peer.name] = Liar(peer, {chunk: lie})
        hub.rate = CHUNK_BYTES / CHUNK_S
        with capture_logs() as logs:
            _, data = await read(late)
        assert data == WEIGHTS
        assert {entry["chunk"] for entry in logs if entry["event"] == "chunk_not_as_listed"} <= {chunk - 1, chunk, chunk + 1}
        assert any(entry["event"] == "chunk_not_as_listed" for entry in logs)
        assert {ban.why for ban in late.delivery.bans()} == {"false_digest"}


async def test_a_chunk_that_our_own_disk_damaged_is_fetched_again_and_nobody_is_blamed(hub, autojump_clock):
    async with cluster(hub) as (_, _, late):
        stored = late.store.open(BLOB, private=False)
        for chunk in (0, 1):
            data = memoryview(WEIGHTS)[chunk_start(chunk) : chunk_start(chunk + 1)]
            stored.write(chunk, data, chunk_digest(data), Grade.SINGLE)
        late.store.damage(BLOB.id, 0)
        here, data = await read(late)
        assert (here < CHUNKS, data == WEIGHTS) == (True, True)
        assert late.delivery.bans() == []
        stored.close()
    assert hub.bytes_sent == 0


def other_root():
    """A list that could be one, of another file."""
    return LIST.entries[PIECE_ENTRY_BYTES:] + LIST.entries[:PIECE_ENTRY_BYTES]


@pytest.mark.parametrize(
    "pieces",
    [
        other_root(),
        LIST.entries + piece_entry(b"more"),
        LIST.entries[:-PIECE_ENTRY_BYTES],
    ],
    ids=["another root", "more than the file", "less"],
)
async def test_a_list_with_another_root_is_refused_and_the_next_peers_is_taken(hub, autojump_clock, pieces):
    async with cluster(hub, 2) as (lan, peers, late):
        lan.nodes[peers[-1].name] = Liar(peers[-1], pieces=pieces)
        here, data = await read(late)
        assert data == WEIGHTS
        assert here < CHUNKS
        assert late.delivery.bans() == []


async def test_who_lists_nothing_in_time_costs_a_client_seconds_and_no_more(hub, autojump_clock):
    async with cluster(hub, 2) as (lan, peers, late):
        for peer in peers:
            lan.nodes[peer.name] = Liar(peer, silent=True)
        began = trio.current_time()
        _, data = await read(late)
        assert data == WEIGHTS
        assert trio.current_time() - began < CHUNKS * CHUNK_S + PROOF_S


async def test_what_is_proven_is_handed_on_with_its_signers_word_and_never_ours(hub, autojump_clock):
    async with cluster(hub) as (_, peers, late):
        snapshot, entry = await late.delivery.entry(REPO, "main", "w.bin", NOBODY)
        async with late.delivery.read(snapshot, entry, 0, BLOB.size, NOBODY) as reader:
            await reader.ready()
            stored = late.store.open(BLOB, private=False)
            assert stored.grade(0) is Grade.ROOT
            assert 0 in stored.own
            with await late.delivery.seeding.seed(peers[0].name, BLOB, 0) as span:
                assert Attestation.take(span.word)[0].node == peers[0].name
            stored.close()


# Who makes lists


async def test_of_those_who_bring_a_file_in_together_one_lists_its_pieces(hub, autojump_clock):
    lan = Lan()
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        peers = [Peer(f"peer {number}", lan, hub) for number in range(3)]
        for peer in peers:
            await stack.enter_async_context(peer.running(nursery))
        async with trio.open_nursery() as fetches:
            for peer in peers:
                fetches.start_soon(peer.fetch)
        await trio.sleep(5)
        made = [peer for peer in peers if peer.store.pieces(BLOB.id, 0, 1)]
        assert len(made) == 1
        assert made[0].store.pieces(BLOB.id, 0, len(LIST) + 1) == LIST.entries
        assert hub.asked["xet_root"] == 1
        nursery.cancel_scope.cancel()


async def test_who_is_asked_for_a_list_in_vain_makes_one_but_not_while_a_client_waits(hub, autojump_clock):
    async with cluster(hub, have_lists=False) as (lan, [peer], _):
        question = AskPieces(request=1, blob=BLOB.id.to_bytes(), first=0)
        other, repo = noise(42, CHUNK_BYTES), Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/other")
        place = Location(repo, hub.publish({"other.bin": other}, repo=repo).commit, "other.bin", NOBODY)
        hub.stalled = True
        async with peer.delivery.downloads.wanted(blob_of(other), place, private=False, urgency=Urgency.CLIENT):
            [answer] = await lan.nodes[peer.name].answer("late", question)
            assert answer.code == "not_held"
            await trio.sleep(10)
            assert not peer.store.pieces(BLOB.id, 0, 1)
        await trio.sleep(3)
        [page] = await lan.nodes[peer.name].answer("late", question)
        assert page.pieces == LIST.entries[: len(page.pieces)]


async def test_a_hub_that_cuts_otherwise_than_we_do_gets_no_list(hub, autojump_clock):
    hub.roots[BLOB.id] = bytes(32)
    async with cluster(hub, have_lists=False) as (_, [peer], late):
        assert not peer.store.pieces(BLOB.id, 0, 1)
        here, data = await read(late)
        assert (here, data) == (CHUNKS, WEIGHTS)
        await trio.sleep(10)
        assert late.delivery.bans() == [], "an honest list is no crime"


@pytest.mark.parametrize("why", ["too many pieces", "another root than the hub's"])
async def test_a_file_that_was_cut_in_vain_is_not_cut_again_for_whoever_asks(hub, autojump_clock, monkeypatch, why):
    class Counting(Cutter):
        def feed(self, data):
            fed.append(len(data))
            super().feed(data)

    fed = []
    monkeypatch.setattr(piece_lists, "Cutter", Counting)
    if why == "too many pieces":
        monkeypatch.setattr(cutting, "PIECES_MAX", len(LIST) - 2)
    else:
        hub.roots[BLOB.id] = bytes(32)
    async with cluster(hub, have_lists=False) as (lan, [peer], _):
        for _ in range(3):
            [answer] = await lan.nodes[peer.name].answer("late", AskPieces(request=1, blob=BLOB.id.to_bytes(), first=0))
            assert answer.code == "not_held"
            await trio.sleep(10)
    assert sum(fed) == BLOB.size


async def test_small_files_are_not_cut(hub, autojump_clock):
    small, repo = noise(43, CHUNK_BYTES), Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/small")
    hub.publish({"s.bin": small}, repo=repo)
    async with cluster(hub) as (_, [peer], _):
        await peer.fetch(repo=repo)
        [answer] = await peer.delivery.seeding.answer("late", AskPieces(request=1, blob=blob_of(small).id.to_bytes(), first=0))
        assert answer.code == "not_held"
        await trio.sleep(10)
        assert not peer.store.pieces(blob_of(small).id, 0, 1)


def test_the_example_has_pieces_across_chunks():
    """Or half of these tests show nothing."""
    starts = set(PieceList.read(LIST.entries).starts)
    assert not {chunk_start(chunk) for chunk in range(1, CHUNKS)} & starts
