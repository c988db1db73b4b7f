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
    assert rig.delivery.xorbs == [("01J", NAME, 6, b"a xorb", True)]


@pytest.mark.parametrize("way", ["/shards", "/v1/shards", "/shard"])
async def test_a_shard_does_the_same(rig, way):
    path = await storage(rig, f"{CAS}/")
    await post(rig, path + way, b"a shard")
    assert rig.upstreams.requests[-1].url == CAS + way
    assert rig.delivery.shards == [("", b"a shard", True)]


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
