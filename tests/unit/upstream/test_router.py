"""Which upstream is asked, for how long a hub is left alone, and what is refused at the start."""

from __future__ import annotations

import logging

import pytest
import trio

from p2pmodel.content import Access, Hub, Repo, RepoKind
from p2pmodel.delivery.ports import HubRequest, Location, Order
from p2pmodel.errors import ConfigError, NotFoundError, RateLimitedError, RepoNotFoundError, UnavailableError
from p2pmodel.limits import HUB_DOWN_S, HUB_HEARSAY_MAX_S


@pytest.fixture
def commit(hub):
    return hub.add_repo("model", "org/name", {"config.json": b"{}"})


async def test_offline_every_verb_says_so_at_once(internet, commit, hf, anyone, put, sink, router):
    location = Location(hf, commit, "config.json", anyone)
    blob = put.func(put.args[0], b"x", kind="dataset").blob
    async with router(offline=True) as opened:
        verbs = [
            lambda: opened.snapshot(hf, "main", anyone),
            lambda: opened.commit(hf, "main", anyone),
            lambda: opened.info(hf, "main", anyone),
            lambda: opened.may_read(location),
            lambda: opened.source([location]).fetch(Order(blob, 0, 1), sink),
            lambda: opened.pass_on(HubRequest(Hub.HUGGINGFACE, "GET", "/api/whoami-v2", (), None)),
        ]
        for verb in verbs:
            with pytest.raises(UnavailableError, match="offline"):
                await verb()
    assert internet.dialled == []


async def test_a_hub_that_nobody_configured_is_unavailable(commit, ms, anyone, router, make_upstream):
    async with router(make_upstream()) as opened:
        with pytest.raises(UnavailableError, match="No upstream for modelscope"):
            await opened.snapshot(ms, "master", anyone)


async def test_upstreams_are_asked_by_priority(internet, hub, commit, hf, anyone, router, make_upstream):
    internet.add("first.example", "151.101.9.1", hub.server.handle)
    async with router(make_upstream(priority=5), make_upstream("first", endpoint="http://first.example")) as opened:
        await opened.snapshot(hf, "main", anyone)
        assert set(opened.statistics.requests) == {("first", "200")}


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 503}, {"drop": True}, {"gzip": True}])
async def test_the_next_upstream_answers_when_one_fails(fault, internet, hub, commit, hf, anyone, router, make_upstream):
    internet.add("first.example", "151.101.9.1", hub.server.handle)
    hub.fault("/api/", times=2 if "gzip" not in fault else 1, **fault)
    async with router(make_upstream("first", endpoint="http://first.example"), make_upstream(priority=1)) as opened:
        assert (await opened.snapshot(hf, "main", anyone)).commit == commit
        assert opened.statistics.failovers == 1


async def test_a_short_hiccup_of_the_only_upstream_is_ridden_out(hub, commit, hf, anyone, router):
    hub.fault("/api/", times=1, status=502)
    async with router() as opened:
        assert await opened.commit(hf, "main", anyone) == (commit, True)


async def test_a_definite_no_is_final(internet, hub, commit, hf, anyone, router, make_upstream):
    internet.add("first.example", "151.101.9.1", hub.server.handle)
    hub.fault("/api/", times=1, status=404, headers={"X-Error-Code": "RepoNotFound"})
    async with router(make_upstream("first", endpoint="http://first.example"), make_upstream(priority=1)) as opened:
        with pytest.raises(RepoNotFoundError):
            await opened.commit(hf, "main", anyone)


@pytest.mark.parametrize("count", [1, 3])
async def test_a_hub_behind_a_black_hole_is_an_error_within_five_seconds(
    count, autojump_clock, internet, hf, anyone, router, make_upstream
):
    internet.names["hole.example"] = ["192.0.2.1", "192.0.2.2"]
    holes = [make_upstream(f"hole {number}", endpoint="http://hole.example") for number in range(count)]
    begun = trio.current_time()
    async with router(*holes) as opened:
        with pytest.raises(UnavailableError, match="cannot be reached"):
            await opened.snapshot(hf, "main", anyone)
        assert trio.current_time() - begun < 5
        begun = trio.current_time()
        with pytest.raises(UnavailableError, match="cannot be reached"):
            await opened.snapshot(hf, "main", anyone)
        assert trio.current_time() == begun  # known by now


async def test_a_second_address_is_tried_when_the_first_is_a_black_hole(autojump_clock, internet, commit, hf, anyone, router):
    internet.names["hub.example"] = ["192.0.2.1", "151.101.2.1"]
    async with router() as opened:
        assert await opened.commit(hf, "main", anyone) == (commit, True)


async def test_a_hub_that_comes_back_is_asked_again(autojump_clock, internet, hub, commit, hf, anyone, router):
    internet.remove("151.101.2.1")
    async with router() as opened:
        with pytest.raises(UnavailableError):
            await opened.commit(hf, "main", anyone)
        internet.add("hub.example", "151.101.2.1", hub.server.handle)
        await trio.sleep(HUB_DOWN_S)
        assert await opened.commit(hf, "main", anyone) == (commit, True)


async def test_a_429_rests_the_hub_and_is_told_once(autojump_clock, hub, commit, hf, ms, anyone, router):
    hub.fault("/api/", status=429, headers={"Retry-After": "30"}, times=1)
    busy = []
    async with router(on_busy=lambda *told: busy.append(told)) as opened:
        for _ in range(3):
            with pytest.raises(RateLimitedError) as caught:
                await opened.commit(hf, "main", anyone)
        assert caught.value.retry_after_s == 30
        assert opened.rested_until(Hub.HUGGINGFACE) == trio.current_time() + 30
        await trio.sleep(30)
        assert opened.rested_until(Hub.HUGGINGFACE) == 0
        assert await opened.commit(hf, "main", anyone) == (commit, True)
    assert busy == [("hub.example", 30)]


async def test_a_spent_quota_is_obeyed_before_it_is_refused(autojump_clock, hub, commit, hf, anyone, router):
    hub.fault("/api/", headers={"RateLimit": '"api";r=0;t=55', "RateLimit-Policy": '"api";q=500;w=300'}, times=1)
    busy = []
    async with router(on_busy=lambda *told: busy.append(told)) as opened:
        assert await opened.commit(hf, "main", anyone) == (commit, True)
        with pytest.raises(RateLimitedError):
            await opened.commit(hf, "main", anyone)
    assert busy == [("hub.example", 55)]
    assert hub.stats()["requests_total"] == 1


async def test_another_upstream_serves_while_one_rests(internet, hub, commit, hf, anyone, router, make_upstream):
    internet.add("first.example", "151.101.9.1", hub.server.handle)
    hub.fault("/api/", status=429, headers={"Retry-After": "30"}, times=1)
    async with router(make_upstream("first", endpoint="http://first.example"), make_upstream(priority=1)) as opened:
        for _ in range(2):
            assert await opened.commit(hf, "main", anyone) == (commit, True)
        assert opened.rested_until(Hub.HUGGINGFACE) == 0
        assert opened.statistics.requests == {("first", "429"): 1, ("hub", "200"): 2}


async def test_a_peers_word_rests_the_files_of_a_configured_hub_and_no_other(autojump_clock, put, sink, hf, anyone, router):
    """Questions are asked all the same: who chooses when the hub is not asked could answer in its place."""
    file = put(b"weights")
    busy = []
    async with router(on_busy=lambda *told: busy.append(told)) as opened:
        opened.rest("elsewhere.example", 30)
        assert opened.rested_until(Hub.HUGGINGFACE) == 0
        opened.rest("hub.example", 1e9)
        assert opened.rested_until(Hub.HUGGINGFACE) == trio.current_time() + HUB_HEARSAY_MAX_S
        with pytest.raises(RateLimitedError):
            await opened.source([file.location]).fetch(file.order(), sink)
        assert await opened.commit(hf, "main", anyone) == (file.commit, True)
        assert await opened.may_read(file.location)
    assert busy == []  # no echo


@pytest.mark.parametrize(
    "settings",
    [
        {"endpoint": "hub.example"},
        {"endpoint": "ftp://hub.example"},
        {"endpoint": "http://user:secret@hub.example"},
        {"endpoint": "http://localhost:7276"},
        {"endpoint": "http://127.0.0.1:7276/"},
        {"endpoint": "http://[::1]:7276"},
        {"endpoint": "http://0.0.0.0:7276"},
        {"endpoint": "http://127.3.2.1:7276"},
    ],
    ids=lambda settings: settings["endpoint"],
)
async def test_an_endpoint_that_cannot_be_a_hub_is_a_config_error(settings, router, make_upstream):
    with pytest.raises(ConfigError) as caught:
        async with router(make_upstream(**settings), own_ports={7276}):
            pass
    assert "secret" not in str(caught.value)


async def test_a_hub_on_this_machine_is_no_gateway_of_ours(internet, hub, commit, hf, anyone, router, make_upstream):
    internet.add("localhost", "127.0.0.1", hub.server.handle, port=8080)
    async with router(make_upstream(endpoint="http://localhost:8080"), own_ports={7276}) as opened:
        assert await opened.commit(hf, "main", anyone) == (commit, True)


async def test_two_upstreams_of_one_name_are_a_config_error(router, make_upstream):
    with pytest.raises(ConfigError, match="same name"):
        async with router(make_upstream(), make_upstream()):
            pass


async def test_an_endpoint_may_have_a_path_of_its_own(internet, hub, commit, hf, anyone, router, make_upstream):
    hub.fault("GET /mirror/hf/api", location="/api/models/org/name/revision/main", status=307)
    async with router(make_upstream(endpoint="http://hub.example/mirror/hf/")) as opened:
        assert await opened.commit(hf, "main", anyone) == (commit, True)
    assert hub.log[0].target == "/mirror/hf/api/models/org/name/revision/main"


@pytest.mark.parametrize(
    ("environment", "dialled"),
    [
        ({"http_proxy": "http://proxy.example:3128"}, "10.0.0.9"),
        ({"HTTP_PROXY": "proxy.example:3128"}, "10.0.0.9"),
        ({"ALL_PROXY": "http://proxy.example:3128", "NO_PROXY": "other.example"}, "10.0.0.9"),
        ({"HTTPS_PROXY": "http://proxy.example:3128"}, "151.101.2.1"),
        ({"http_proxy": "http://proxy.example:3128", "no_proxy": "localhost,.example"}, "151.101.2.1"),
        ({"http_proxy": "http://proxy.example:3128", "no_proxy": "*"}, "151.101.2.1"),
        ({"http_proxy": "http://proxy.example:3128", "no_proxy": "hub.example:80, hub.example"}, "151.101.2.1"),
    ],
)
async def test_proxies_come_from_the_environment(environment, dialled, internet, hub, commit, hf, anyone, router):
    internet.add("proxy.example", "10.0.0.9", hub.server.handle, port=3128)  # takes absolute targets as a proxy does
    async with router(environment=environment) as opened:
        assert await opened.commit(hf, "main", anyone) == (commit, True)
    assert set(internet.dialled) == {dialled}


async def test_through_a_proxy_too_a_hub_cannot_send_us_inside(internet, hub, put, big, sink, router):
    file = put(big)
    internet.add("proxy.example", "10.0.0.9", hub.server.handle, port=3128)
    hub.fault("resolve", location="http://169.254.169.254/latest")
    async with router(environment={"http_proxy": "http://proxy.example:3128"}) as opened:
        with pytest.raises(Exception, match="no host of the internet"):
            await opened.source([file.location]).fetch(file.order(), sink)
    assert hub.stats()["requests_total"] == 1


@pytest.mark.parametrize("proxy", ["socks5://proxy.example", "http://", "http://proxy.example:port"])
async def test_a_proxy_that_cannot_be_used_is_a_config_error(proxy, router):
    with pytest.raises(ConfigError):
        async with router(environment={"all_proxy": proxy}):
            pass


async def test_no_token_is_in_any_log_or_error(caplog, capsys, hub, hf, anyone, router, make_upstream):
    caplog.set_level(logging.DEBUG)
    hub.add_repo("model", "org/name", {"config.json": b"{}"}, private=True)
    upstream = make_upstream(token="hf_canary")
    async with router(upstream) as opened:
        for fault in ({"status": 500}, {"drop": True}, {"gzip": True}, {"status": 401}, {"location": "file:///x"}):
            hub.faults.clear()
            hub.fault("", **fault)
            with pytest.raises(Exception) as caught:  # noqa: PT011  # each fault has its own
                await opened.commit(hf, "main", anyone)
            assert "canary" not in repr(caught.value)
    assert "canary" not in caplog.text + "".join(capsys.readouterr()) + repr(upstream)


async def test_a_proxy_that_does_not_answer_is_named(internet, hf, anyone, router):
    internet.names["proxy.example"] = []
    async with router(environment={"http_proxy": "http://user:canary@proxy.example:3128"}) as opened:
        with pytest.raises(UnavailableError, match=r"through the proxy proxy\.example:3128") as failed:
            await opened.snapshot(hf, "main", anyone)
    assert "canary" not in str(failed.value)


async def test_whoever_has_a_token_is_told_where_no_upstream_is_shown_it(hub, router, make_upstream):
    hub.add_user("hf_alice", "alice")
    hub.add_repo("model", "org/private", {"a": b"a"}, private=True)
    repo = Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/private")
    async with router(make_upstream(trusted=False)) as opened:
        with pytest.raises(NotFoundError) as refused:
            await opened.snapshot(repo, "main", Access("hf_alice"))
    assert "trusted = true" in refused.value.next_step
