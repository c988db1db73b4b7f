"""Requests that clients make of a hub through us."""

from __future__ import annotations

import hashlib
from random import Random

import pytest

from p2pmodel.content import Hub
from p2pmodel.delivery.ports import HubRequest
from p2pmodel.demo.hub import Hub as DemoHub
from p2pmodel.errors import RateLimitedError, UnavailableError, WrongAnswerError
from p2pmodel.upstream import Router
from p2pmodel.upstream.client import Answer
from p2pmodel.upstream.passing import answer_headers, request_headers
from p2pmodel.upstream.url import Url


def request(target, *headers, method="GET", body=None, hub=Hub.HUGGINGFACE):
    return HubRequest(hub, method, target, headers, body)


async def pieces(*parts):
    for part in parts:
        yield part


async def passed(opened, asked):
    async with await opened.pass_on(asked) as answer:
        return answer, b"".join([piece async for piece in answer.body])


def headers_of(answer):
    return {name.lower(): value for name, value in answer.headers}


async def test_a_request_reaches_the_hub_as_it_was_written(hub, router):
    hub.add_repo("model", "org/name", {"a.txt": b"hello"}, branch="feature/x")
    async with router() as opened:
        answer, body = await passed(
            opened, request("/org/name/resolve/feature%2Fx/a.txt?x=%2B+&y", ("X-Mine", "1"), ("Host", "localhost"))
        )
        assert answer.status == 307
        assert body == b'""'
    assert hub.log[0].target == "/org/name/resolve/feature%2Fx/a.txt?x=%2B+&y"


async def test_the_clients_token_goes_to_the_hub_and_ours_stays_here(hub, router, make_upstream):
    hub.add_user("hf_alice", "alice")
    hub.add_user("hf_node", "node")
    async with router(make_upstream(token="hf_node")) as opened:
        _, body = await passed(opened, request("/api/whoami-v2", ("Authorization", "Bearer hf_alice")))
        assert b'"alice"' in body
        answer, _ = await passed(opened, request("/api/whoami-v2"))
        assert answer.status == 401


async def test_a_mirror_gets_no_credentials(hub, router, make_upstream):
    hub.add_user("hf_alice", "alice")
    asked = request("/api/whoami-v2", ("authorization", "Bearer hf_alice"), ("Cookie", "m_session_id=hf_alice"))
    async with router(make_upstream(trusted=False)) as opened:
        answer, _ = await passed(opened, asked)
    assert answer.status == 401
    assert hub.stats()["tokens_by_host"]["hub"] == 0


async def test_who_shows_a_credential_or_writes_is_led_past_a_mirror_to_the_hub(hub, internet, router, make_upstream):
    hub.add_user("hf_alice", "alice")
    mirror = DemoHub()
    internet.add("mirror.example", "151.101.2.9", mirror.server.handle)
    ways = make_upstream("mirror", endpoint="http://mirror.example", trusted=False, priority=-1), make_upstream()
    token = ("Authorization", "Bearer hf_alice")
    async with router(*ways) as opened:
        _, body = await passed(opened, request("/api/whoami-v2", token))
        assert b'"alice"' in body
        made = request("/api/repos/create", token, method="POST", body=pieces(b'{"name": "new"}'))
        assert (await passed(opened, made))[0].status == 200
        assert mirror.log == []
        await passed(opened, request("/api/models"))
        assert len(mirror.log) == 1


@pytest.mark.parametrize("length", [True, False], ids=["sized", "chunked"])
async def test_a_body_is_streamed_to_the_hub(length, hub, router):
    hub.add_repo("model", "org/name", {"a.txt": b"hello", "b.txt": b""})
    form = b"paths=a.txt&paths=missing"
    headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Transfer-Encoding", "chunked")]
    headers += [("Content-Length", str(len(form)))] if length else []
    async with router() as opened:
        asked = request("/api/models/org/name/paths-info/main", *headers, method="POST", body=pieces(form[:10], form[10:]))
        answer, body = await passed(opened, asked)
    assert answer.status == 200
    assert b"a.txt" in body
    assert b"b.txt" not in body


async def test_what_changes_the_hub_is_asked_once(hub, router):
    hub.fault("", status=500)
    async with router() as opened:
        answer, _ = await passed(opened, request("/api/models/org/name/commit/main", method="POST", body=pieces(b"{}")))
    assert answer.status == 500
    assert hub.stats()["requests_total"] == 1
    hub.fault("", drop=True)
    hub.faults.clear()
    hub.fault("", drop=True)
    async with router() as opened:
        with pytest.raises(UnavailableError):
            await passed(opened, request("/x", method="DELETE"))
    assert hub.stats()["faults_played"] == 2


async def test_a_read_is_asked_of_the_next_upstream(internet, hub, router, make_upstream):
    internet.names["dead.example"] = ["151.101.7.7"]
    async with router(make_upstream("dead", endpoint="http://dead.example"), make_upstream(priority=1)) as opened:
        answer, _ = await passed(opened, request("/api/models"))
    assert answer.status == 200


async def test_a_resting_hub_is_not_asked(hub, router):
    hub.fault("/api/", status=429, headers={"Retry-After": "10"}, times=1)
    async with router() as opened:
        assert (await passed(opened, request("/api/models")))[0].status == 429
        with pytest.raises(RateLimitedError):
            await passed(opened, request("/api/models"))
    assert hub.stats()["requests_total"] == 1


async def test_links_lead_back_to_the_gateway_and_never_to_xet(hub, router):
    hub.add_repo("model", "org/name", {f"{number:04}.txt": b"" for number in range(1001)} | {"w.safetensors": b"w"})
    async with router() as opened:
        page, _ = await passed(opened, request("/api/models/org/name/tree/main?recursive=true"))
        file, _ = await passed(opened, request("/org/name/resolve/main/w.safetensors", method="HEAD"))
        small, _ = await passed(opened, request("/org/name/resolve/main/0000.txt", method="HEAD"))
    assert headers_of(page)["link"].startswith("<{endpoint}/api/models/org/name/tree/main?")
    assert headers_of(page)["link"].endswith('rel="next"')
    assert not any("xet" in f"{name}{value}".lower() for name, value in file.headers)
    assert headers_of(file)["location"].startswith("http://cdn.example/")
    assert headers_of(small)["location"].startswith("{endpoint}/api/resolve-cache/")


async def test_an_answer_may_be_left_half_read(hub, put, big, router):
    put(big)
    hub.cdn = "direct"
    async with router() as opened:
        async with await opened.pass_on(request("/org/name/resolve/main/model.safetensors")) as answer:
            assert await anext(answer.body)
        answer, _ = await passed(opened, request("/api/models"))
    assert answer.status == 200


@pytest.fixture
def client(make_upstream):
    return next(iter(Router([make_upstream(endpoint="https://hub.example/hf")], rng=Random(0))._ways)).client


def test_headers_of_a_hop_stay_on_it(client):
    headers = [("Connection", "keep-alive, X-Hop"), ("X-Hop", "1"), ("TE", "trailers"), ("Proxy-Authorization", "Basic x")]
    headers += [("Host", "localhost:7276"), ("Accept-Encoding", "gzip"), ("Expect", "100-continue"), ("User-Agent", "hf")]
    assert request_headers(request("/", *headers), client) == [("User-Agent", "hf"), ("Accept-Encoding", "identity")]


@pytest.mark.parametrize(
    ("header", "rewritten"),
    [
        (("Location", "https://hub.example/hf/api/x?y=1"), "{endpoint}/api/x?y=1"),
        (("Location", "/hf/api/x"), "{endpoint}/api/x"),
        (("Location", "https://hub.example/other"), "https://hub.example/other"),
        (("Location", "http://hub.example/hf/api"), "http://hub.example/hf/api"),
        (("Location", "https://cdn.example/x"), "https://cdn.example/x"),
        (("Link", '<https://hub.example/hf/a?b=1,2>; rel="next", </hf/c>; rel="xet-auth"'), '<{endpoint}/a?b=1,2>; rel="next"'),
        (("Link", '<https://hub.example/hf/c>; rel="xet-auth"'), None),
        (("Set-Cookie", "m_session_id=s; Path=/; Domain=.hub.example; Secure; HttpOnly"), "m_session_id=s; Path=/; HttpOnly"),
        (("Set-Cookie", "a=b; Domain=evil.example"), None),
        (("Strict-Transport-Security", "max-age=1"), None),
        (("Transfer-Encoding", "chunked"), None),
        (("X-Xet-Hash", "ab"), None),
        (("X-Repo-Commit", "ab"), "ab"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_an_answers_headers_fit_the_gateway(header, rewritten, client):
    answer = Answer(200, [header], {}, {}, Url.parse("https://hub.example/hf/x"), pieces)
    assert [value for _, value in answer_headers(answer, client)] == ([] if rewritten is None else [rewritten])


@pytest.mark.parametrize(("path", "kept"), [("buckets/a/b/resolve/c", True), ("api/buckets/a/b", True), ("a/buckets/c", False)])
def test_to_xet_a_client_is_led_for_buckets_alone(client, path, kept):
    way = "https://hub.example/hf/api/buckets/a/b/xet-read-token"
    headers = [("X-Xet-Hash", "ab"), ("X-Xet-Refresh-Route", way), ("Link", f'<{way}>; rel="xet-auth", </hf/c>; rel="next"')]
    answer = Answer(200, headers, {}, {}, Url.parse(f"https://hub.example/hf/{path}"), pieces)
    ours = "{endpoint}/api/buckets/a/b/xet-read-token"
    xet = [("X-Xet-Hash", "ab"), ("X-Xet-Refresh-Route", ours)]
    links = [f'<{ours}>; rel="xet-auth"'] if kept else []
    links.append('<{endpoint}/c>; rel="next"')
    assert answer_headers(answer, client) == [*(xet if kept else []), ("Link", ", ".join(links))]


def upload_to(url, *headers, body=None):
    return HubRequest(Hub.HUGGINGFACE, "PUT", "/", headers, body, url)


async def test_an_upload_goes_to_the_storage_host_without_a_credential(hub, router):
    url = hub.storage.upload_url(hashlib.sha256(b"hello").hexdigest(), 0)
    async with router() as opened:
        sent = upload_to(url, ("Authorization", "Bearer hf_alice"), ("content-length", "5"), body=pieces(b"he", b"llo"))
        answer, _ = await passed(opened, sent)
    assert answer.status == 200
    assert hub.stats()["auth_leaks"] == 0
    assert [content.size for content in hub.storage.uploaded.values()] == [5]


async def test_a_credential_that_is_for_the_storage_host_goes_there(hub, router):
    url = f"{hub.storage.base_url}/cas/v1/shards"
    for own, status in ((True, 400), (False, 401)):
        sent = HubRequest(Hub.HUGGINGFACE, "POST", "/", [("Authorization", "Bearer xet-alice")], None, url, own_credential=own)
        async with router() as opened:
            answer, _ = await passed(opened, sent)
        assert answer.status == status


async def test_an_upload_to_the_hub_itself_takes_the_clients_credential(hub, router):
    hub.add_user("ms_alice", "alice")
    hub.add_repo("model", "alice/new", {"a": b"1"})
    oid = hashlib.sha256(b"hello").hexdigest()
    url = f"http://hub.example/api/v1/repos/models/alice/new/info/lfs/objects/{oid}"
    async with router() as opened:
        for credential in (("Cookie", "m_session_id=ms_alice"), ("Authorization", "Bearer ms_alice")):
            answer, _ = await passed(opened, upload_to(url, credential, ("content-length", "5"), body=pieces(b"hello")))
            assert answer.status == 200


async def test_an_empty_upload_says_that_it_is_empty(hub, router):
    async with router() as opened:
        answer, _ = await passed(opened, upload_to(hub.storage.upload_url(hashlib.sha256(b"").hexdigest(), 0)))
    assert answer.status == 200


@pytest.mark.parametrize("url", ["ftp://cdn.example/x", "nonsense", "http://alice:pw@cdn.example/x"])
async def test_an_upload_goes_nowhere_but_to_web_addresses(hub, router, url):
    async with router() as opened:
        with pytest.raises(WrongAnswerError):
            await passed(opened, upload_to(url, body=pieces(b"x")))
    assert not hub.log


async def test_an_upload_is_not_led_into_the_lan(hub, router):
    """The demo hub here is a host of the internet."""
    async with router() as opened:
        with pytest.raises((WrongAnswerError, UnavailableError)):
            await passed(opened, upload_to("http://192.168.1.1/x", body=pieces(b"x")))


async def test_a_proxy_is_sent_to_no_machine_of_its_own_lan_for_an_upload(internet, hub, router):
    async with router(environment={"http_proxy": "http://proxy.example:3128"}) as opened:
        for place in ("http://127.1:22/", "http://metadata/", "http://2852039166/latest"):
            with pytest.raises(WrongAnswerError):
                await passed(opened, HubRequest(Hub.HUGGINGFACE, "PUT", "/-/parts/x", [], None, url=place))
    assert internet.dialled == []
