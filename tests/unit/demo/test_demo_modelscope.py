from __future__ import annotations

import hashlib
import json

import pytest

WEIGHTS = bytes(range(256)) * 40
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
BASE = "/api/v1/models/acme/tiny"


async def test_a_listing_carries_what_every_client_version_indexes(client, commit):
    reply = (await client.ask(f"{BASE}/repo/files?Revision=master&Recursive=True")).json()
    assert (reply["Code"], reply["Success"], len(reply["RequestId"])) == (200, True, 32)
    files = {entry["Path"]: entry for entry in reply["Data"]["Files"]}
    assert {path for path, entry in files.items() if entry["Type"] == "tree"} == {"sub", "sub/deep"}
    weights = files["model.safetensors"]
    assert (weights["Name"], weights["Size"], weights["Sha256"], weights["Revision"]) == (
        "model.safetensors",
        10240,
        SHA256,
        commit,
    )
    assert weights["IsLFS"]
    assert files["config.json"]["Sha256"] == hashlib.sha256(b'{"a": 1}').hexdigest()


async def test_root_filters_a_listing_and_an_unknown_one_is_404(client):
    below = (await client.ask(f"{BASE}/repo/files?Root=sub&Recursive=False")).json()["Data"]["Files"]
    assert [entry["Path"] for entry in below] == ["sub/deep"]
    assert (await client.ask(f"{BASE}/repo/files?Root=nope")).status == 404


async def test_the_cap_truncates_without_a_word(hub, client):
    hub.configure({"files_max": 2})
    assert len((await client.ask(f"{BASE}/repo/files?Recursive=True")).json()["Data"]["Files"]) == 2


async def test_a_large_file_is_a_302_and_a_small_one_comes_inline_both_with_their_sha256(client):
    large = await client.ask(f"{BASE}/repo?Revision=master&FilePath=model.safetensors")
    assert (large.status, large.headers["x-linked-etag"]) == (302, f'"{SHA256}"')
    assert (await client.fetch(f"{BASE}/repo?Revision=master&FilePath=model.safetensors", Range="bytes=5-9")).body == WEIGHTS[
        5:10
    ]
    small = await client.ask(f"{BASE}/repo?Revision=master&FilePath=sub%2Fdeep%2Fvocab.txt")
    assert (small.status, small.body) == (200, b"hello\n")
    assert small.headers["x-linked-etag"] == f'"{hashlib.sha256(small.body).hexdigest()}"'


async def test_small_files_may_ignore_ranges_as_the_public_hub_does(hub, client):
    target = f"{BASE}/repo?FilePath=sub%2Fdeep%2Fvocab.txt"
    assert (await client.ask(target, Range="bytes=1-2")).status == 206
    hub.modelscope.small_files_ranged = False
    assert (await client.ask(target, Range="bytes=1-2")).status == 200


async def test_revisions_call_main_master_and_list_tags_newest_first(hub, client, commit):
    repo = hub.repo("model", "acme/tiny")
    repo.tag("v1")
    repo.commit({"config.json": b"{}"})
    repo.tag("v2")
    refs = (await client.ask(f"{BASE}/revisions")).json()["Data"]["RevisionMap"]
    assert [branch["Revision"] for branch in refs["Branches"]] == ["master"]
    assert [tag["Revision"] for tag in refs["Tags"]] == ["v2", "v1"]
    assert refs["Tags"][1]["CreatedAt"] == 1704067200


async def test_a_dataset_is_paged_by_name_and_by_number(hub, client):
    hub.add_repo("dataset", "acme/data", {f"{number}.csv": b"1" for number in range(5)})
    number = (await client.ask("/api/v1/datasets/acme/data")).json()["Data"]["Id"]
    for name in ("acme/data", number):
        pages = [
            (await client.ask(f"/api/v1/datasets/{name}/repo/tree?Root=/&PageNumber={page}&PageSize=2")).json()["Data"]
            for page in (1, 2, 3)
        ]
        assert [[entry["Name"] for entry in page["Files"]] for page in pages] == [
            ["0.csv", "1.csv"],
            ["2.csv", "3.csv"],
            ["4.csv"],
        ]
        assert pages[0]["TotalCount"] == 5
    assert (await client.ask("/api/v1/datasets/acme/data", "GET")).json()["Data"]["Type"] == 4
    assert (await client.ask("/api/v1/datasets/acme/data/download/increase", "POST")).status == 200
    assert (await client.fetch("/datasets/acme/data/resolve/master/0.csv")).body == b"1"


@pytest.mark.parametrize(
    "target",
    [
        "/api/v1/models/acme/nope",
        "/api/v1/models/acme/nope/repo/files",
        f"{BASE}/repo?FilePath=nope",
        f"{BASE}/repo/files?Revision=nope",
        "/api/v1/models/acme/secret/repo/files",
    ],
)
async def test_what_is_missing_or_hidden_is_404_in_an_envelope(hub, client, target):
    hub.add_repo("model", "acme/secret", {"a": b""}, private=True)
    reply = await client.ask(target)
    assert reply.status == 404
    assert (reply.json()["Success"], len(reply.json()["RequestId"])) == (False, 32)
    assert reply.json()["Code"] != 200


async def test_a_private_repo_opens_to_bearer_and_to_cookie(hub, client):
    hub.add_repo("model", "acme/secret", {"a": b"s"}, private=True)
    target = "/api/v1/models/acme/secret/repo?FilePath=a"
    assert (await client.ask(target, token="hf_alice")).body == b"s"
    assert (await client.ask(target, Cookie="x=1; m_session_id=hf_alice")).body == b"s"
    assert (await client.ask(target, Cookie="m_session_id=hf_other")).status == 404


async def test_a_gated_repo_is_listed_and_refuses_files(hub, client):
    hub.add_repo("model", "acme/gated", {"a": b"s"}, gated=True)
    assert (await client.ask("/api/v1/models/acme/gated/repo/files")).status == 200
    assert (await client.ask("/api/v1/models/acme/gated/repo?FilePath=a")).status == 403
    assert (await client.ask("/api/v1/models/acme/gated/repo?FilePath=a", token="hf_alice")).status == 200


async def test_login_gives_a_session_that_works_as_a_token(client):
    reply = await client.ask("/api/v1/login", "POST", body=json.dumps({"AccessToken": "hf_alice"}).encode())
    assert reply.headers["set-cookie"] == "m_session_id=hf_alice; Path=/"
    assert reply.json()["Data"]["Username"] == "alice"
    assert (await client.ask("/openapi/v1/users/me", token="hf_alice")).json()["data"]["username"] == "alice"
    bad = await client.ask("/api/v1/login", "POST", body=b'{"AccessToken": "wrong"}')
    assert (bad.status, bad.json()["Code"]) == (400, 10010103009)
    assert (await client.ask("/openapi/v1/users/me")).status == 401


async def test_listings_and_probes_answer_in_their_own_shapes(client, commit):
    assert (await client.ask("/api/v1/repos/internalAccelerationInfo")).json()["Data"] == {"InternalRegionQueryAddress": ""}
    assert (await client.ask("/openapi/v1/models/acme/tiny")).json()["data"]["id"] == "acme/tiny"
    assert (await client.ask("/openapi/v1/models/acme/nope")).json()["success"] is False
    assert (await client.ask("/openapi/v1/models?owner=acme")).json()["data"]["total_count"] == 1
    asked = json.dumps({"Path": "acme", "PageNumber": 1, "PageSize": 10}).encode()
    assert (await client.ask("/api/v1/models/", "PUT", body=asked)).json()["Data"]["Models"][0]["Name"] == "tiny"
    assert (await client.ask("/api/v1/models/", "PUT", body=b"[]")).status == 400
    assert (await client.ask(f"{BASE}/commits?Ref=master")).json()["Data"]["Commit"][0]["Id"] == commit


# Writes


async def test_a_repo_is_made_filled_and_read_again(hub, client):
    hub.add_user("tok", "alice")
    form = b'--x\r\nContent-Disposition: form-data; name="Owner"\r\n\r\nalice\r\n--x\r\n'
    form += b'Content-Disposition: form-data; name="Name"\r\n\r\ndata\r\n--x--\r\n'
    made = await client.ask("/api/v1/datasets", "POST", token="tok", body=form, Content_Type="multipart/form-data; boundary=x")
    assert made.json()["Data"]["Name"] == "data"
    again = await client.ask("/api/v1/datasets", "POST", token="tok", body=b'{"Path": "alice", "Name": "data"}')
    assert (again.status, again.json()["Code"]) == (400, 10010101001)
    base = "/api/v1/repos/datasets/alice/data"
    wanted = json.dumps({"operation": "upload", "objects": [{"oid": SHA256, "size": len(WEIGHTS)}]}).encode()
    batch = (await client.ask(f"{base}/info/lfs/objects/batch", "POST", token="tok", body=wanted)).json()["Data"]
    [missing] = batch["objects"]
    place = missing["actions"]["upload"]["href"].removeprefix("http://hub.example")
    assert (await client.ask(place, "PUT", token="tok", body=WEIGHTS[1:])).status == 400
    assert (await client.ask(place, "PUT", token="tok", body=WEIGHTS)).json()["Code"] == 200
    batch = (await client.ask(f"{base}/info/lfs/objects/batch", "POST", token="tok", body=wanted)).json()["Data"]
    assert batch["objects"] == []
    actions = [
        {"action": "create", "path": "w.bin", "type": "lfs", "sha256": SHA256},
        {"action": "create", "path": "a.txt", "type": "normal", "content": "aGk=", "encoding": "base64"},
        {"action": "delete", "path": "README.md", "type": "normal"},
    ]
    body = json.dumps({"commit_message": "m", "actions": actions}).encode()
    done = (await client.ask(f"{base}/commit/master", "POST", token="tok", body=body)).json()["Data"]
    repo = hub.repo("dataset", "alice/data")
    assert repo.head.id == done["oid"]
    assert set(repo.head.files) == {".gitattributes", "w.bin", "a.txt"}
    tagged = await client.ask(
        "/api/v1/datasets/alice/data/repo/tag", "POST", token="tok", body=b'{"TagName":"v1","Ref":"master"}'
    )
    assert (tagged.status, repo.tags["v1"]) == (200, done["oid"])
    await client.ask("/api/v1/datasets/alice/data/repo?FilePath=a.txt", "DELETE", token="tok")
    assert "a.txt" not in repo.head.files


async def test_who_is_not_known_or_not_let_in_writes_nothing(hub, client):
    hub.add_user("tok", "bob", grants=[])
    target = "/api/v1/repos/models/acme/tiny/commit/master"
    assert (await client.ask(target, "POST", body=b'{"actions": []}')).status == 401
    assert (await client.ask(target, "POST", token="tok", body=b'{"actions": []}')).status == 403
