"""Uploads by Xet through the gateway: to the hub's storage as a stream, with its token, and a copy stays."""

import json
from base64 import urlsafe_b64encode

import pytest

from p2pmodel.limits import XET_UPLOADS_AT_ONCE

TOKEN = "/api/models/org/model/xet-write-token/main"
CAS = "https://cas.example/of/it"
NAME = "ab" * 32
XET = "Authorization: Bearer xet-token"


@pytest.fixture
def options():
    return {}


async def storage(rig, url=CAS, *headers):
    """The path that the client is led to."""
    rig.upstreams.body = json.dumps({"casUrl": url, "accessToken": "xet-token", "exp": 4_000_000_000}).encode()
    answer = await rig.get(TOKEN, "Authorization: Bearer hf_x", *headers)
    told = answer.json()
    assert (answer.headers["x-xet-access-token"], answer.headers["x-xet-token-expiration"]) == ("xet-token", "4000000000")
    assert (told["casUrl"], told["accessToken"], told["exp"]) == (answer.headers["x-xet-cas-url"], "xet-token", 4_000_000_000)
    rig.upstreams.body = b'{"was_inserted": true}'
    start = f"http://localhost:{rig.port}"
    assert told["casUrl"].startswith(start)
    return told["casUrl"].removeprefix(start)


async def post(rig, path, data, *headers):
    return await rig.get(path, f"Content-Length: {len(data)}", XET, *headers, method="POST", body=data)


async def test_a_xorb_goes_on_to_the_hubs_storage_with_its_token_and_a_copy_stays(rig):
    path = await storage(rig)
    answer = await post(rig, f"{path}/v1/xorbs/default/{NAME}", b"a xorb", "X-Xet-Session-Id: 01J")
    assert (answer.status, answer.json()) == (200, {"was_inserted": True})
    asked = rig.upstreams.requests[-1]
    assert (asked.method, asked.url, asked.own_credential) == ("POST", f"{CAS}/v1/xorbs/default/{NAME}", True)
    assert dict(asked.headers)["authorization"] == "Bearer xet-token"
    assert rig.upstreams.bodies[-1] == b"a xorb"
    assert rig.delivery.xorbs == [("MDFK", NAME, 6, b"a xorb", True)]


@pytest.mark.parametrize("way", ["/shards", "/v1/shards", "/v2/shards", "/shard"])
async def test_a_shard_does_the_same(rig, way):
    path = await storage(rig, f"{CAS}/")
    await post(rig, path + way, b"a shard")
    assert rig.upstreams.requests[-1].url == CAS + way
    assert rig.delivery.shards == [("", b"a shard", True)]


@pytest.mark.parametrize(
    ("told", "taken"),
    [
        (b'{"result": 0}', True),
        (b"", True),
        (b'{"type": "validating"}\n{"type": "result"}\n', True),
        (b'{"type": "validating"}\n{"type": "error", "message": "no"}\n', False),
        (b"no json", False),
        (b"[" * 9999, False),
    ],
)
async def test_a_shard_is_taken_when_the_last_line_says_so(rig, told, taken):
    path = await storage(rig)
    rig.upstreams.body = told
    assert (await post(rig, f"{path}/v2/shards", b"a shard")).body == told
    assert rig.delivery.shards == [("", b"a shard", taken)]


S3 = "https://bucket.s3.example/xorbs/1?X-Amz-Signature=ab%2Fcd&X-Amz-Expires=9"


async def granted(rig, *headers, **more):
    """The path that a client is led to with a xorb."""
    path = await storage(rig)
    rig.upstreams.status = 201
    grant = {"id": "g", "method": "PUT", "url": S3, "headers": {"if-none-match": "*"}} | more
    rig.upstreams.body = json.dumps(grant).encode()
    answer = await post(rig, f"{path}/v1/xorb-grants/default/{NAME}", b'{"length": 6}', *headers)
    assert rig.upstreams.requests[-1].url == f"{CAS}/v1/xorb-grants/default/{NAME}"
    assert rig.upstreams.bodies[-1] == b'{"length": 6}'
    told = answer.json()
    assert (answer.status, told | {"url": ""}) == (201, grant | {"url": ""})
    rig.upstreams.status, rig.upstreams.body = 200, b""
    return told["url"].removeprefix(f"http://localhost:{rig.port}")


@pytest.mark.parametrize(("status", "kept"), [(200, True), (412, True), (403, False)])
async def test_a_xorb_goes_to_the_place_that_was_granted_and_a_copy_stays(rig, status, kept):
    link = await granted(rig, "X-Xet-Session-Id: 01J")
    rig.upstreams.status = status
    answer = await rig.get(link, "Content-Length: 6", "If-None-Match: *", method="PUT", body=b"a xorb")
    assert answer.status == status
    asked = rig.upstreams.requests[-1]
    assert (asked.method, asked.url, dict(asked.headers)["if-none-match"]) == ("PUT", S3, "*")
    assert "authorization" not in dict(asked.headers)
    assert rig.upstreams.bodies[-1] == b"a xorb"
    assert rig.delivery.xorbs == [("MDFK", NAME, 6, b"a xorb", kept)]


async def test_what_was_granted_may_come_in_chunks_and_is_not_kept_then(rig):
    link = await granted(rig)
    await rig.get(link, "Transfer-Encoding: chunked", method="PUT", body=b"1\r\nx\r\n0\r\n\r\n")
    assert (rig.upstreams.requests[-1].url, rig.upstreams.bodies[-1], rig.delivery.xorbs) == (S3, b"x", [])


async def test_a_forged_grant_sends_nothing_anywhere(rig):
    link = await granted(rig)
    asked = len(rig.upstreams.requests)
    for forged in (link.replace(NAME, NAME[::-1]), link + "x", link.replace("/granted/", "/at/")):
        answer = await rig.get(forged, "Content-Length: 1", method="PUT", body=b"x")
        assert answer.status in {400, 404}
    assert len(rig.upstreams.requests) == asked


@pytest.mark.parametrize(
    ("status", "told"), [(200, b"{}"), (404, b'{"error": "no"}'), (201, b'{"url": 5}'), (201, b"[]"), (201, b"[" * 9999)]
)
async def test_what_is_no_grant_is_handed_on_as_it_is(rig, status, told):
    path = await storage(rig)
    rig.upstreams.status, rig.upstreams.body = status, told
    answer = await post(rig, f"{path}/v1/xorb-grants/default/{NAME}", b"{}")
    assert (answer.status, answer.body) == (status, told)


async def test_what_the_hub_refuses_is_not_kept(rig):
    path = await storage(rig)
    rig.upstreams.status = 403
    assert (await post(rig, f"{path}/v1/xorbs/default/{NAME}", b"a xorb")).status == 403
    assert (await post(rig, f"{path}/v1/shards", b"a shard")).status == 403
    assert (rig.delivery.xorbs[0][-1], rig.delivery.shards[0][-1]) == (False, False)


async def test_all_else_goes_on_and_nothing_of_it_stays(rig):
    path = await storage(rig)
    rig.upstreams.body = b"a shard of the hub's"
    answer = await rig.get(f"{path}/v1/chunks/default-merkledb/{NAME}?a=b%2F", XET)
    assert answer.body == b"a shard of the hub's"
    assert rig.upstreams.requests[-1].url == f"{CAS}/v1/chunks/default-merkledb/{NAME}?a=b%2F"
    await post(rig, f"{path}/v1/telemetry", b"{}")
    await post(rig, f"{path}/v1/xorb-commits/default/{NAME}/grant/g-1", b"")
    await post(rig, f"{path}/v1/xorbs/other/{NAME}", b"a xorb")
    await post(rig, f"{path}/v1/xorbs/default/short", b"a xorb")
    chunked = ("Transfer-Encoding: chunked", XET)
    await rig.get(f"{path}/v1/xorbs/default/{NAME}", *chunked, method="POST", body=b"1\r\nx\r\n0\r\n\r\n")
    await rig.get(f"{path}/v1/xorbs/default/{NAME}", "Content-Length: 1", XET, method="PUT", body=b"x")
    assert rig.upstreams.bodies[-2:] == [b"x", b"x"]
    assert (rig.delivery.xorbs, rig.delivery.shards) == ([], [])


async def test_more_than_may_be_sent_at_once_come_one_after_the_other(rig):
    path = await storage(rig)
    for number in range(XET_UPLOADS_AT_ONCE + 5):
        assert (await post(rig, f"{path}/v1/xorbs/default/{number:064}", b"x")).status == 200
    assert len(rig.delivery.xorbs) == XET_UPLOADS_AT_ONCE + 5


async def test_a_forged_address_sends_nothing_anywhere(rig):
    path = await storage(rig)
    asked = len(rig.upstreams.requests)
    seal, place = path.split("/")[-2:]
    evil = urlsafe_b64encode(b"http://169.254.169.254").decode().rstrip("=")
    for forged in (path.replace(place, evil), path.replace(seal, "0" * 40), path.replace(place, place[:-2])):
        assert forged != path
        assert (await post(rig, f"{forged}/v1/shards", b"x")).status == 400
    for odd in ("/v1/../../x", "/v1/%2e%2e/x", "/v1//x", "/v1/a.b", "@evil.example/"):
        assert (await post(rig, path + odd, b"x")).status == 404
    assert len(rig.upstreams.requests) == asked


async def test_what_hf_xet_reports_of_itself_stays_here(rig):
    assert (await post(rig, "/v1/telemetry", b"{}")).status == 404
    assert rig.upstreams.requests == []


async def test_an_address_is_the_same_after_a_restart(start_gateway):
    """hf_xet remembers by it which bytes the hub has."""
    seen = set()
    for key in (b"k" * 32, b"k" * 32, None):
        async with start_gateway(seal_key=key) as rig:
            seen.add(await storage(rig))
    assert len(seen) == 2


@pytest.mark.parametrize("status", [401, 404])
async def test_a_hub_that_gives_no_token_is_handed_on(rig, status):
    rig.upstreams.status, rig.upstreams.body = status, b'{"error": "no"}'
    answer = await rig.get(TOKEN)
    assert (answer.status, answer.json()) == (status, {"error": "no"})


@pytest.mark.parametrize("body", [b"{}", b"[]", b"no json", b"[" * 9999])
async def test_a_token_that_is_none_is_an_error_with_a_name(rig, body):
    rig.upstreams.body = body
    answer = await rig.get(TOKEN)
    assert answer.status == 502
    assert "no Xet token" in answer.json()["error"]


@pytest.mark.parametrize("options", [{"token": "secret"}])
async def test_the_address_needs_no_token_of_the_gateway(rig):
    """There is no place for it in what hf_xet sends."""
    assert (await rig.get(TOKEN)).status == 401
    path = await storage(rig, CAS, "X-P2pmodel-Token: secret")
    assert (await post(rig, f"{path}/v1/shards", b"x")).status == 200
    assert "x-p2pmodel-token" not in dict(rig.upstreams.requests[-1].headers)
