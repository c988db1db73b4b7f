"""What members of a closed cluster tell of a repo while the hub does not: how far it is believed, and for how long."""

from contextlib import asynccontextmanager

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fakes.hub import NOBODY, REPO, MemoryHub, blob_of
from fakes.neighbours import Lan
from fakes.node import cluster
from noise import noise

from p2pmodel.content import Access, FileEntry, Hub, Repo, RepoKind, Snapshot
from p2pmodel.delivery.listings import listing_pages, sign_listing
from p2pmodel.errors import UnavailableError
from p2pmodel.limits import REVISION_FRESH_S
from p2pmodel.swarm import Why
from p2pmodel.wire.messages import AskSnapshot, Problem

TRUE = noise(0, 70_000)
FALSE = noise(1, 70_000)
KEY = Ed25519PrivateKey.generate()


@pytest.fixture
def hub():
    made = MemoryHub()
    made.publish({"w.bin": TRUE})
    return made


class Liar:
    """A member that holds FALSE, and says that it is what the hub's commit has."""

    def __init__(self, events, commit):
        self._events = events
        self._listing = Snapshot(REPO, commit, (FileEntry("w.bin", len(FALSE), blob_of(FALSE)),), b"[]", public=True)

    def __getattr__(self, name):
        return getattr(self._events, name)

    async def answer(self, peer, question):
        if not isinstance(question, AskSnapshot):
            return await self._events.answer(peer, question)
        return listing_pages(1, sign_listing(self._listing, question.revision, KEY))


@asynccontextmanager
async def members(hub, *names, lan=None):
    """Of a closed cluster; those called "liar…" lie."""
    lan = lan or Lan()
    async with cluster(hub, *names, lan=lan, closed=True) as nodes:
        for name, liar in zip(names, nodes, strict=True):
            if name.startswith("liar"):
                hub.publish({"w.bin": FALSE}, repo=OTHER)
                await liar.fetch(OTHER)
                lan.nodes[name] = Liar(lan.nodes[name], hub.heads[REPO, "main"])
        yield nodes


OTHER = Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/other")


@pytest.mark.parametrize("revision", ["main", "commit"])
async def test_hearsay_serves_until_the_hub_is_back_and_is_then_asked_once(hub, autojump_clock, revision):
    revision = hub.heads[REPO, "main"] if revision == "commit" else revision
    async with members(hub, "a", "b") as [a, b]:
        await a.fetch()
        hub.down = True
        assert (await b.read("w.bin", revision=revision))[0] == TRUE
        hub.down = False
        hub.asked.clear()
        await trio.sleep(REVISION_FRESH_S)
        for _ in range(3):
            assert (await b.read("w.bin", revision=revision))[0] == TRUE
    assert hub.asked == {"snapshot": 1}
    assert hub.sent[blob_of(TRUE).id] == len(TRUE)


async def test_a_hub_that_asks_for_patience_is_spared_by_members(hub, autojump_clock):
    async with members(hub, "a", "b") as [a, b]:
        await a.fetch()
        hub.patience_s = 60.0
        assert (await b.read("w.bin"))[0] == TRUE


async def test_with_the_hub_there_a_member_that_lies_does_nothing(hub, autojump_clock):
    async with members(hub, "liar", "b") as [_, b]:
        assert (await b.read("w.bin"))[0] == TRUE


async def test_a_lie_lasts_until_the_hub_is_back_and_costs_the_liar_its_standing(hub, autojump_clock):
    """DESIGN §9.3 lets a member's listing serve while the hub is gone: this is what that can cost."""
    async with members(hub, "liar", "b") as [_, b]:
        hub.down = True
        assert (await b.read("w.bin"))[0] == FALSE
        hub.down = False
        await trio.sleep(REVISION_FRESH_S)
        assert (await b.read("w.bin"))[0] == TRUE
        assert b.around.standing.is_banned("liar", trio.current_time())
        assert b.store.snapshot(REPO, hub.heads[REPO, "main"]).entry("w.bin").blob == blob_of(TRUE)
        hub.down = True
        assert (await b.read("w.bin"))[0] == TRUE


async def test_a_liar_that_was_found_out_is_not_asked_again(hub, autojump_clock):
    async with members(hub, "liar", "b") as [_, b]:
        b.around.standing.suspend("liar", Why.FALSE_LISTING, trio.current_time())
        hub.down = True
        with pytest.raises(UnavailableError):
            await b.read("w.bin")


async def test_members_that_contradict_each_other_are_both_not_believed(hub, autojump_clock):
    async with members(hub, "liar", "a", "b") as [_, a, b]:
        await a.fetch()
        hub.down = True
        with pytest.raises(UnavailableError):
            await b.read("w.bin")
        assert b.store.snapshot(REPO, hub.heads[REPO, "main"]) is None


async def test_one_machine_is_one_witness_however_many_ids_it_has(hub, autojump_clock):
    """Else it would be all of those that are asked."""
    lan, liars = Lan(), [f"liar{number}" for number in range(5)]
    async with members(hub, *liars, "a", "b", lan=lan) as nodes:
        lan.addresses = {name: f"10.0.0.9:{7277 + number}" for number, name in enumerate(liars)}
        await nodes[-2].fetch()
        hub.down = True
        with pytest.raises(UnavailableError):
            await nodes[-1].read("w.bin")


async def test_a_branch_leads_where_most_members_say(hub, autojump_clock):
    async with members(hub, "old", "x", "y", "b") as [old, x, y, b]:
        await old.fetch()
        latest = hub.publish({"w.bin": FALSE})
        for node in (x, y):
            await node.fetch()
        hub.down = True
        assert (await b.delivery.snapshot(REPO, "main", NOBODY)).commit == latest.commit


async def test_hearsay_is_not_handed_on(hub, autojump_clock):
    async with members(hub, "a", "b") as [a, b]:
        await a.fetch()
        hub.down = True
        await b.fetch()
        question = AskSnapshot(request=1, hub=REPO.hub, kind=REPO.kind, name=REPO.name, revision="main")
        [answer] = await b.delivery.seeding.answer("a", question)
        assert isinstance(answer, Problem), "b would sign what only a has seen"
        hub.down = False
        await trio.sleep(REVISION_FRESH_S)
        await b.fetch()
        assert not isinstance((await b.delivery.seeding.answer("a", question))[0], Problem)


async def test_hearsay_does_not_make_public_what_is_private_here(hub, autojump_clock):
    """A listing has only to name a blob."""
    private = Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/private")
    hub.publish({"w.bin": FALSE}, repo=private, tokens={"good"})
    async with members(hub, "liar", "b") as [_, b]:
        await b.read("w.bin", repo=private, access=Access("good"))
        hub.down = True
        for _ in range(2):
            with pytest.raises(UnavailableError):
                await b.read("w.bin")
        assert b.store.find(blob_of(FALSE).id).private


async def test_members_that_do_not_answer_are_not_waited_for(hub, autojump_clock):
    lan = Lan()
    async with members(hub, "a", "b", "c", lan=lan) as [_, b, c]:
        await b.fetch()
        lan.nodes["a"] = Sleeper()
        hub.down = True
        began = trio.current_time()
        assert (await c.delivery.snapshot(REPO, "main", NOBODY)).public
        assert trio.current_time() - began < 5


class Sleeper:
    async def answer(self, peer, question):
        await trio.sleep_forever()

    def __getattr__(self, name):
        return lambda *_: None


async def test_branches_and_tags_are_asked_once_in_a_while_and_told_when_the_hub_is_gone(hub, autojump_clock):
    async with members(hub, "a") as [a]:
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(a.delivery.revisions, REPO, NOBODY)
        first = await a.delivery.revisions(REPO, NOBODY)
        assert hub.asked == {"revisions": 1}
        await trio.sleep(REVISION_FRESH_S)
        hub.down = True
        assert await a.delivery.revisions(REPO, NOBODY) == first


async def test_branches_and_tags_that_took_a_token_are_not_told_to_others(hub, autojump_clock):
    private = Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/private")
    hub.publish({"w.bin": TRUE}, repo=private, tokens={"good"})
    async with members(hub, "a") as [a]:
        for _ in range(2):
            assert await a.delivery.revisions(private, Access("good"))
        assert hub.asked == {"revisions": 2}
        hub.down = True
        with pytest.raises(UnavailableError):
            await a.delivery.revisions(private, Access("good"))
