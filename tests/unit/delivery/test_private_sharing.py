"""Private blobs among peers: who gets in, who does not, and that nobody can tell why not."""

import pytest
import trio
from fakes.hub import MemoryHub, blob_of
from fakes.neighbours import Lan
from fakes.node import Node, together
from noise import noise

from p2pmodel.content import Access, Hub, Repo, RepoKind
from p2pmodel.content.access_proof import RANGE_BYTES, RANGES, evidence_of, proof_ranges, prove, secret_name
from p2pmodel.errors import P2pmodelError
from p2pmodel.limits import CHUNK_BYTES
from p2pmodel.wire.messages import AskManifest, AskPrivate, Have, Interest, Private, Problem

KEY = b"k" * 32
REPO = Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/secret")
WEIGHTS = noise(7, 3 * CHUNK_BYTES + 99)
BLOB = blob_of(WEIGHTS)
ALICE, BOB = Access("alice"), Access("bob")
SAMPLED = RANGES * RANGE_BYTES
YES_S = 600.0  # for so long these nodes believe a hub's yes

pytestmark = pytest.mark.scorecard("S18")


@pytest.fixture
def hub():
    made = MemoryHub()
    made.publish({"w.bin": WEIGHTS}, repo=REPO, tokens={"alice", "bob"})
    return made


def cluster(hub, *names, lan=None, **policies):
    lan = lan or Lan()
    return together(*[Node(name, lan, hub, sharing=policies.get(name, "prove")) for name in names])


async def read(node, access):
    return (await node.read("w.bin", repo=REPO, access=access))[0]


def evidence(data=WEIGHTS):
    return evidence_of(data[start:stop] for start, stop in proof_ranges(blob_of(data), KEY))


def question(proof=b"", blob=BLOB):
    return AskPrivate(request=1, name=secret_name(blob.id, KEY), proof=proof)


async def timed(node, asker, asked):
    began = trio.current_time()
    (answer,) = await node.delivery.seeding.answer(asker, asked)
    return answer, trio.current_time() - began


async def whatever_it_asks(node, asker):
    """What a node of whom only the id is known gets of the blob, whose sha256 it knows."""
    seeding = node.delivery.seeding
    (manifest,) = await seeding.answer(asker, AskManifest(request=1, blob=BLOB.id.to_bytes()))
    span = await seeding.seed(asker, BLOB, 0)
    seeding.received(asker, Interest(blob=BLOB.id.to_bytes(), size=BLOB.size, on=True))
    return manifest, span


async def test_a_user_whom_the_hub_lets_in_gets_it_from_the_peer(hub, autojump_clock):
    async with cluster(hub, "a", "b") as [a, b]:
        assert await read(a, ALICE) == WEIGHTS
        hub.sent.clear()
        assert await read(b, BOB) == WEIGHTS
        assert hub.sent[BLOB.id] == SAMPLED
        assert not a.store.inventory_since(0)


async def test_nodes_that_start_together_share_the_reading(hub, autojump_clock):
    """Nobody holds anything, and yet each can judge the others: all read the same ranges."""
    hub.rate = 4 * CHUNK_BYTES
    async with cluster(hub, "a", "b", "c") as nodes:
        got = []

        async def one(node):
            got.append(await read(node, ALICE))

        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(one, node)
    assert got == [WEIGHTS] * 3
    assert hub.sent[BLOB.id] == len(WEIGHTS) + 3 * SAMPLED


@pytest.mark.parametrize("access", [Access(), Access("wrong"), Access("revoked")])
async def test_without_a_good_token_no_byte_comes(hub, autojump_clock, access):
    async with cluster(hub, "a", "b") as [a, b]:
        assert await read(a, ALICE) == WEIGHTS
        with pytest.raises(P2pmodelError):
            await read(b, access)
        assert b.store.find(BLOB.id) is None
        assert a.lan.sent.get("a", 0) == 0


async def test_a_token_revoked_after_the_gateway_s_yes_brings_nothing_from_peers(hub, autojump_clock):
    """The yes is remembered for minutes; the proof is read when it is needed."""
    async with cluster(hub, "a", "b") as [a, b]:
        assert await read(a, ALICE) == WEIGHTS
        snapshot, entry = await b.delivery.entry(REPO, "main", "w.bin", BOB)
        hub.tokens[REPO] = {"alice"}
        async with b.delivery.read(snapshot, entry, 0, entry.size, BOB) as reader:
            with pytest.raises(P2pmodelError):
                await reader.ready()
        assert a.lan.sent.get("a", 0) == 0


async def test_one_who_knows_the_hash_alone_gets_nothing_and_learns_nothing(hub, autojump_clock):
    """A gated repo lists its files' sha256 to everybody."""
    heard = []
    async with cluster(hub, "a") as [a]:
        a.lan.nodes["m"] = a.delivery.seeding  # somebody to send to
        a.around.neighbours.send = lambda _peer, message: heard.append(message)
        nothing = await whatever_it_asks(a, "m")
        assert await read(a, ALICE) == WEIGHTS
        assert await whatever_it_asks(a, "m") == nothing
        before, after = (message for message in heard if isinstance(message, Have))
        assert before == after
        assert (nothing[0].code, nothing[1], len(heard)) == ("not_held", None, 2)


async def test_every_no_is_the_same_answer_after_the_same_time(hub, autojump_clock):
    other = blob_of(b"x" * CHUNK_BYTES)
    async with cluster(hub, "a", "p", p="off") as [a, p]:
        assert await read(a, ALICE) == WEIGHTS
        assert await read(p, ALICE) == WEIGHTS
        right = prove(evidence(), BLOB.id, prover="m", verifier="a")
        asked = [
            (a, "m", question(blob=other, proof=right)),  # not here
            (a, "m", question()),  # no proof
            (a, "m", question(bytes(32))),  # a wrong one
            (a, "m", question(prove(evidence(), BLOB.id, prover="b", verifier="a"))),  # another's, passed on
            (a, "m", question(prove(evidence(), BLOB.id, prover="m", verifier="b"))),  # made for another
            (a, "m", question(prove(evidence(), BLOB.id, prover="a", verifier="m"))),  # its own, sent back
            (a, "m", question(prove(evidence(WEIGHTS[::-1]), BLOB.id, prover="m", verifier="a"))),  # of other bytes
            (p, "m", question(prove(evidence(), BLOB.id, prover="m", verifier="p"))),  # sharing is off
        ]
        told = [await timed(*each) for each in asked]
        assert {answer for answer, _ in told} == {Problem(request=1, code="not_held")}
        assert await a.delivery.seeding.seed("m", BLOB, 0) is None
        let_in, took = await timed(a, "m", question(right))
        assert let_in == Private(request=1, proof=prove(evidence(), BLOB.id, prover="a", verifier="m"))
        assert [round(seconds, 6) for _, seconds in told] == [round(took, 6)] * 8
        span = await a.delivery.seeding.seed("m", BLOB, 0)
        with span:
            assert span.private
        assert await a.delivery.seeding.seed("n", BLOB, 0) is None


async def test_any_number_of_questions_costs_one_look_at_the_store_a_second(hub, autojump_clock, monkeypatch):
    async with cluster(hub, "a") as [a]:
        assert await read(a, ALICE) == WEIGHTS
        looks, blobs = [], a.store.blobs
        monkeypatch.setattr(a.store, "blobs", lambda: looks.append(trio.current_time()) or blobs())
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(500):
                nursery.start_soon(timed, a, f"m{number}", question(bytes(32)))
                await trio.sleep(0.01)
        assert 1 <= len(looks) <= trio.current_time() - began + 1


async def test_a_private_blob_is_found_as_soon_as_it_is_here_and_no_longer_than_it_is_private(hub, autojump_clock):
    right = prove(evidence(), BLOB.id, prover="m", verifier="a")
    async with cluster(hub, "a") as [a]:
        assert (await timed(a, "m", question(right)))[0].code == "not_held"
        assert await read(a, ALICE) == WEIGHTS
        assert isinstance((await timed(a, "m", question(right)))[0], Private)
        stored = a.store.open(BLOB, private=True)
        stored.publish()
        stored.close()
        assert (await timed(a, "m", question(right)))[0].code == "not_held"


async def test_under_a_new_key_a_blob_is_found_by_its_new_name_at_once(hub, autojump_clock):
    async with cluster(hub, "a") as [a]:
        assert await read(a, ALICE) == WEIGHTS
        await timed(a, "m", question())
        rotated(a, knows=[NEW_TAG], links={})
        ranges = proof_ranges(BLOB, NEW_KEY)
        shown = prove(evidence_of(WEIGHTS[start:stop] for start, stop in ranges), BLOB.id, prover="m", verifier="a")
        asked = AskPrivate(request=1, name=secret_name(BLOB.id, NEW_KEY), proof=shown)
        assert isinstance((await timed(a, "m", asked))[0], Private)


async def test_entry_lasts_half_as_long_as_a_yes_is_believed_for_what_was_shown_may_be_half_as_old(hub, autojump_clock):
    async with cluster(hub, "a") as [a]:
        assert await read(a, ALICE) == WEIGHTS
        await timed(a, "m", question(prove(evidence(), BLOB.id, prover="m", verifier="a")))
        await trio.sleep(YES_S / 2 - 1)
        with await a.delivery.seeding.seed("m", BLOB, 0):
            pass
        await trio.sleep(2)
        assert await a.delivery.seeding.seed("m", BLOB, 0) is None


@pytest.mark.parametrize("policy", ["prove", "members"])
async def test_a_token_revoked_in_the_middle_of_a_transfer_between_peers_ends_it(hub, autojump_clock, policy):
    lan = Lan(rate=15_000)  # the whole takes a quarter of an hour
    async with cluster(hub, "a", "b", lan=lan, a=policy, b=policy) as [a, b]:
        assert await read(a, ALICE) == WEIGHTS
        began = trio.current_time()
        ended = []

        async def transfer():
            with pytest.raises(P2pmodelError):
                await read(b, BOB)
            ended.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(transfer)
            await trio.sleep(60)
            hub.tokens[REPO] = {"alice"}
        assert 60 < ended[0] - began < YES_S / 2 + 20
        sent = lan.sent["a"]
        assert 0 < sent < len(WEIGHTS)
        with pytest.raises(P2pmodelError):
            await read(b, BOB)  # the gateway's own yes is still believed
        assert lan.sent["a"] == sent


async def test_of_two_users_of_one_transfer_the_other_one_goes_on(hub, autojump_clock):
    async with cluster(hub, "a", "b", lan=Lan(rate=15_000)) as [a, b]:
        assert await read(a, ALICE) == WEIGHTS
        async with trio.open_nursery() as nursery:
            got = []
            for access in (ALICE, BOB):
                nursery.start_soon(lambda access=access: _into(got, read(b, access)))
            await trio.sleep(60)
            hub.tokens[REPO] = {"alice"}
        assert got == [WEIGHTS, WEIGHTS]


async def _into(got, reading):
    got.append(await reading)


async def test_with_the_hub_gone_a_transfer_by_proof_ends_when_the_last_yes_is_too_old(hub, autojump_clock):
    lan = Lan(rate=15_000)
    async with cluster(hub, "a", "b", lan=lan) as [a, b]:
        assert await read(a, ALICE) == WEIGHTS
        began = trio.current_time()
        async with trio.open_nursery() as nursery:

            async def transfer():
                with pytest.raises(P2pmodelError):
                    await read(b, BOB)

            nursery.start_soon(transfer)
            await trio.sleep(60)
            hub.down = True
        assert YES_S / 2 < trio.current_time() - began < YES_S + CHUNK_BYTES / lan.rate + 20


async def test_one_who_lies_that_it_holds_the_blob_does_not_learn_its_name(hub, autojump_clock):
    async with cluster(hub, "a", "b") as [a, b]:
        said = []
        seeding = a.delivery.seeding

        class Liar:
            def __getattr__(self, name):
                return getattr(seeding, name)

            async def answer(self, _peer, asked):
                return [Private(request=1, proof=bytes(32))] if isinstance(asked, AskPrivate) else []

            def received(self, _peer, message):
                said.append(message)

        b.lan.nodes["a"] = Liar()
        assert await read(b, BOB) == WEIGHTS
        assert said == []


async def test_members_may_be_trusted_without_a_proof(hub, autojump_clock):
    async with cluster(hub, "a", "b", a="members", b="members") as [a, b]:
        assert await read(a, ALICE) == WEIGHTS
        hub.sent.clear()
        assert await read(b, BOB) == WEIGHTS
        assert hub.sent[BLOB.id] == 0
        with pytest.raises(P2pmodelError):
            await read(b, Access("wrong"))


async def test_where_no_yes_is_believed_for_any_time_the_hub_gives_it_and_no_proof_is_read(hub, autojump_clock):
    async with cluster(hub, "a", "b") as [a, b]:
        assert await read(a, ALICE) == WEIGHTS
        b.delivery.downloads._sharing._half_s = 0.0  # access.cache = "0s"
        hub.sent.clear()
        assert await read(b, BOB) == WEIGHTS
        assert hub.sent[BLOB.id] == len(WEIGHTS)


async def test_a_long_fetch_renews_its_entry(hub, autojump_clock):
    """It takes longer than a proof is believed."""
    async with cluster(hub, "a", "b", lan=Lan(rate=15_000)) as [a, b]:
        assert await read(a, ALICE) == WEIGHTS
        asked, began, hub.rate = hub.asked["range"], trio.current_time(), 100.0
        hub.sent.clear()
        assert await read(b, BOB) == WEIGHTS
        assert trio.current_time() - began > 600
        assert hub.asked["range"] - asked > RANGES
        assert hub.sent[BLOB.id] < len(WEIGHTS) / 10


async def test_two_nodes_of_which_one_trusts_members_and_one_wants_proof(hub, autojump_clock):
    async with cluster(hub, "a", "b", a="prove", b="members") as [a, b]:
        assert await read(a, ALICE) == WEIGHTS
        assert await read(b, BOB) == WEIGHTS
        assert a.lan.sent.get("a", 0) == 0


# While the cluster changes its key

NEW_KEY = b"n" * 32
OLD_TAG, NEW_TAG = b"old.....", b"new....."


def rotated(node, *, knows, links):
    """What a node knows of the cluster's keys, and under which of them its links stand."""
    keys = {tag: key for tag, key in {NEW_TAG: NEW_KEY, OLD_TAG: KEY}.items() if tag in knows}
    object.__setattr__(node.around.sharing, "accepted_keys", lambda: keys)
    node.around.neighbours.cluster = lambda peer: links[peer]


@pytest.mark.parametrize("asker_is_new", [True, False])
async def test_a_node_with_the_new_key_and_one_without_share_while_both_count(hub, autojump_clock, asker_is_new):
    async with cluster(hub, "a", "b") as [a, b]:
        new, old = (b, a) if asker_is_new else (a, b)
        rotated(new, knows=[NEW_TAG, OLD_TAG], links={old.name: OLD_TAG})
        rotated(old, knows=[OLD_TAG], links={new.name: OLD_TAG})
        assert await read(a, ALICE) == WEIGHTS
        hub.sent.clear()
        assert await read(b, BOB) == WEIGHTS
        assert hub.sent[BLOB.id] == SAMPLED


async def test_where_links_stand_under_both_keys_each_gets_its_own_proof(hub, autojump_clock):
    async with cluster(hub, "a", "b", "c") as [a, b, c]:
        rotated(a, knows=[OLD_TAG], links={"b": OLD_TAG, "c": OLD_TAG})
        rotated(b, knows=[NEW_TAG], links={"a": OLD_TAG, "c": NEW_TAG})
        rotated(c, knows=[NEW_TAG, OLD_TAG], links={"a": OLD_TAG, "b": NEW_TAG})
        for node in (a, b):
            assert await read(node, ALICE) == WEIGHTS
        hub.sent.clear()
        assert await read(c, BOB) == WEIGHTS
        assert hub.sent[BLOB.id] == 2 * SAMPLED
        assert min(c.lan.sent[node] for node in "ab") > 0


@pytest.mark.parametrize("disk_s", [0.0, 0.2])
async def test_a_slow_disk_does_not_tell_a_known_blob_from_an_unknown_one(hub, autojump_clock, disk_s):
    async with cluster(hub, "a") as [a]:
        assert await read(a, ALICE) == WEIGHTS
        await trio.sleep(60)  # nothing is open any more
        blocking = a.around.blocking

        async def slowly(function, *args):
            await trio.sleep(disk_s)
            return await blocking(function, *args)

        object.__setattr__(a.around, "blocking", slowly)
        took = set()
        for blob in (BLOB, blob_of(b"never heard of")):
            took.add(round((await timed(a, "b", question(bytes(32), blob)))[1], 6))
        assert len(took) == 1
