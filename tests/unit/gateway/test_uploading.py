"""Uploads through the gateway: parts, LFS batches, commits."""

import base64
import hashlib
import json
from urllib.parse import quote

import pytest

from p2pmodel.content import Hub, Repo, RepoKind
from p2pmodel.gateway.commits import CommitDocument, CommitFiles
from p2pmodel.limits import COMMIT_FILES_BYTES_MAX, COMMIT_LINE_BYTES_MAX

DATA = b"some weights"
OID = hashlib.sha256(DATA).hexdigest()
BATCH = "/org/model.git/info/lfs/objects/batch"
REPO = Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/model")


async def batch(rig, actions, *, sent=None):
    """What the client gets when the hub answers so."""
    rig.upstreams.home = "https://hub.example"
    rig.upstreams.body = json.dumps({"objects": [{"oid": OID, "size": len(DATA), "actions": actions}]}).encode()
    sent = json.dumps(sent or {"operation": "upload", "objects": [{"oid": OID, "size": len(DATA)}]}).encode()
    answer = await rig.get(BATCH, f"Content-Length: {len(sent)}", method="POST", body=sent)
    return answer.json()["objects"][0].get("actions")


def path_of(rig, link):
    start = f"http://localhost:{rig.port}"
    assert link.startswith(start)
    return link.removeprefix(start)


async def test_a_file_goes_on_to_the_place_that_the_hub_named_and_a_copy_stays(rig):
    actions = await batch(rig, {"upload": {"href": "https://s3.example/put?sig=1&x=%2F"}})
    rig.upstreams.body = b""
    link = path_of(rig, actions["upload"]["href"])
    answer = await rig.get(link, f"Content-Length: {len(DATA)}", "Authorization: Bearer hf_x", method="PUT", body=DATA)
    assert answer.status == 200
    assert rig.upstreams.requests[-1].url == "https://s3.example/put?sig=1&x=%2F"
    assert rig.upstreams.bodies[-1] == DATA
    assert rig.delivery.parts == [(OID, len(DATA), 0, DATA, True)]


async def test_parts_say_where_they_belong(rig):
    header = {"chunk_size": "5", "00001": "https://s3.example/1", "00002": "https://s3.example/2", "3": "https://s3.example/3"}
    upload = {"href": "https://hub.example/api/complete", "header": header}
    actions = await batch(rig, {"upload": upload, "verify": {"href": "https://hub.example/verify"}})
    assert actions["upload"]["href"] == f"http://localhost:{rig.port}/api/complete"
    assert actions["verify"]["href"] == f"http://localhost:{rig.port}/verify"
    for key, data in (("00002", DATA[5:10]), ("3", DATA[10:]), ("00001", DATA[:5])):
        link = path_of(rig, actions["upload"]["header"][key])
        await rig.get(link, f"Content-Length: {len(data)}", method="PUT", body=data)
    assert [part[2:] for part in rig.delivery.parts] == [(5, DATA[5:10], True), (10, DATA[10:], True), (0, DATA[:5], True)]


async def test_what_the_hub_refuses_is_not_kept(rig):
    actions = await batch(rig, {"upload": {"href": "https://s3.example/put"}})
    rig.upstreams.status = 403
    answer = await rig.get(path_of(rig, actions["upload"]["href"]), "Content-Length: 12", method="PUT", body=DATA)
    assert answer.status == 403
    assert rig.delivery.parts[0][-1] is False


async def test_a_forged_link_sends_nothing_anywhere(rig):
    actions = await batch(rig, {"upload": {"href": "https://s3.example/put"}})
    link = path_of(rig, actions["upload"]["href"])
    asked = len(rig.upstreams.requests)
    for forged in (
        link.replace(quote("https://s3.example/put", safe=""), quote("http://169.254.169.254/", safe="")),
        link.replace(f"/{len(DATA)}/0/", f"/{len(DATA)}/1/"),
        link.replace(OID, OID[::-1]),
        link.replace("huggingface", "modelscope"),
    ):
        assert forged != link
        assert (await rig.get(forged, "Content-Length: 12", method="PUT", body=DATA)).status == 400
    assert len(rig.upstreams.requests) == asked


async def test_a_place_that_wants_a_credential_of_its_own_is_left_to_the_client(rig):
    upload = {"href": "https://s3.example/put", "header": {"Authorization": "RemoteAuth x"}}
    assert (await batch(rig, {"upload": upload}))["upload"] == upload


async def test_the_hub_is_not_offered_xet_where_it_may_choose(rig):
    sent = {"operation": "upload", "transfers": ["basic", "multipart", "xet"], "objects": []}
    await batch(rig, {}, sent=sent)
    assert json.loads(rig.upstreams.bodies[-1])["transfers"] == ["basic", "multipart"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"objects": 5}', b'{"objects": [{"oid": "x", "size": -1, "actions": 3}]}', b"[" * 9999]
)
async def test_an_odd_batch_is_handed_on_as_it_is(rig, body):
    rig.upstreams.body = body
    answer = await rig.get(BATCH, "Content-Length: 2", method="POST", body=b"{}")
    assert answer.status == 200
    assert answer.body.replace(b" ", b"") == body.replace(b" ", b"")


async def test_a_commit_tells_delivery_what_it_was_and_its_small_files(rig):
    commit = "c0ffee" + "1" * 34
    rig.upstreams.home = "https://hub.example"
    rig.upstreams.body = json.dumps({"commitOid": commit, "commitUrl": "https://hub.example/org/model/commit/1"}).encode()
    lines = [
        {"key": "header", "value": {"summary": "a commit"}},
        {"key": "file", "value": {"content": base64.b64encode(b"{}").decode(), "path": "a.json", "encoding": "base64"}},
        {"key": "lfsFile", "value": {"path": "w.bin", "algo": "sha256", "oid": OID, "size": 12}},
    ]
    body = b"\n".join(json.dumps(line).encode() for line in lines)
    answer = await rig.get("/api/models/org/model/commit/main", f"Content-Length: {len(body)}", method="POST", body=body)
    assert rig.upstreams.bodies[-1] == body
    assert answer.json()["commitUrl"] == f"http://localhost:{rig.port}/org/model/commit/1"
    assert rig.delivery.commits == [(REPO, commit, [b"{}"])]
    assert REPO in rig.delivery.changes


async def test_a_refused_commit_is_none(rig):
    rig.upstreams.status = 409
    await rig.get("/api/models/org/model/commit/main", "Content-Length: 2", method="POST", body=b"{}")
    assert rig.delivery.commits == []


async def through(files, *pieces):
    async def given():
        for piece in pieces:
            yield piece

    return b"".join([piece async for piece in files.watch(given())])


def line(data):
    return json.dumps({"key": "file", "value": {"content": base64.b64encode(data).decode(), "encoding": "base64"}}).encode()


async def test_lines_of_a_commit_may_be_cut_anywhere():
    body = line(b"one") + b"\n" + line(b"two") + b"\n" + b'{"key": "header", "value": {}}'
    for step in (1, 7, 10_000):
        files = CommitFiles()
        assert await through(files, *[body[at : at + step] for at in range(0, len(body), step)]) == body
        assert files.found == [b"one", b"two"]


async def test_lines_that_are_too_long_or_make_no_sense_pass_all_the_same():
    files = CommitFiles()
    long = b'{"key": "file", "value": {"content": "' + b"A" * COMMIT_LINE_BYTES_MAX + b'"}}'
    odd = b'{"key": "file", "value": {"content": "?", "encoding": "base64"}}'
    body = b"\n".join([long, odd, b'{"key": "file", "val', line(b"three")])
    assert await through(files, body) == body
    assert files.found == [b"three"]


async def test_only_so_much_of_a_commit_is_kept():
    files = CommitFiles()
    big = line(bytes(11 << 20))
    await through(files, *[big + b"\n"] * 4)
    assert len(files.found) == COMMIT_FILES_BYTES_MAX // (11 << 20)


@pytest.mark.parametrize("options", [{"token": "secret"}])
async def test_a_link_needs_no_token_of_the_gateway_and_leads_nowhere_without_its_seal(rig):
    rig.upstreams.body = json.dumps(
        {"objects": [{"oid": OID, "size": len(DATA), "actions": {"upload": {"href": "https://s3.example/put"}}}]}
    ).encode()
    answer = await rig.get(BATCH, "Content-Length: 2", "X-P2pmodel-Token: secret", method="POST", body=b"{}")
    link = path_of(rig, answer.json()["objects"][0]["actions"]["upload"]["href"])
    assert (await rig.get(link, f"Content-Length: {len(DATA)}", method="PUT", body=DATA)).status == 200
    asked = len(rig.upstreams.requests)
    for method in ("GET", "PUT", "POST", "DELETE", "PATCH"):
        for path in (link[:-1], "/-/parts/x", "/api/p2pmodel-xet/x", "/api/p2pmodel-xet/../models", "/api/models/org/model"):
            assert (await rig.get(path, method=method)).status in {400, 401, 404, 405}
    assert len(rig.upstreams.requests) == asked


# ModelScope

MS_REPO = Repo(Hub.MODELSCOPE, RepoKind.MODEL, "org/model")
MS_BASE = "/api/v1/repos/models/org/model"


async def test_modelscopes_batch_leads_here_and_its_file_goes_on_to_the_hub(rig):
    rig.upstreams.home = "https://scope.example"
    upload = {"href": "https://scope.example/up/1?x=%2F", "header": {}, "expires_in": 3600}
    data = {"objects": [{"oid": OID, "size": len(DATA), "actions": {"upload": upload}}]}
    rig.upstreams.body = json.dumps({"Code": 200, "Success": True, "RequestId": "r", "Data": data}).encode()
    batch_path = f"{MS_BASE}/info/lfs/objects/batch"
    envelope = (await rig.get(batch_path, "Content-Length: 2", method="POST", body=b"{}")).json()
    assert (envelope["Code"], envelope["RequestId"]) == (200, "r")
    link = path_of(rig, envelope["Data"]["objects"][0]["actions"]["upload"]["href"])
    rig.upstreams.body = b'{"Code":200,"Message":"success"}'
    chunked = b"5\r\n%b\r\n7\r\n%b\r\n0\r\n\r\n" % (DATA[:5], DATA[5:])
    headers = ("Transfer-Encoding: chunked", "Cookie: m_session_id=mine")
    answer = await rig.get(link, *headers, method="PUT", body=chunked)
    assert (answer.status, answer.json()["Code"]) == (200, 200)  # up to 1.37 clients look into it
    assert (rig.upstreams.requests[-1].url, rig.upstreams.bodies[-1]) == ("https://scope.example/up/1?x=%2F", DATA)
    assert rig.delivery.parts == [(OID, len(DATA), 0, DATA, True)]


@pytest.mark.parametrize("answered", [b"no json", b"[]", b'{"Data": null}', b'{"Code": 401}'])
async def test_an_odd_batch_of_modelscope_is_handed_on_as_it_is(rig, answered):
    rig.upstreams.body = answered
    answer = await rig.get(f"{MS_BASE}/info/lfs/objects/batch", "Content-Length: 2", method="POST", body=b"{}")
    assert answer.body.replace(b" ", b"") == answered.replace(b" ", b"")


async def test_a_commit_at_modelscope_tells_delivery_what_it_was_and_its_small_files(rig):
    commit = "c0ffee" + "2" * 34
    rig.upstreams.body = json.dumps({"Code": 200, "Data": {"oid": commit}}).encode()
    small = {"action": "create", "path": "a.json", "type": "normal", "content": "e30=", "encoding": "base64"}
    large = {"action": "create", "path": "w.bin", "type": "lfs", "sha256": OID, "size": 12, "content": "", "encoding": ""}
    body = json.dumps({"commit_message": "m", "actions": [small, large]}).encode()
    await rig.get(f"{MS_BASE}/commit/master", f"Content-Length: {len(body)}", method="POST", body=body)
    assert rig.upstreams.bodies[-1] == body
    assert rig.delivery.commits == [(MS_REPO, commit, [b"{}"])]
    assert MS_REPO in rig.delivery.changes


@pytest.mark.parametrize(
    ("method", "target"),
    [("DELETE", "/api/v1/models/org/model/file?FilePath=a"), ("POST", "/api/v1/models/org/model/repo/tag")],
)
async def test_after_a_write_modelscopes_branches_are_asked_for_anew(rig, method, target):
    await rig.get(target, "Content-Length: 2", method=method, body=b"{}")
    assert rig.delivery.changes == [MS_REPO]


async def test_a_counted_download_changes_nothing(rig):
    target = "/api/v1/datasets/org/data/download/increase"
    assert (await rig.get(target, "Content-Length: 2", method="POST", body=b"{}")).status == 200
    assert rig.delivery.changes == []


async def test_a_commit_document_may_be_anything_and_only_so_much_of_it_is_kept():
    one = json.dumps({"actions": [{"content": base64.b64encode(b"one").decode(), "encoding": "base64"}]}).encode()
    for sent, found in [
        (one, [b"one"]),
        (b"{", []),
        (b'{"actions": 1}', []),
        (b'{"actions": [{"content": "!", "encoding": "base64"}]}', []),
    ]:
        document = CommitDocument()
        assert await through(document, sent[:7], sent[7:]) == sent
        assert document.found == found
    document = CommitDocument()
    await through(document, one[:-1], b" " * COMMIT_FILES_BYTES_MAX, one[-1:])
    assert document.found == []
