"""Warming on fakes: members of a closed cluster bring a snapshot in because one of them asked."""

import pytest
import trio
from fakes.hub import REPO, MemoryHub, blob_of
from fakes.neighbours import Lan
from fakes.node import cluster
from noise import noise

from p2pmodel.content import Hub, Repo, RepoKind
from p2pmodel.delivery.ports import Selection
from p2pmodel.errors import ConfigError, NotAuthorisedError, RepoNotFoundError
from p2pmodel.limits import CHUNK_BYTES, WARMS_AT_ONCE_MAX, WARMS_KEPT_MAX
from p2pmodel.wire.messages import AskWarm, Problem, WarmProgress

WEIGHTS = noise(0, 3 * CHUNK_BYTES)
FILES = {"config.json": b"{}", "w.bin": WEIGHTS}
BLOB = blob_of(WEIGHTS)
EVERYTHING = Selection()


@pytest.fixture
def hub():
    made = MemoryHub(rate=4e6)
    made.publish(FILES)
    return made


@pytest.fixture
def lan():
    return Lan()


async def warm(node, nodes="all", selection=EVERYTHING, repo=REPO, revision="main"):
    """All steps."""
    async with node.delivery.warm(repo, revision, selection, nodes) as steps:
        return [step async for step in steps]


def question(name="org/model", *, begin=True, request=1, **rest):
    return AskWarm(request=request, hub="huggingface", kind="model", name=name, revision="main", begin=begin, **rest)


async def asked(node, *args, **fields):
    [answer] = await node.delivery.seeding.answer("stranger", question(*args, **fields))
    return answer


async def test_all_nodes_have_it_in_the_end_for_one_copy_from_the_hub(hub, lan, autojump_clock):
    async with cluster(hub, "a", "b", "c", lan=lan, closed=True) as nodes:
        steps = await warm(nodes[0])
        assert all(node.bytes_of(BLOB) == WEIGHTS for node in nodes)
    last = steps[-1]
    assert last.over
    assert [(each.node, each.address, each.state) for each in last.nodes] == [
        ("here", "", "done"),
        ("b", "b.lan", "done"),
        ("c", "c.lan", "done"),
    ]
    assert {each.commit for each in last.nodes} == {last.commit}
    assert all(each.files_done == 2 and each.bytes == len(WEIGHTS) + 2 for each in last.nodes)
    assert all(each.here + each.peers + each.upstream == each.bytes for each in last.nodes)
    assert hub.sent[BLOB.id] == BLOB.size
    running = [step for step in steps if any(each.state == "running" and each.rate > 0 for each in step.nodes)]
    assert running, "they were seen at work"


@pytest.mark.parametrize(
    ("nodes", "warmed"), [("1", ["here"]), ("2", ["here", "beta"]), ("beta,gamma.lan", ["beta", "gamma"]), ("here", ["here"])]
)
async def test_nodes_may_be_counted_or_named(hub, lan, autojump_clock, nodes, warmed):
    async with cluster(hub, "alpha", "beta", "gamma", lan=lan, closed=True) as [alpha, *_]:
        steps = await warm(alpha, nodes)
    assert [each.node for each in steps[-1].nodes] == warmed


@pytest.mark.parametrize("nodes", ["0", "4", "delta", "", "bet,delta", "g"])
async def test_nodes_that_are_not_there_are_named(hub, lan, autojump_clock, nodes):
    async with cluster(hub, "alpha", "beta", "gamma", lan=lan, closed=True) as [alpha, *_]:
        with pytest.raises(ConfigError):
            await warm(alpha, nodes)
    assert hub.sent == {}


async def test_only_files_that_were_asked_for_come(hub, lan, autojump_clock):
    async with cluster(hub, "a", "b", lan=lan, closed=True) as [a, b]:
        steps = await warm(a, selection=Selection(include=("*.json",)))
        assert b.bytes_of(blob_of(b"{}")) == b"{}"
        assert b.store.find(BLOB.id) is None
    assert [each.files for each in steps[-1].nodes] == [1, 1]


async def test_in_an_open_cluster_nobody_asks_and_nobody_answers(hub, lan, autojump_clock):
    async with cluster(hub, "a", "b", lan=lan) as [a, b]:
        with pytest.raises(ConfigError, match="closed cluster"):
            await warm(a)
        answer = await asked(b)
        assert isinstance(answer, Problem)
        assert answer.code == "refused"
        assert [each.state for each in (await warm(a, "here"))[-1].nodes] == ["done"]
        assert b.store.find(BLOB.id) is None


async def test_private_repos_are_not_warmed_by_anybody(hub, lan, autojump_clock):
    private = Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/private")
    hub.publish(FILES, repo=private, tokens={"good"})
    async with cluster(hub, "a", "b", lan=lan, closed=True) as [a, b]:
        with pytest.raises((RepoNotFoundError, NotAuthorisedError)):
            await warm(a, repo=private)
        await asked(b, "org/private")
        await trio.sleep(5)
        answer = await asked(b, "org/private", begin=False)
        assert answer.state == "failed"
        assert answer.text
    assert hub.sent == {}


async def test_a_peer_goes_on_when_the_asker_is_gone(hub, lan, autojump_clock):
    async with cluster(hub, "a", "b", lan=lan, closed=True) as [a, b]:
        with trio.move_on_after(1.5):
            await warm(a)
        lan.drop("a")
        assert b.bytes_of(BLOB) is None
        await trio.sleep(30)
        assert b.bytes_of(BLOB) == WEIGHTS


async def test_a_peer_that_falls_silent_is_told_as_lost_and_holds_up_nobody(hub, lan, autojump_clock):
    async with (
        cluster(hub, "a", "b", "c", lan=lan, closed=True) as [a, *_],
        a.delivery.warm(REPO, "main", EVERYTHING, "all") as steps,
    ):
        await anext(steps)
        lan.mute.add("b")
        last = [step async for step in steps][-1]
    assert [each.state for each in last.nodes] == ["done", "lost", "done"]


async def test_a_peer_without_the_ability_is_not_asked(hub, lan, autojump_clock):
    lan.unable["b"] = {"warm"}
    async with cluster(hub, "a", "b", lan=lan, closed=True) as [a, b]:
        last = (await warm(a))[-1]
        assert [each.state for each in last.nodes] == ["done", "failed"]
        assert "cannot be asked" in last.nodes[1].text
        assert b.store.find(BLOB.id) is None


async def test_a_peer_whose_hub_is_gone_says_so(hub, lan, autojump_clock):
    async with cluster(hub, "a", "b", lan=lan, closed=True) as [a, b]:
        b.upstreams.cut = True
        lan.mute.add("a")  # it cannot ask us for the listing either
        last = (await warm(a))[-1]
    assert [each.state for each in last.nodes] == ["done", "failed"]
    assert "hub" in last.nodes[1].text


# What a node answers


async def test_asking_again_joins_the_work_that_is_under_way(hub, lan, autojump_clock):
    async with cluster(hub, "a", lan=lan, closed=True) as [a]:
        first = await asked(a)
        await trio.sleep(1)
        again = await asked(a, request=7)
        assert isinstance(first, WarmProgress)
        assert (again.request, again.state, again.bytes) == (7, "running", len(WEIGHTS) + 2)
        await trio.sleep(30)
        assert (await asked(a, begin=False)).state == "done"
    assert hub.asked["snapshot"] == 1


async def test_work_that_was_never_begun_is_not_held(hub, lan, autojump_clock):
    async with cluster(hub, "a", lan=lan, closed=True) as [a]:
        assert (await asked(a, begin=False)).code == "not_held"


async def test_what_failed_is_tried_again_when_asked_to(hub, lan, autojump_clock):
    async with cluster(hub, "a", lan=lan, closed=True) as [a]:
        hub.down = True
        await asked(a)
        await trio.sleep(10)
        assert (await asked(a, begin=False)).state == "failed"
        hub.down = False
        assert (await asked(a)).state == "running"
        await trio.sleep(30)
        assert a.bytes_of(BLOB) == WEIGHTS


async def test_there_is_a_bound_to_what_members_may_ask_for(hub, lan, autojump_clock):
    async with cluster(hub, "a", lan=lan, closed=True) as [a]:
        hub.stalled = True
        for number in range(WARMS_AT_ONCE_MAX):
            assert (await asked(a, exclude=[f"{number}"])).state == "running"
        assert (await asked(a, exclude=["one more"])).code == "busy"
        assert (await asked(a, exclude=["0"])).state == "running"


async def test_what_has_ended_is_remembered_for_a_while_only(hub, lan, autojump_clock):
    async with cluster(hub, "a", lan=lan, closed=True) as [a]:
        hub.down = True
        for number in range(WARMS_KEPT_MAX + 10):
            await asked(a, f"org/model{number}")
            await trio.sleep(10)
        assert (await asked(a, "org/model0", begin=False)).code == "not_held"
        assert (await asked(a, f"org/model{WARMS_KEPT_MAX}", begin=False)).state == "failed"


async def test_a_hub_that_is_not_known_is_a_bad_request(hub, lan, autojump_clock):
    async with cluster(hub, "a", lan=lan, closed=True) as [a]:
        [answer] = await a.delivery.seeding.answer(
            "b", AskWarm(request=1, hub="elsewhere", kind="model", name="org/model", revision="main", begin=True)
        )
        assert answer.code == "bad_request"
