"""Where a hub may send us, and what goes along."""

from __future__ import annotations

import pytest

from p2pmodel.content import Access, Hub
from p2pmodel.delivery.ports import Location
from p2pmodel.errors import SourceError, UnavailableError, WrongAnswerError
from p2pmodel.limits import HUB_REDIRECTS_MAX

pytestmark = pytest.mark.scorecard("S19")

INSIDE = {
    "loopback": "http://127.0.0.1/x",
    "loopback by name": "http://localhost/x",
    "loopback v6": "http://[::1]/x",
    "loopback in v6": "http://[::ffff:127.0.0.1]/x",
    "loopback by 6to4": "http://[2002:7f00:1::]/x",
    "metadata service by NAT64": "http://[64:ff9b::a9fe:a9fe]/x",
    "LAN by Teredo": "http://[2001:0:4136:e378:8000:63bf:f5fe:fdfd]/x",
    "v6 of this link": "http://[fe80::1]/x",
    "v6 of this site": "http://[fd00::1]/x",
    "a carrier's": "http://100.64.1.1/x",
    "metadata service": "http://169.254.169.254/latest/meta-data",
    "LAN": "http://10.1.2.3/x",
    "LAN by name": "http://inside.example/x",
    "any": "http://0.0.0.0/x",
    "multicast": "http://224.0.0.251/x",
}
NO_WEB = ["file:///etc/passwd", "ftp://hub.example/x", "http://user:pw@cdn.example/x", "http://[broken", "javascript:1"]


@pytest.fixture
def world(internet):
    internet.names |= {"inside.example": ["10.9.9.9"], "localhost": ["127.0.0.1"]}
    return internet


@pytest.mark.parametrize("location", INSIDE.values(), ids=INSIDE)
async def test_a_hub_of_the_internet_cannot_send_us_inside(location, world, hub, put, big, sink, router):
    file = put(big)
    hub.fault("resolve|api", location=location)
    async with router() as opened:
        with pytest.raises(WrongAnswerError):
            await opened.source([file.location]).fetch(file.order(), sink)
        with pytest.raises(UnavailableError):
            await opened.snapshot(file.repo, "main", Access())
    assert set(world.dialled) == {"151.101.2.1"}


async def test_a_name_with_one_address_inside_is_refused(world, hub, put, big, sink, router):
    file = put(big)
    world.names["cdn.example"] = ["151.101.2.2", "192.168.1.1"]
    async with router() as opened:
        with pytest.raises(WrongAnswerError):
            await opened.source([file.location]).fetch(file.order(), sink)
    assert set(world.dialled) == {"151.101.2.1"}


async def test_the_address_that_was_judged_is_the_one_that_is_dialled(world, hub, put, big, sink, router):
    """A name that answers otherwise the second time (DNS rebinding) has no second time."""
    file = put(big)
    asked = []

    class Rebinding(list):
        def __iter__(self):
            asked.append(1)
            return iter(["151.101.2.2"] if len(asked) == 1 else ["10.0.0.1"])

    world.names["cdn.example"] = Rebinding(["151.101.2.2"])
    async with router() as opened:
        await opened.source([file.location]).fetch(file.order(), sink)
    assert set(world.dialled) == {"151.101.2.1", "151.101.2.2"}


async def test_a_hub_on_the_lan_may_have_its_storage_there(world, hub, put, big, sink, router, make_upstream):
    file = put(big)
    world.add("inside.example", "10.9.9.9", hub.server.handle)
    world.add("cdn.example", "10.9.9.8", hub.cdn_server.handle)
    async with router(make_upstream(endpoint="http://inside.example")) as opened:
        await opened.source([file.location]).fetch(file.order(), sink)
    assert sink.body == big


@pytest.mark.parametrize("location", NO_WEB)
async def test_a_redirect_to_no_web_address_is_refused(location, hub, put, big, sink, router):
    file = put(big)
    hub.fault("resolve", location=location)
    async with router() as opened:
        with pytest.raises(SourceError):
            await opened.source([file.location]).fetch(file.order(), sink)
    assert hub.stats()["requests_total"] <= 2


async def test_redirects_end_after_five(hub, put, big, sink, router):
    file = put(big)
    hub.fault("", host="hub", location="/somewhere/else")
    async with router() as opened:
        with pytest.raises(WrongAnswerError, match="more than"):
            await opened.source([file.location]).fetch(file.order(), sink)
    assert hub.stats()["requests_total"] == HUB_REDIRECTS_MAX + 1


@pytest.mark.parametrize("on", [Hub.HUGGINGFACE, Hub.MODELSCOPE])
async def test_a_token_never_reaches_a_second_host(on, internet, hub, put, big, sink, router):
    hub.add_user("hf_canary", "alice")
    file = put(big, hub=on, private=True, token="hf_canary")
    async with router() as opened:
        await opened.source([file.location]).fetch(file.order(), sink)
        snapshot = await opened.snapshot(file.repo, "main", Access("hf_canary"))
        assert await opened.may_read(file.location)
    assert snapshot.commit == file.commit
    assert hub.stats()["tokens_by_host"] == {"hub": hub.stats()["tokens_by_host"]["hub"], "cdn": 0}
    assert hub.stats()["auth_leaks"] == 0


async def test_another_port_of_the_same_host_is_another_origin(internet, hub, put, big, sink, router):
    hub.add_user("hf_canary", "alice")
    file = put(big, private=True, token="hf_canary")
    hub.storage.base_url = "http://hub.example:8080"
    internet.add("hub.example", "151.101.2.1", hub.cdn_server.handle, port=8080)
    async with router() as opened:
        await opened.source([file.location]).fetch(file.order(), sink)
    assert sink.body == big
    assert hub.stats()["auth_leaks"] == 0


async def test_a_mirror_is_not_shown_the_clients_token(hub, put, big, router, make_upstream):
    hub.add_user("hf_canary", "alice")
    file = put(big, private=True)
    async with router(make_upstream("mirror", trusted=False)) as opened:
        with pytest.raises(Exception, match="does not know"):
            await opened.snapshot(file.repo, "main", Access("hf_canary"))
        assert not await opened.may_read(Location(file.repo, file.commit, "model.safetensors", Access("hf_canary")))
    assert hub.stats()["tokens_by_host"]["hub"] == 0


async def test_a_renamed_repo_is_followed_with_its_query(hub, put, big, sink, router):
    file = put(big)
    hub.rename("org/name", "org/newer")
    async with router() as opened:
        snapshot = await opened.snapshot(file.repo, "main", Access())
        await opened.source([file.location]).fetch(file.order(), sink)
    assert snapshot.repo == file.repo
    assert snapshot.entry("model.safetensors").blob == file.blob
    assert sink.body == big
