"""Bans: how long they last, that a restart does not end them, and that their operator does."""

import math
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fakes.hub import MemoryHub, blob_of
from fakes.neighbours import Lan
from fakes.node import Node, cluster

from p2pmodel.content import Attestation, Circle, Level, NodeId
from p2pmodel.content.naming import node_id_of
from p2pmodel.delivery.court import pack_words
from p2pmodel.errors import ConfigError
from p2pmodel.limits import BAN_MAX_S, BAN_MIN_S, CHUNK_BYTES, PARDON_S
from p2pmodel.store import MemoryStore
from p2pmodel.swarm import Why

KEY = Ed25519PrivateKey.generate()
LIAR = node_id_of(KEY.public_key().public_bytes_raw())
SICK, OTHER = NodeId("5c" * 20), NodeId("5d" * 20)
DATA = bytes(CHUNK_BYTES + 5)
BLOB = blob_of(DATA)
START = 1_800_000_000.0  # unix


@pytest.fixture
def hub():
    made = MemoryHub()
    made.publish({"w.bin": DATA})
    return made


class Clock:
    """The time of day of a machine. `set_by`: how far somebody has set it."""

    def __init__(self):
        self.set_by = 0.0

    def __call__(self):
        return START + trio.current_time() + self.set_by


@asynccontextmanager
async def booted(hub, store, clock, lan=None, name="a"):
    node = Node(name, lan or Lan(), hub, store=store)
    node.around = replace(node.around, wall=clock)
    node.delivery = type(node.delivery)(node.around, boot=b"12345678", access_allow_s=1.0, offline_grace_s=0.0)
    async with trio.open_nursery() as nursery:
        async with node.running(nursery):
            yield node
            await trio.sleep(1)  # what was pronounced is on the disk
        nursery.cancel_scope.cancel()


def false_word(blob):
    return Attestation.sign(blob, 0, bytes(64), Level.WITNESS, circle=Circle(bytes(8)), key=KEY)


def length_s(node, whom):
    bans = {ban.source: ban.until - trio.current_time() for ban in node.delivery.bans()}
    return bans.get(whom, 0.0)


async def test_a_restart_ends_no_ban(hub, autojump_clock):
    store, clock = MemoryStore(), Clock()
    async with booted(hub, store, clock) as node:
        court = node.delivery._court
        court.convict(false_word(blob_of(DATA)), None)
        court.suspend(SICK, Why.WRONG_BYTES)
        court.suspend(SICK, Why.WRONG_BYTES)
        court.suspend(OTHER, Why.FALSE_LISTING)
    await trio.sleep(100)
    async with booted(hub, store, clock) as node:
        assert length_s(node, LIAR) == math.inf
        assert length_s(node, SICK) == pytest.approx(2 * BAN_MIN_S - 101)
        assert length_s(node, OTHER) == pytest.approx(BAN_MIN_S - 101)
        node.delivery._court.suspend(SICK, Why.WRONG_BYTES)
        assert length_s(node, SICK) == 4 * BAN_MIN_S, "the next one is longer, as if nothing had been"
    await trio.sleep(4 * BAN_MIN_S)
    async with booted(hub, store, clock) as node:
        assert [ban.source for ban in node.delivery.bans()] == [LIAR]


@pytest.mark.parametrize("set_by", [-1e9, 1e9])
async def test_a_clock_that_was_set_makes_no_ban_longer_than_the_longest(hub, autojump_clock, set_by):
    store, clock = MemoryStore(), Clock()
    async with booted(hub, store, clock) as node:
        node.delivery._court.suspend(SICK, Why.WRONG_BYTES)
    clock.set_by = set_by
    async with booted(hub, store, clock) as node:
        assert 0 <= length_s(node, SICK) <= BAN_MAX_S


@pytest.mark.parametrize(
    ("body", "banned"),
    [
        (b'[["%s","false_digest"]]' % LIAR.encode(), [LIAR]),  # as the first version wrote it
        (b'[["%s","what comes next"]]' % LIAR.encode(), []),
        (b"[", []),
    ],
    ids=["first", "next", "broken"],  # the liar's name is another in each process
)
async def test_what_another_version_kept_does_not_keep_a_node_from_starting(hub, autojump_clock, body, banned):
    store = MemoryStore()
    store.put_document("bans", body)
    store.put_document("pardons", body)
    store.put_document("proofs", body)
    async with booted(hub, store, Clock()) as node:
        assert [ban.source for ban in node.delivery.bans()] == banned


async def test_a_forgiven_node_is_asked_again_at_once_and_after_a_restart(hub, autojump_clock):
    store, clock, lan = MemoryStore(), Clock(), Lan()
    async with booted(hub, MemoryStore(), clock, lan, "b") as b, booted(hub, store, clock, lan) as a:
        await b.fetch()
        a.delivery._court.suspend("b", Why.WRONG_BYTES)
        hub.rate = 1.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.fetch)
            await trio.sleep(30)
            assert not lan.sent.get("b")
            assert a.delivery.forgive("b") == ["b"]
            began = trio.current_time()
        assert trio.current_time() - began < 5
        assert lan.sent["b"] == len(DATA)
    async with booted(hub, store, clock) as a:
        assert a.delivery.bans() == []


async def test_whom_to_forgive_is_named_by_the_beginning_of_its_id(hub, autojump_clock):
    async with booted(hub, MemoryStore(), Clock()) as node:
        court = node.delivery._court
        for each in (SICK, OTHER):
            court.suspend(each, Why.WRONG_BYTES)
        for named in ("", "5", "77"):
            with pytest.raises(ConfigError):
                court.forgive(named)
        assert court.forgive("5c") == [SICK]
        court.suspend(SICK, Why.WRONG_BYTES)
        assert set(court.forgive("all")) == {SICK, OTHER}
        assert court.forgive("all") == []


async def banned_on_evidence(node, seconds=0.0):
    """Whether the liar is banned when another shows what it signed, after so long."""
    word = Attestation.sign(blob_of(DATA), 0, bytes(64), Level.WITNESS, circle=node.around.circle(), key=KEY)
    await trio.sleep(seconds)
    node.around.standing.met(LIAR)
    node.delivery.seeding.received("b", pack_words([word]))
    await trio.sleep(1)
    return bool(node.delivery.bans())


async def test_what_others_hold_against_a_forgiven_node_does_not_ban_it_again_for_a_day(hub, autojump_clock):
    """They have not forgiven it, and show what they have; a lie that we find out ourselves is another thing."""
    async with booted(hub, MemoryStore(), Clock()) as node:
        await node.fetch()
        assert await banned_on_evidence(node)
        node.delivery.forgive(LIAR[:12])
        assert not await banned_on_evidence(node, 1)
        node.delivery._court.convict(false_word(blob_of(DATA)), None)
        assert node.delivery.bans()
        node.delivery.forgive(LIAR)
        assert await banned_on_evidence(node, PARDON_S)


@pytest.mark.parametrize(("later_s", "banned"), [(PARDON_S / 2, False), (PARDON_S, True)])
async def test_a_restart_ends_no_pardon(hub, autojump_clock, later_s, banned):
    store, clock = MemoryStore(), Clock()
    async with booted(hub, store, clock) as node:
        await node.fetch()
        node.delivery._court.convict(false_word(blob_of(DATA)), None)
        node.delivery.forgive(LIAR)
    await trio.sleep(later_s)
    for _ in range(2):  # what the second run recalls, it keeps in its turn
        async with booted(hub, store, clock) as node:
            assert await banned_on_evidence(node) is banned
            node.delivery._court.suspend(SICK, Why.WRONG_BYTES)
            node.delivery.forgive(SICK)


async def test_what_proves_a_lie_is_shown_after_a_restart_too(hub, autojump_clock):
    """A peer that hands on what a banned node signed is told why it is not taken."""
    store, clock, shown = MemoryStore(), Clock(), []
    async with booted(hub, store, clock) as node:
        await node.fetch()
        node.delivery._court.convict(false_word(blob_of(DATA)), None)
    for forgiven in (False, True):
        async with booted(hub, store, clock) as node:
            node.around.neighbours.send = lambda _peer, message: shown.append(message)
            node.delivery._court.show("b", LIAR)
            assert [Attestation.take_all(message.words) for message in shown] == [[false_word(blob_of(DATA))]] * (not forgiven)
            node.delivery.forgive("all")
            shown.clear()


@pytest.mark.parametrize("set_by", [-1e9, 1e9])
async def test_a_clock_that_was_set_makes_no_pardon_longer_than_a_day(hub, autojump_clock, set_by):
    store, clock = MemoryStore(), Clock()
    async with booted(hub, store, clock) as node:
        await node.fetch()
        node.delivery._court.convict(false_word(blob_of(DATA)), None)
        node.delivery.forgive(LIAR)
    clock.set_by = set_by
    async with booted(hub, store, clock) as node:
        assert await banned_on_evidence(node, PARDON_S)


@pytest.mark.parametrize("changed", [0, 5])
async def test_bytes_that_were_changed_on_a_plain_connection_are_held_against_nobody(hub, autojump_clock, changed):
    lan = Lan()
    async with cluster(hub, "a", "b", lan=lan) as [a, b]:
        await b.fetch()
        hub.sent.clear()
        lan.tapped["b"] = changed
        assert (await a.read("w.bin"))[0] == DATA
        assert not hub.bytes_sent
        assert not a.delivery.bans()
        assert not a.around.standing.strike("b", trio.current_time(), str(BLOB.id))  # the first one
