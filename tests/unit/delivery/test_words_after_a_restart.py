"""A chunk that came on a peer's word, after a kill: it is handed on with that word, and its signer answers for it."""

from dataclasses import replace

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fakes.hub import NOBODY, REPO, MemoryHub, blob_of
from fakes.neighbours import Lan
from fakes.node import Node, together
from noise import noise

from p2pmodel.content import Attestation, Circle, Grade, Level, chunk_digest
from p2pmodel.content.naming import node_id_of
from p2pmodel.delivery.ports import NOWHERE
from p2pmodel.limits import CHUNK_BYTES
from p2pmodel.store import MemoryStore
from p2pmodel.swarm import Why

DATA = noise(9, 20 * CHUNK_BYTES + 5)
BLOB = blob_of(DATA)
FALSE = bytes(CHUNK_BYTES)
KEY = Ed25519PrivateKey.from_private_bytes(b"l" * 32)
LIAR = node_id_of(KEY.public_key().public_bytes_raw())
ROTATED_OUT = Circle(b"no more!")


@pytest.fixture
def hub():
    made = MemoryHub()
    made.publish({"w.bin": DATA})
    return made


def word(data, *, index=0, circle=NOWHERE):
    return Attestation.sign(BLOB, index, chunk_digest(data), Level.WITNESS, circle=circle, key=KEY)


def left_behind(data, said):
    """The store of a node that was killed when it had one chunk of the file."""
    store = MemoryStore()
    stored = store.open(BLOB, private=False)
    stored.write(0, memoryview(data), chunk_digest(data), Grade.SINGLE, said)
    stored.commit()
    store.crash()
    return store


async def test_half_a_file_from_a_peer_that_left_is_handed_on_with_its_signature(hub, autojump_clock):
    lan = Lan(rate=5 * CHUNK_BYTES)
    store = MemoryStore()
    a, b, c = (Node(name, lan, hub, store=store if name == "b" else None) for name in "abc")
    signer = node_id_of(a.around.key.public_key().public_bytes_raw())
    async with together(a):
        await a.fetch()
        hub.rate = 1000.0
        async with together(b):
            with trio.move_on_after(2.5):
                await b.fetch()
            store.failing = {"commit"}  # a kill: what was not durable yet is gone
    store.crash()
    store.failing = set()
    again = Node("b", lan, hub, store=store)
    async with together(again, c):
        with trio.move_on_after(10):
            await c.fetch()
        stored = c.store.open(BLOB, private=False)
        here = stored.held | stored.claimed
        assert 8 <= len(here) < 20
        assert {stored.word(chunk).node for chunk in here} == {signer}
        stored.close()


async def test_who_signed_a_false_chunk_before_the_restart_is_found_out_after_it(hub, autojump_clock):
    node = Node("b", Lan(), hub, store=left_behind(FALSE, word(FALSE)))
    async with together(node):
        await node.fetch()
        assert node.bytes_of(BLOB) == DATA
        assert [(ban.source, ban.why) for ban in node.delivery.bans()] == [(LIAR, Why.FALSE_DIGEST)]


async def test_what_rests_on_the_word_of_one_that_was_convicted_since_is_fetched_again_at_once(hub, autojump_clock):
    node = Node("b", Lan(), hub, store=left_behind(FALSE, word(FALSE)))
    async with together(node):
        node.delivery._court.convict(word(DATA[:5]), None)
        await node.fetch()
        assert node.bytes_of(BLOB) == DATA
        assert node.delivery.downloads.statistics.mismatches == 0, "the hash of the whole was not tried with it"
        assert hub.bytes_sent == len(DATA)


async def test_two_words_of_one_signer_convict_it_though_one_is_an_earlier_runs(hub, autojump_clock):
    node = Node("b", Lan(), hub, store=left_behind(DATA[:CHUNK_BYTES], word(DATA[:CHUNK_BYTES])))
    hub.rate = CHUNK_BYTES
    async with together(node), trio.open_nursery() as nursery:
        nursery.start_soon(node.fetch)
        await trio.sleep(2)
        download = node.delivery.downloads.find(BLOB.id)
        node.around.standing.met(LIAR)
        download.trial.heard([word(FALSE)])
        assert [(ban.source, ban.why) for ban in node.delivery.bans()] == [(LIAR, Why.TWO_DIGESTS)]


@pytest.mark.parametrize(
    "said",
    [replace(word(FALSE), signature=bytes(64)), word(FALSE, circle=ROTATED_OUT)],
    ids=["forged", "of a key that was rotated out"],
)
async def test_a_word_that_would_not_be_heard_from_a_peer_is_not_heard_from_the_disk(hub, autojump_clock, said):
    node = Node("b", Lan(), hub, store=left_behind(FALSE, said))
    async with together(node):
        await node.fetch()
        assert node.bytes_of(BLOB) == DATA
        assert node.delivery.bans() == []


@pytest.mark.parametrize("how", ["convicted", "rotated out", "heard"])
async def test_an_idle_node_offers_only_what_it_has_a_good_word_for(hub, autojump_clock, how):
    first = DATA[:CHUNK_BYTES]
    said = word(first, circle=ROTATED_OUT if how == "rotated out" else NOWHERE)
    lan = Lan()
    giver, taker = Node("b", lan, hub, store=left_behind(first, said)), Node("c", lan, hub)
    hub.rate = CHUNK_BYTES
    async with together(giver, taker):
        if how == "convicted":
            giver.delivery._court.convict(word(FALSE, index=1), None)
        with trio.move_on_after(3):
            await taker.fetch(REPO, "main", NOBODY)
        assert bool(lan.sent.get("b")) is (how == "heard")
