"""Many clients that want the same in the same moment: the hub is asked once, and each gets only what it may have."""

import pytest
import trio
from fakes.hub import NOBODY, REPO, MemoryHub
from fakes.neighbours import Lan
from fakes.node import Node

from p2pmodel.content import Access, Hub, Repo, RepoKind
from p2pmodel.errors import NotAuthorisedError, NotFoundError

DATA = b"weights"
PRIVATE = Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/private")


@pytest.fixture
def hub():
    made = MemoryHub()
    made.publish({"w.bin": DATA})
    made.publish({"w.bin": DATA}, repo=PRIVATE, tokens={"alice", "bob"})
    return made


@pytest.fixture
async def node(hub, autojump_clock, nursery):
    async with Node("a", Lan(), hub).running(nursery) as node:
        yield node


async def all_at_once(ask, *clients):
    """Who got what: an answer, or the error's kind."""
    got = {}

    async def one(number, client):
        try:
            got[number] = await ask(client)
        except (NotFoundError, NotAuthorisedError) as error:
            got[number] = type(error)

    async with trio.open_nursery() as nursery:
        for number, client in enumerate(clients):
            nursery.start_soon(one, number, client)
    return [got[number] for number in range(len(clients))]


async def test_for_a_public_repo_once_whatever_credentials_they_show(hub, node):
    everybody = [Access(f"token-{number}") for number in range(50)]
    await all_at_once(lambda access: node.delivery.info(REPO, "main", access), NOBODY, *everybody)
    assert hub.asked == {"snapshot": 1, "info": 1}


async def test_for_a_private_repo_once_for_each_credential(hub, node):
    clients = [Access(name) for name in ("alice", "eve", "bob") for _ in range(20)]
    got = await all_at_once(lambda access: node.delivery.entry(PRIVATE, "main", "w.bin", access), *clients)
    refused = [client.token == "eve" for client in clients]
    assert [isinstance(each, type) for each in got] == refused
    assert hub.asked["snapshot"] <= 4, "whoever came first, and each of the three"
    assert hub.asked["may_read"] == 2


async def test_a_stranger_that_comes_first_does_not_spoil_it_for_others(hub, node):
    nobody, alice = await all_at_once(
        lambda access: node.delivery.entry(PRIVATE, "main", "w.bin", access), NOBODY, Access("alice")
    )
    assert isinstance(nobody, type)
    assert not isinstance(alice, type)


async def test_whoever_asks_leaving_does_not_leave_the_others_without_an_answer(hub, node):
    got = []
    async with trio.open_nursery() as nursery:
        leaving = trio.CancelScope()

        async def leader():
            with leaving:
                await node.delivery.snapshot(REPO, "main", NOBODY)

        async def follower():
            got.append(await node.delivery.snapshot(REPO, "main", NOBODY))

        nursery.start_soon(leader)
        await trio.sleep(0.001)
        nursery.start_soon(follower)
        await trio.sleep(0.001)
        leaving.cancel()
    assert got[0].public
