"""The gateway as a Xet storage: what it tells of a file puts the file together again, and nothing leaves unasked."""

import hashlib
import json

import pytest
from noise import noise

from p2pmodel.gateway import xet
from p2pmodel.gateway.xet import CHUNK_BYTES, FRAME_BYTES, Framer, reconstruction
from p2pmodel.limits import HUB_PLAIN_BYTES_MAX

XORB_BYTES = 4 * CHUNK_BYTES  # here, so that a few fit a test
DATA = noise(3, 2 * XORB_BYTES + 3 * CHUNK_BYTES + 99)
SHA256 = hashlib.sha256(DATA).hexdigest()
TOKEN = "/api/models/org/model/xet-read-token/main"


@pytest.fixture
def small_xorbs(monkeypatch):
    monkeypatch.setattr(xet, "XORB_BYTES", XORB_BYTES)


@pytest.fixture
def options():
    return {"xet_above": 10}


@pytest.fixture
def repo(rig, small_xorbs):
    repo = rig.add("org/model", {"w.bin": DATA, "a.json": b"{" + b" " * 99 + b"}", "small.bin": b"small"})
    entries = [
        {"type": "file", "path": "w.bin", "size": len(DATA), "oid": "1", "lfs": {"oid": SHA256, "size": len(DATA)}},
        {"type": "file", "path": "a.json", "size": 101, "oid": "2"},
    ]
    rig.delivery.listings[repo] = json.dumps(entries).encode()
    return repo


async def storage(rig, *headers):
    """Path of the storage, and the token for it."""
    answer = await rig.get(TOKEN, *headers)
    assert answer.status == 200, answer.body
    told = answer.json()
    assert (told["casUrl"], told["accessToken"]) == (answer.headers["x-xet-cas-url"], answer.headers["x-xet-access-token"])
    start = f"http://localhost:{rig.port}"
    assert told["casUrl"].startswith(start)
    return told["casUrl"].removeprefix(start), told["accessToken"]


async def rebuilt(rig, told, *, length):
    """The bytes that a client gets out of a reconstruction."""
    data = bytearray()
    for term in told["terms"]:
        [place] = told["fetch_info"][term["hash"]]
        assert place["range"] == term["range"]
        path = place["url"].removeprefix(f"http://localhost:{rig.port}")
        span = place["url_range"]
        answer = await rig.get(path, f"Range: bytes={span['start']}-{span['end']}")
        assert (answer.status, len(answer.body)) == (206, span["end"] + 1 - span["start"])
        unpacked = unframed(answer.body)
        assert len(unpacked) == term["unpacked_length"]
        data += unpacked
    at = told["offset_into_first_range"]
    return bytes(data[at : at + length])


def unframed(body):
    data = bytearray()
    while body:
        version, packed, scheme, size = body[0], body[1:4], body[4], int.from_bytes(body[5:8], "little")
        assert (version, scheme, int.from_bytes(packed, "little")) == (0, 0, size)
        assert size <= CHUNK_BYTES
        data += body[8 : 8 + size]
        body = body[8 + size :]
    return bytes(data)


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        (0, len(DATA)),
        (0, 1),
        (XORB_BYTES - 1, XORB_BYTES + 1),
        (XORB_BYTES, 2 * XORB_BYTES),
        (CHUNK_BYTES + 7, XORB_BYTES + 2 * CHUNK_BYTES),
        (len(DATA) - 5, len(DATA) + 5000),
    ],
)
@pytest.mark.parametrize("version", ["/v1/reconstructions", "/reconstruction"])
async def test_a_range_of_a_file_comes_out_of_its_xorbs(rig, repo, start, stop, version):
    path, token = await storage(rig)
    asked = f"Range: bytes={start}-{stop - 1}"
    answer = await rig.get(f"{path}{version}/{SHA256}", f"Authorization: Bearer {token}", asked)
    assert answer.status == 200
    assert await rebuilt(rig, answer.json(), length=stop - start) == DATA[start:stop]


async def test_a_file_without_a_range_is_told_whole(rig, repo):
    path, token = await storage(rig)
    answer = await rig.get(f"{path}/v1/reconstructions/{SHA256}", f"Authorization: Bearer {token}")
    assert len(answer.json()["terms"]) == 3
    answer = await rig.get(
        f"{path}/v1/reconstructions/{SHA256}", f"Authorization: Bearer {token}", f"Range: bytes={len(DATA)}-"
    )
    assert answer.status == 416


async def test_any_range_of_a_xorb_is_cut_from_the_same_frames(rig, repo):
    path, token = await storage(rig)
    base = f"{path}/data/{token}/{SHA256}"
    whole = (await rig.get(f"{base}/2")).body
    assert unframed(whole) == DATA[2 * XORB_BYTES :]
    for start, stop in ((0, 3), (5, FRAME_BYTES + 9), (FRAME_BYTES, len(whole)), (len(whole) - 1, len(whole))):
        answer = await rig.get(f"{base}/2", f"Range: bytes={start}-{stop - 1}")
        assert answer.body == whole[start:stop]
    assert (await rig.get(f"{base}/3")).status == 404
    assert (await rig.get(f"{base}/2", f"Range: bytes={len(whole)}-")).status == 416


async def test_the_reader_is_asked_with_the_credential_of_the_tokens_owner(rig, repo):
    path, token = await storage(rig, "Authorization: Bearer hf_alice")
    await rig.get(f"{path}/data/{token}/{SHA256}/0", "Range: bytes=0-7")
    assert rig.delivery.asked[-1][-1].token == "hf_alice"
    assert "hf_alice" not in path + token


@pytest.mark.parametrize("shown", ["", "Authorization: Bearer nonsense", "Authorization: Bearer hf_alice"])
async def test_nothing_is_told_without_a_token_of_ours(rig, repo, shown):
    path, _ = await storage(rig)
    headers = [shown] if shown else []
    assert (await rig.get(f"{path}/v1/reconstructions/{SHA256}", *headers)).status == 401
    assert (await rig.get(f"{path}/data/{'0' * 40}/{SHA256}/0", *headers)).status == 401


async def test_only_large_files_lead_a_client_to_xet(rig, repo):
    head = (await rig.get("/org/model/resolve/main/w.bin", method="HEAD")).headers
    assert head["x-xet-hash"] == SHA256
    assert head["x-xet-refresh-route"].startswith(f"http://localhost:{rig.port}/api/models/org/model/xet-read-token/")
    assert 'rel="xet-auth"' in head["link"]
    for path in ("small.bin", "a.json"):
        head = (await rig.get(f"/org/model/resolve/main/{path}", method="HEAD")).headers
        assert not [name for name in head if "xet" in name or name == "link"]


async def test_listings_name_large_files_as_clients_want_it(rig, repo):
    listed = (await rig.get("/api/models/org/model/tree/main?recursive=true")).json()
    assert [entry.get("xetHash") for entry in listed] == [SHA256, None]
    body = json.dumps({"paths": ["w.bin"]}).encode()
    headers = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    named = (await rig.get("/api/models/org/model/paths-info/main", *headers, method="POST", body=body)).json()
    assert named[0]["xetHash"] == SHA256


@pytest.mark.parametrize("options", [{"xet_above": None}])
async def test_switched_off_nothing_leads_to_xet(rig, repo):
    assert "x-xet-hash" not in (await rig.get("/org/model/resolve/main/w.bin", method="HEAD")).headers
    assert b"xetHash" not in (await rig.get("/api/models/org/model/tree/main?recursive=true")).body
    answer = await rig.get(TOKEN)
    assert answer.status == 404
    assert "HF_HUB_DISABLE_XET" in answer.json()["error"]


@pytest.mark.parametrize("options", [{}])
async def test_by_default_files_that_clients_take_over_plain_http_are_not_offered(rig, repo):
    assert "x-xet-hash" not in (await rig.get("/org/model/resolve/main/w.bin", method="HEAD")).headers
    assert (await rig.get(TOKEN)).status == 200  # a client may remember a Xet name from the hub itself


async def test_a_name_that_a_client_had_from_the_hub_leads_to_the_same_bytes(rig, repo):
    path, token = await storage(rig, "Authorization: Bearer hf_alice")
    rig.upstreams.body = json.dumps([{"type": "file", "path": "w.bin", "xetHash": "ab" * 32}, {"path": "a.json"}]).encode()
    asked = f"Authorization: Bearer {token}"
    answer = await rig.get(f"{path}/v1/reconstructions/{'ab' * 32}", asked, "Range: bytes=5-104")
    assert await rebuilt(rig, answer.json(), length=100) == DATA[5:105]
    assert [dict(request.headers)["Authorization"] for request in rig.upstreams.requests] == ["Bearer hf_alice"]
    assert (await rig.get(f"{path}/v1/reconstructions/{'cd' * 32}", asked)).status == 404
    assert len(rig.upstreams.requests) == 1


async def test_newer_questions_are_answered_with_no_such_thing(rig, repo):
    path, token = await storage(rig)
    assert (await rig.get(f"{path}/v2/reconstructions/{SHA256}", f"Authorization: Bearer {token}")).status == 404
    assert (await rig.get(f"{path}/v1/telemetry", "Content-Length: 2", method="POST", body=b"{}")).status == 404


def test_a_terabyte_is_told_within_bounds():
    size = 1 << 40
    told = reconstruction("x", size, HUB_PLAIN_BYTES_MAX, HUB_PLAIN_BYTES_MAX + (1 << 30), "http://localhost/x")
    assert len(told["terms"]) == (1 << 30) // xet.XORB_BYTES + 1
    assert sum(term["unpacked_length"] for term in told["terms"]) >= 1 << 30


@pytest.mark.parametrize("step", [1, 1000, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_frames_do_not_depend_on_how_the_bytes_come(step):
    data = DATA[: 2 * CHUNK_BYTES + 10] if step > 1 else DATA[:2000]
    framer = Framer(len(data))
    framed = b"".join(framer.frame(data[at : at + step]) for at in range(0, len(data), step))
    assert unframed(framed) == data
