"""How long a hub's yes to a private file is believed, whose it is, and what ends it."""

from contextlib import asynccontextmanager

import pytest
import trio
from fakes.hub import MemoryHub
from fakes.neighbours import Lan
from fakes.node import Node

from p2pmodel.content import Access, Hub, Repo, RepoKind
from p2pmodel.errors import NotAuthorisedError, RepoNotFoundError, UnavailableError

REPO = Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/secret")
OPEN = Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/open")
FILES = {"one.bin": b"first", "two.bin": b"second"}
ALICE, BOB, NOBODY = Access("alice"), Access("bob"), Access()
MINUTES, DAY = 600, 86_400
NO = (RepoNotFoundError, NotAuthorisedError)


@pytest.fixture
def hub():
    made = MemoryHub()
    made.publish(FILES, repo=REPO, tokens={"alice", "bob"})
    return made


@asynccontextmanager
async def node(hub, **settings):
    async with trio.open_nursery() as nursery, Node("a", Lan(), hub, **settings).running(nursery) as made:
        yield made
        nursery.cancel_scope.cancel()


async def read(node, access, path="one.bin"):
    return (await node.read(path, repo=REPO, access=access))[0]


async def test_a_yes_is_asked_for_once_in_minutes_and_file(hub, autojump_clock):
    async with node(hub) as a:
        for _ in range(5):
            await read(a, ALICE)
        assert hub.asked["may_read"] == 1
        await read(a, ALICE, "two.bin")
        await trio.sleep(MINUTES)
        await read(a, ALICE)
        assert hub.asked["may_read"] == 3


async def test_a_yes_is_for_the_token_that_was_asked_about_and_no_other(hub, autojump_clock):
    async with node(hub, grace_s=DAY) as a:
        await read(a, ALICE)
        for other in (NOBODY, Access("mallory"), Access("alic"), Access("alice ")):
            with pytest.raises(NO):
                await read(a, other)
        assert await read(a, BOB) == FILES["one.bin"]
        hub.down = True
        for other in (NOBODY, Access("mallory")):
            with pytest.raises(UnavailableError):
                await read(a, other)
        assert await read(a, ALICE) == FILES["one.bin"]


@pytest.mark.parametrize(("grace_s", "works_s", "fails_s"), [(0, MINUTES - 2, MINUTES + 2), (DAY, DAY - 2, DAY + 2)])
async def test_while_the_hub_is_gone_a_yes_lasts_for_the_grace_that_is_set(hub, autojump_clock, grace_s, works_s, fails_s):
    async with node(hub, grace_s=grace_s) as a:
        began = trio.current_time()
        await read(a, ALICE)
        hub.down = True
        await trio.sleep_until(began + works_s)
        assert await read(a, ALICE) == FILES["one.bin"]
        await trio.sleep_until(began + fails_s)
        with pytest.raises(UnavailableError):
            await read(a, ALICE)


async def test_grace_is_for_a_hub_that_is_gone_and_not_for_one_that_says_no(hub, autojump_clock):
    async with node(hub, grace_s=DAY) as a:
        await read(a, ALICE)
        hub.tokens[REPO] = {"bob"}
        await trio.sleep(MINUTES + 1)
        with pytest.raises(NO):
            await read(a, ALICE)


async def test_a_hub_that_is_kept_busy_is_not_gone(hub, autojump_clock):
    """Else who was revoked need only ask so much that the hub wants patience of this node."""
    async with node(hub, grace_s=DAY) as a:
        began = trio.current_time()
        await read(a, ALICE)
        hub.patience_s = 60.0
        hub.tokens[REPO] = {"bob"}
        await trio.sleep_until(began + MINUTES + 298)
        assert await read(a, ALICE) == FILES["one.bin"]
        await trio.sleep_until(began + MINUTES + 302)
        with pytest.raises(UnavailableError):
            await read(a, ALICE)


@pytest.mark.parametrize("listed", [True, False])
async def test_a_no_ends_the_grace_of_every_file_that_the_token_opened(hub, autojump_clock, listed):
    """A revoked user must not get in again by the hub's next outage."""
    async with node(hub, grace_s=DAY) as a:
        if listed:
            hub.listed.add(REPO)
        await read(a, ALICE)
        await read(a, ALICE, "two.bin")
        await read(a, BOB, "two.bin")
        hub.tokens[REPO] = {"bob"}
        await trio.sleep(MINUTES + 1)
        with pytest.raises(NO):
            await read(a, ALICE)
        hub.down = True
        await trio.sleep(31)
        for path in FILES:
            with pytest.raises((*NO, UnavailableError)):
                await read(a, ALICE, path)
        assert await read(a, BOB, "two.bin") == FILES["two.bin"]


@pytest.mark.parametrize("gated", [False, True])
async def test_a_repo_that_its_owner_closes_is_closed_here_as_soon_as_the_hub_says_so(hub, autojump_clock, gated):
    """Old commits as well: whoever knows one must not be served from memory."""
    hub.publish(FILES, repo=OPEN)
    first = hub.heads[OPEN, "main"]
    async with node(hub) as a:
        for revision in ("main", first):
            assert (await a.read("one.bin", repo=OPEN, revision=revision))[0] == FILES["one.bin"]
        hub.tokens[OPEN] = {"alice"}
        if gated:
            hub.listed.add(OPEN)
        await trio.sleep(11)
        assert (await a.read("one.bin", repo=OPEN, access=ALICE))[0] == FILES["one.bin"]
        for revision in ("main", first):
            with pytest.raises(NO):
                await a.read("one.bin", repo=OPEN, revision=revision)
            with pytest.raises(NO):
                await a.read("one.bin", repo=OPEN, revision=revision, access=Access("mallory"))
        del hub.tokens[OPEN]
        await trio.sleep(31)
        assert (await a.read("one.bin", repo=OPEN))[0] == FILES["one.bin"]
        assert (await a.read("one.bin", repo=OPEN, revision=first))[0] == FILES["one.bin"]
