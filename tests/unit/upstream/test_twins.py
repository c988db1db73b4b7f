"""Hubs and mirrors that stand in for each other: by alias and never by name, the best first, and none that lies for long."""

from __future__ import annotations

import pytest
import trio
from noise import noise

from p2pmodel.content import Access, Grade, Hub, Repo, RepoKind
from p2pmodel.demo.hub import Hub as DemoHub
from p2pmodel.errors import P2pmodelError
from p2pmodel.limits import CHUNK_BYTES, HUB_SLOW_REST_S, REST_S, TWIN_FRESH_S
from p2pmodel.upstream.health import Health

TWIN = Repo(Hub.MODELSCOPE, RepoKind.MODEL, "other/name")


@pytest.fixture
def scope(internet):
    """ModelScope as a hub of its own; there the repo is other/name."""
    demo = DemoHub()
    demo.storage.base_url = "http://store.example"
    internet.add("scope.example", "151.101.3.1", demo.server.handle)
    internet.add("store.example", "151.101.3.2", demo.cdn_server.handle)
    return demo


@pytest.fixture
def both(router, make_upstream, hf):
    def opened(*, aliases=((hf, TWIN),), priority=0, **settings):
        scope = make_upstream("scope", Hub.MODELSCOPE, "http://scope.example", priority=priority)
        return router(make_upstream(), scope, aliases=aliases, **settings)

    return opened


async def test_the_other_hub_gives_what_the_first_cannot(autojump_clock, internet, hub, scope, put, big, sink, both):
    file = put(big, token="hf_secret", private=True)
    scope.add_repo("model", TWIN.name, {"elsewhere.bin": big})
    internet.remove("151.101.2.1")
    async with both() as opened:
        await opened.source([file.location]).fetch(file.order(), sink)
    assert sink.body == big
    assert sink.upstreams == ["scope"]
    assert scope.stats()["tokens_by_host"].get("hub", 0) == 0  # a client's token is for its own hub


async def test_a_hub_that_breaks_off_is_replaced_in_the_middle(autojump_clock, hub, scope, put, big, sink, both):
    file = put(big)
    scope.add_repo("model", TWIN.name, {"model.safetensors": big})
    hub.fault("blobs", reset_at=CHUNK_BYTES + 10)
    async with both() as opened:
        await opened.source([file.location]).fetch(file.order(), sink)
    assert sink.body == big
    assert scope.stats()["file_bytes"] <= 2 * CHUNK_BYTES + 12_345 + 1  # and one to see that its files are for everybody


async def test_a_hub_that_dawdles_is_replaced_and_comes_last_for_a_while(autojump_clock, hub, scope, put, big, sink, both):
    file = put(big)
    scope.add_repo("model", TWIN.name, {"model.safetensors": big})
    hub.fault("blobs", rate=20_000.0)
    async with both() as opened:
        with trio.fail_after(60):
            await opened.source([file.location]).fetch(file.order(), sink)
        assert sink.body == big
        scope.reset()
        await opened.source([file.location]).fetch(file.order(0, 1), sink.__class__())
        assert scope.stats()["file_bytes"] == CHUNK_BYTES
        await trio.sleep(HUB_SLOW_REST_S)
        scope.reset()
        hub.faults.clear()
        await opened.source([file.location]).fetch(file.order(0, 1), sink.__class__())
        assert scope.stats()["file_bytes"] == 0


async def test_on_a_thin_line_nobody_is_left_for_one_who_is_as_slow(autojump_clock, hub, scope, put, sink, both):
    """Each change costs the chunk under way: eight reads that change every minute would come to nothing."""
    body = noise(1, 2_000_000)
    file = put(body)
    scope.add_repo("model", TWIN.name, {"model.safetensors": body})
    for one in (hub, scope):
        one.fault("blobs", rate=20_000.0)
    async with both() as opened:
        for _ in range(3):
            await opened.source([file.location]).fetch(file.order(), sink.__class__())
    reads = [one.stats()["requests"].get("GET cdn blob", 0) for one in (hub, scope)]
    assert sum(reads) == 4  # one change, to find out


async def test_a_slow_hub_without_a_twin_is_read_to_the_end(autojump_clock, hub, put, sink, router):
    body = noise(1, 2_000_000)
    file = put(body)
    hub.fault("blobs", rate=20_000.0)
    async with router() as opened:
        await opened.source([file.location]).fetch(file.order(), sink)
    assert sink.body == body
    assert hub.stats()["requests"]["GET cdn blob"] == 1


@pytest.mark.parametrize("aliases", [(), ((Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/else"), TWIN),)])
async def test_without_an_alias_the_other_hub_is_never_asked(autojump_clock, aliases, internet, scope, put, big, sink, both):
    file = put(big)
    scope.add_repo("model", "org/name", {"model.safetensors": big})  # the same name may be anybody's
    scope.add_repo("model", TWIN.name, {"model.safetensors": big})
    internet.remove("151.101.2.1")
    async with both(aliases=aliases) as opened:
        with pytest.raises(P2pmodelError):
            await opened.source([file.location]).fetch(file.order(), sink)
    assert scope.stats()["requests_total"] == 0


async def test_under_an_alias_only_the_same_hash_counts(autojump_clock, internet, scope, put, big, sink, both):
    file = put(big)
    scope.add_repo("model", TWIN.name, {"model.safetensors": big[::-1]})
    internet.remove("151.101.2.1")
    async with both() as opened:
        with pytest.raises(P2pmodelError):
            await opened.source([file.location]).fetch(file.order(), sink)
    assert sink.chunks == {}


async def test_while_the_first_hub_is_well_the_other_is_left_alone(scope, put, big, sink, both):
    file = put(big)
    scope.add_repo("model", TWIN.name, {"model.safetensors": big})
    async with both() as opened:
        await opened.source([file.location]).fetch(file.order(), sink)
    assert scope.stats()["requests_total"] == 0


async def test_the_order_of_upstreams_decides_between_hubs_too(hub, scope, put, big, sink, both, make_upstream, router, hf):
    file = put(big)
    scope.add_repo("model", TWIN.name, {"model.safetensors": big})
    first = make_upstream("scope", Hub.MODELSCOPE, "http://scope.example", priority=1)
    async with router(make_upstream(priority=2), first, aliases=[(hf, TWIN)]) as opened:
        await opened.source([file.location]).fetch(file.order(0, 2), sink)
        await opened.source([file.location]).fetch(file.order(2), sink)
    assert sink.body == big
    assert hub.stats()["file_bytes"] == 0
    assert scope.stats()["requests"]["GET ms files"] == 1  # its listing stands for a while


async def test_a_twin_that_cannot_be_listed_is_not_asked_again_at_once(autojump_clock, internet, scope, put, big, sink, both):
    file = put(big)
    internet.remove("151.101.2.1")
    async with both() as opened:
        for _ in range(3):
            with pytest.raises(P2pmodelError):
                await opened.source([file.location]).fetch(file.order(), sink)
        asked = scope.stats()["requests_total"]
        scope.add_repo("model", TWIN.name, {"model.safetensors": big})
        await trio.sleep(TWIN_FRESH_S)
        await opened.source([file.location]).fetch(file.order(), sink)
    assert asked <= 4
    assert sink.body == big


# Mirrors


@pytest.fixture
def mirror(internet, hub):
    """The hub's contents under another name, by a server of its own."""
    demo = DemoHub()
    demo.shelf, demo.huggingface._shelf, demo.cdn = hub.shelf, hub.shelf, "direct"
    internet.add("mirror.example", "151.101.4.1", demo.server.handle)
    return demo


@pytest.fixture
def mirrored(router, make_upstream):
    def opened(**settings):
        near = make_upstream("mirror", endpoint="http://mirror.example", trusted=False)
        return router(near, make_upstream(priority=1), **settings)

    return opened


async def test_a_mirror_that_lies_is_caught_by_the_hubs_word_and_rested(autojump_clock, hub, mirror, put, big, sink, mirrored):
    file = put(big)
    mirror.fault("resolve", flip_at=5)
    async with mirrored() as opened:
        source = opened.source([file.location])
        await source.fetch(file.order(0, 1), sink)
        assert (sink.upstreams, sink.grades, sink.body == big[:CHUNK_BYTES]) == (["mirror"], {Grade.MIRROR}, False)
        again = sink.__class__()
        await source.fetch(file.order(0, 1), again)  # the whole file's hash was wrong: what others gave is read again
        assert (again.upstreams, again.grades, again.body == big[:CHUNK_BYTES]) == (["hub"], {Grade.OWN}, True)
        other = sink.__class__()
        await opened.source([file.location]).fetch(file.order(1, 1), other)
        assert other.upstreams == ["hub"]
        await trio.sleep(REST_S)
        later = sink.__class__()
        await opened.source([file.location]).fetch(file.order(1, 1), later)
        assert later.upstreams == ["mirror"]


async def test_an_honest_mirror_is_not_blamed_when_a_peer_lied(hub, mirror, put, big, sink, mirrored):
    file = put(big)
    async with mirrored() as opened:
        source = opened.source([file.location])
        await source.fetch(file.order(0, 1), sink)
        await source.fetch(file.order(0, 1), sink.__class__())
        other = sink.__class__()
        await opened.source([file.location]).fetch(file.order(1, 1), other)
    assert other.upstreams == ["mirror"]


async def test_among_equals_the_quicker_one_is_asked(autojump_clock, hub, mirror, put, big, router, make_upstream, hf):
    file = put(big)
    hub.fault("", host="hub", delay_s=0.6)
    async with router(make_upstream(), make_upstream("mirror", endpoint="http://mirror.example")) as opened:
        await opened.snapshot(hf, "main", Access())
        mirror.reset()
        for _ in range(5):
            assert await opened.commit(hf, "main", Access()) == (file.commit, True)
        assert mirror.stats()["requests_total"] == 5


async def test_one_that_failed_comes_after_the_others_until_it_is_forgotten(
    autojump_clock, hub, mirror, put, big, router, make_upstream, hf
):
    put(big)
    mirror.fault("", status=500, times=2)
    async with router(make_upstream("mirror", endpoint="http://mirror.example"), make_upstream(priority=1)) as opened:
        for _ in range(3):
            await opened.commit(hf, "main", Access())
        assert mirror.stats()["requests_total"] == 2
        await trio.sleep(120)  # two failures weigh longer than one
        await opened.commit(hf, "main", Access())
        assert mirror.stats()["requests_total"] == 3


def test_health_forgets():
    health = Health()
    assert (health.unwell(0.0), health.latency_class(0.0)) == (False, 0)
    health.answered(1.0, now=1.0)
    health.failed(now=2.0)
    assert (health.unwell(3.0), health.latency_class(3.0)) == (True, 4)
    assert (health.unwell(40.0), health.latency_class(700.0)) == (False, 0)
    health.failed(now=800.0)
    health.answered(0.01, now=800.0)
    assert not health.unwell(800.0)  # one failure that the next answer makes good
