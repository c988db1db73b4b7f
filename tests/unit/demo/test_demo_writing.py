"""Uploads to the demo hub: in the LFS way, in parts, by Xet; and the repo that git sees."""

from __future__ import annotations

import base64
import hashlib
import json
import struct

import pytest

from p2pmodel.demo import git
from p2pmodel.demo.repos import Content
from p2pmodel.demo.xet import _chunks

DATA = bytes(range(256)) * 20
CDN = "http://storage.example"
OID = hashlib.sha256(DATA).hexdigest()
BATCH = "/alice/new.git/info/lfs/objects/batch"


@pytest.fixture
def alice(hub):
    hub.add_user("hf_alice", "alice", grants=[])
    return "hf_alice"


async def post(client, target, value, token, **headers):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return await client.ask(target, "POST", token=token, body=body, **headers)


@pytest.fixture
async def new(client, alice):
    assert (await post(client, "/api/repos/create", {"name": "new", "type": "model"}, alice)).status == 200
    return "/api/models/alice/new"


async def commit(client, token, *lines, query=""):
    body = b"\n".join(json.dumps({"key": key, "value": value}).encode() for key, value in lines)
    return await post(client, f"/api/models/alice/new/commit/main{query}", body, token)


def small(path, data):
    return "file", {"path": path, "content": base64.b64encode(data).decode(), "encoding": "base64"}


def large(path):
    return "lfsFile", {"path": path, "algo": "sha256", "oid": OID, "size": len(DATA)}


async def wanted(client, token, **more):
    asked = {"operation": "upload", "objects": [{"oid": OID, "size": len(DATA)}], **more}
    [answer] = (await post(client, BATCH, asked, token)).json()["objects"]
    return answer.get("actions")


async def test_a_repo_is_made_once_and_only_by_somebody(client, new, alice):
    assert (await post(client, "/api/repos/create", {"name": "new"}, alice)).status == 409
    assert (await post(client, "/api/repos/create", {"name": "other"}, None)).status == 401
    assert (await client.ask(new)).json()["sha"]


async def test_a_file_goes_to_storage_and_into_a_commit(hub, client, new, alice):
    actions = await wanted(client, alice)
    assert (await client.ask(actions["upload"]["href"], "PUT", body=DATA)).status == 200
    done = (await commit(client, alice, ("header", {"summary": "t"}), small("a.json", b"{}"), large("w.bin"))).json()
    repo = hub.repo("model", "alice/new")
    assert repo.head.id == done["commitOid"]
    assert (repo.head.files["w.bin"].content.body, repo.head.files["a.json"].content.body) == (DATA, b"{}")
    assert await wanted(client, alice) is None  # it is there


async def test_a_file_comes_in_parts(hub, client, new, alice):
    hub.huggingface.writing.part_bytes = 2000
    actions = await wanted(client, alice, transfers=["basic", "multipart"])
    header = actions["upload"]["header"]
    parts = []
    for number in (3, 1, 2):
        piece = DATA[(number - 1) * 2000 : number * 2000]
        reply = await client.ask(header[f"{number:05}"], "PUT", body=piece)
        parts.append({"partNumber": number, "etag": reply.headers["etag"]})
    path = actions["upload"]["href"].removeprefix("http://hub.example")
    assert (await post(client, path, {"oid": OID, "parts": parts[:2]}, alice)).status == 400
    for number in (3, 1, 2):
        await client.ask(header[f"{number:05}"], "PUT", body=DATA[(number - 1) * 2000 : number * 2000])
    assert (await post(client, path, {"oid": OID, "parts": parts}, alice)).status == 200
    assert (await commit(client, alice, large("w.bin"))).status == 200


async def test_what_did_not_come_or_is_something_else_is_refused(client, new, alice):
    actions = await wanted(client, alice)
    assert (await client.ask(actions["upload"]["href"], "PUT", body=b"other")).status == 400
    assert (await client.ask(actions["upload"]["href"], "PUT", token=alice, body=DATA)).status == 400
    assert (await client.ask(actions["upload"]["href"].replace("signature=", "signature=0"), "PUT", body=DATA)).status == 403
    assert (await commit(client, alice, large("w.bin"))).status == 400


async def test_others_may_not_write(hub, client, new):
    hub.add_user("hf_bob", "bob", grants=[])
    assert (await commit(client, "hf_bob", small("a", b""))).status == 403
    assert (await post(client, BATCH, {"operation": "upload", "objects": []}, None)).status == 401


async def test_a_commit_may_be_a_pull_request_and_files_go_too(hub, client, new, alice):
    await commit(client, alice, small("a/1", b"1"), small("a/2", b"2"), small("b", b"3"))
    proposed = (await commit(client, alice, ("deletedFolder", {"path": "a"}), query="?create_pr=1")).json()
    repo = hub.repo("model", "alice/new")
    assert proposed["pullRequestUrl"].endswith("/discussions/1")
    assert set(repo.resolve("refs/pr/1").files) == {".gitattributes", "b"}
    assert "a/1" in repo.head.files


# Xet


def xorb_of(*chunks):
    """Chunks with their schemes and unpacked sizes, as a client packs them."""
    heads = (
        b"\0" + len(data).to_bytes(3, "little") + bytes([scheme]) + size.to_bytes(3, "little") for data, scheme, size in chunks
    )
    return b"".join(head + data for head, (data, _, _) in zip(heads, chunks, strict=True))


async def test_xorbs_and_a_shard_make_a_file(hub, client, new, alice):
    told = await client.ask(f"{new}/xet-write-token/main", token=alice)
    token = told.headers["x-xet-access-token"]
    assert told.json()["casUrl"] == f"{CDN}/cas"
    raw = bytes(range(32))
    name = "".join(f"{number:016x}" for number in struct.unpack("<4Q", raw))
    xorb = xorb_of((DATA[:3000], 0, 3000), (DATA[3000:], 0, len(DATA) - 3000))
    assert (await post(client, f"{CDN}/cas/v1/xorbs/default/{name}", xorb, token)).json() == {"was_inserted": True}
    header = raw + struct.pack("<II8x", 0, 1)
    shard = bytes(48) + header + raw + struct.pack("<IIII", 0, len(DATA), 0, 2) + b"\xff" * 32 + bytes(16)
    assert (await post(client, f"{CDN}/cas/v1/shards", shard, None)).status == 401
    assert (await post(client, f"{CDN}/cas/v1/shards", shard, token)).json() == {"result": 1}
    assert (await commit(client, alice, large("w.bin"))).status == 200
    assert hub.repo("model", "alice/new").head.files["w.bin"].content.body == DATA
    assert hub.repo("model", "alice/new").head.files["w.bin"].content.xet_hash == name  # as the client says
    assert hub.stats()["auth_leaks"] == 0


async def test_a_xorb_may_come_to_a_signed_place(hub, client, new, alice):
    token = (await client.ask(f"{new}/xet-write-token/main", token=alice)).headers["x-xet-access-token"]
    ways = {way: f"{CDN}/cas/v1/xorb-{way}/default/{OID}" for way in ("grants", "commits")}
    commit_it = f"{ways['commits']}/grant/g-1"
    grant = (await post(client, ways["grants"], {"length": 1}, token)).json()
    assert (await post(client, commit_it, {}, token)).status == 404
    for url, status in ((grant["url"].replace("Signature=", "Signature=0"), 403), (grant["url"], 200)):
        answer = await client.ask(url, grant["method"], body=xorb_of((DATA, 0, len(DATA))), **grant["headers"])
        assert answer.status == status
    assert (await post(client, commit_it, {}, token)).json() == {"was_inserted": True}
    assert (await post(client, ways["grants"], {"length": 1}, token)).json() == {}
    hub.huggingface.writing.xet.grants = False
    assert (await post(client, ways["grants"], {"length": 1}, token)).status == 404


def test_packed_chunks_are_unpacked():
    # "abcabcabc…" as LZ4: three literals, then a match three back of 4 + 15 + 2 bytes; last literals "vwxyz".
    block = b"\x3fabc\x03\x00\x02" + b"\x50vwxyz"
    frame = b"\x04\x22\x4d\x18\x40\x40\xc0" + struct.pack("<I", len(block)) + block + bytes(4)
    plain = b"abc" * 8 + b"vwxyz"
    assert list(_chunks(xorb_of((frame, 1, len(plain))))) == [plain]
    grouped = bytes(byte for place in range(4) for byte in plain[place::4])
    stored = b"\x04\x22\x4d\x18\x40\x40\xc0" + struct.pack("<I", len(grouped) | 1 << 31) + grouped + bytes(4)
    assert list(_chunks(xorb_of((stored, 2, len(plain))))) == [plain]


# Git


def test_ids_are_those_that_git_computes():
    assert git.object_id(2, b"") == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
    assert git.object_id(3, b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"
    oids = {"a/b": "ce013625030ba8dba906f756967f9e9ca394464a", "a.c": "ce013625030ba8dba906f756967f9e9ca394464a"}
    assert [body.split(b"\0")[0] for body in git.trees(oids).values()] == [b"100644 b", b"100644 a.c"]  # a.c before a/


def test_trees_may_be_as_deep_as_a_path_allows():
    assert len(git.trees({"a/" * 2000 + "b": "ce013625030ba8dba906f756967f9e9ca394464a"})) == 2001


async def test_a_pack_holds_all_that_a_clone_needs(hub, client):
    commit_id = hub.repo("model", "acme/tiny").head.id
    refs = (await client.ask("/acme/tiny.git/info/refs?service=git-upload-pack")).body
    assert refs.startswith(b"001e# service=git-upload-pack\n0000")
    assert commit_id.encode() in refs
    want = b"0032want " + commit_id.encode() + b"\n" + b"0000" + b"0009done\n"
    reply = await client.ask("/acme/tiny/git-upload-pack", "POST", body=want)
    assert reply.body.startswith(b"0008NAK\nPACK")
    assert reply.body[-20:] == hashlib.sha1(reply.body[8:-20], usedforsecurity=False).digest()
    other = want.replace(commit_id.encode(), b"0" * 40)
    assert (await client.ask("/acme/tiny/git-upload-pack", "POST", body=other)).status == 400


def test_a_pointer_is_what_git_holds_of_a_large_file():
    assert Content.of(DATA).pointer.startswith(b"version https://git-lfs.github.com/spec/v1\noid sha256:" + OID.encode())
