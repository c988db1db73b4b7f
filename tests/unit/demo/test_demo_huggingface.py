from __future__ import annotations

import gc
import hashlib
import json
from urllib.parse import quote, quote_plus

import pytest
import trio

WEIGHTS = bytes(range(256)) * 40
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
FILE = "/acme/tiny/resolve/main/model.safetensors"


async def test_a_large_file_is_a_302_to_a_signed_url_with_the_hubs_own_words_on_the_first_hop(client, commit):
    reply = await client.ask(FILE, "HEAD")
    assert reply.status == 302
    assert reply.headers["location"].startswith("http://storage.example/blobs/")
    assert reply.headers["x-repo-commit"] == commit
    assert (reply.headers["x-linked-etag"], reply.headers["x-linked-size"]) == (f'"{SHA256}"', "10240")
    stored = await client.fetch(FILE)
    assert stored.body == WEIGHTS
    assert stored.headers["etag"] != f'"{SHA256}"'


async def test_a_small_file_is_a_relative_307_whose_end_repeats_the_head(client, commit):
    reply = await client.ask("/acme/tiny/resolve/main/sub/deep/vocab.txt")
    assert reply.status == 307
    assert reply.headers["location"].startswith(f"/api/resolve-cache/models/acme/tiny/{commit}/sub/deep/vocab.txt?")
    end = await client.ask(reply.headers["location"], "HEAD")
    assert (end.status, end.headers["x-repo-commit"], end.headers["content-length"]) == (200, commit, "6")
    assert end.headers["etag"] == reply.headers["x-linked-etag"] == '"ce013625030ba8dba906f756967f9e9ca394464a"'
    assert (await client.fetch("/acme/tiny/resolve/main/sub%2Fdeep%2Fvocab.txt")).body == b"hello\n"


async def test_direct_answers_need_no_redirect(hub, client):
    hub.configure({"cdn": "direct", "resolve_cache": False})
    for path, size in {"model.safetensors": 10240, "config.json": 8, "empty.txt": 0}.items():
        reply = await client.ask(f"/acme/tiny/resolve/main/{path}", "HEAD")
        assert (reply.status, reply.headers["content-length"], reply.headers["accept-ranges"]) == (200, str(size), "bytes")


@pytest.mark.parametrize(
    ("asked", "status", "start", "end"),
    [
        ("bytes=0-99", 206, 0, 100),
        ("bytes=100-", 206, 100, 10240),
        ("bytes=-40", 206, 10200, 10240),
        ("bytes=-99999", 206, 0, 10240),
        ("bytes=10239-99999", 206, 10239, 10240),
        ("bytes=5-2", 200, 0, 10240),
        ("bytes=0-1,5-6", 200, 0, 10240),
        ("bytes=0--1", 200, 0, 10240),
        ("bytes=-", 200, 0, 10240),
    ],
)
async def test_one_sane_range_is_cut_to_the_file_and_others_are_ignored(hub, client, asked, status, start, end):
    reply = await client.fetch(FILE, Range=asked)
    assert (reply.status, reply.body) == (status, WEIGHTS[start:end])
    assert reply.headers.get("content-range") == (f"bytes {start}-{end - 1}/10240" if status == 206 else None)


@pytest.mark.parametrize("asked", ["bytes=10240-", "bytes=20000-20001", "bytes=-0"])
async def test_a_range_past_the_end_is_416_with_the_size(client, asked):
    reply = await client.fetch(FILE, Range=asked)
    assert (reply.status, reply.headers["content-range"], reply.body) == (416, "bytes */10240", b"")


async def test_a_known_etag_is_304_and_another_if_range_gets_the_whole_file(hub, client):
    hub.configure({"cdn": "direct"})
    unchanged = await client.ask(FILE, If_None_Match=f'"{SHA256}"')
    assert (unchanged.status, unchanged.body, unchanged.complete) == (304, b"", True)
    assert (await client.ask(FILE, Range="bytes=0-1", If_Range='"other"')).status == 200
    assert (await client.ask(FILE, Range="bytes=0-1", If_Range=f'"{SHA256}"')).status == 206


async def test_xet_is_advertised_in_four_places_and_can_be_switched_off(hub, client, commit):
    head = (await client.ask(FILE, "HEAD")).headers
    assert len(head["x-xet-hash"]) == 64
    assert head["link"] == f'<{head["x-xet-refresh-route"]}>; rel="xet-auth"'
    tree = (await client.ask("/api/models/acme/tiny/tree/main")).json()
    info = (await client.ask("/api/models/acme/tiny/paths-info/main", "POST", body=b"paths=model.safetensors")).json()
    assert [entry["xetHash"] for entry in tree if "lfs" in entry] == [info[0]["xetHash"]] == [head["x-xet-hash"]]
    assert (await client.ask(FILE, Range="bytes=0-9")).headers["x-xet-hash"] == head["x-xet-hash"]
    assert (await client.ask(head["x-xet-refresh-route"].removeprefix("http://hub.example"))).status == 404
    hub.configure({"xet": False})
    assert not {"x-xet-hash", "link", "x-xet-refresh-route"} & (await client.ask(FILE, "HEAD")).headers.keys()
    assert "xetHash" not in (await client.ask("/api/models/acme/tiny/tree/main")).body.decode()


async def test_info_names_the_commit_and_its_files(client, commit):
    info = (await client.ask("/api/models/acme/tiny?blobs=true")).json()
    assert (info["id"], info["sha"], info["private"], info["gated"]) == ("acme/tiny", commit, False, False)
    assert info["lastModified"] == "2024-01-01T00:00:00.000Z"
    weights = next(one for one in info["siblings"] if one["rfilename"] == "model.safetensors")
    assert weights["lfs"] == {"sha256": SHA256, "size": 10240, "pointerSize": 130}
    assert (await client.ask(f"/api/models/acme/tiny/revision/{commit}?expand=sha")).json().keys() == {"_id", "id", "sha"}
    assert (await client.ask("/api/models/acme/tiny/revision/HEAD")).json()["sha"] == commit


async def test_a_tree_comes_in_pages_joined_by_absolute_links(hub, client):
    hub.configure({"page_entries": 2})
    target, paths = "/api/models/acme/tiny/tree/main?recursive=True", []
    while target:
        reply = await client.ask(target)
        paths += [entry["path"] for entry in reply.json()]
        link = reply.headers.get("link", "")
        assert link.startswith("<http://hub.example/api/models/acme/tiny/tree/main?recursive=True&") or not link
        target = link.removeprefix("<http://hub.example").partition(">")[0]
    assert paths == ["config.json", "empty.txt", "model.safetensors", "sub", "sub/deep", "sub/deep/vocab.txt"]


async def test_a_tree_may_start_at_a_directory_and_carry_commits(client, commit):
    entry = (await client.ask("/api/models/acme/tiny/tree/main/sub%2Fdeep?expand=true")).json()[0]
    assert (entry["path"], entry["type"], entry["lastCommit"]["id"]) == ("sub/deep/vocab.txt", "file", commit)


async def test_paths_info_takes_forms_and_json_and_leaves_out_what_is_missing(client):
    target = "/api/models/acme/tiny/paths-info/main"
    form = await client.ask(target, "POST", body=b"paths=config.json&paths=sub&paths=nope&expand=false")
    asked = json.dumps({"paths": ["config.json", "sub", "nope"]}).encode()
    by_json = await client.ask(target, "POST", body=asked, Content_Type="application/json")
    assert form.json() == by_json.json()
    assert [(entry["path"], entry["type"]) for entry in form.json()] == [("config.json", "file"), ("sub", "directory")]
    assert (await client.ask(target, "POST", body=b"{", Content_Type="application/json")).status == 400


async def test_refs_and_commits_tell_the_history(hub, client, commit):
    repo = hub.repo("model", "acme/tiny")
    repo.tag("v1")
    second = repo.commit({"config.json": b"{}"}, title="Change")
    pull = repo.commit({"config.json": b"[]"}, branch="refs/pr/1")
    refs = (await client.ask("/api/models/acme/tiny/refs?include_prs=1")).json()
    assert refs["branches"] == [{"name": "main", "ref": "refs/heads/main", "targetCommit": second}]
    assert refs["tags"] == [{"name": "v1", "ref": "refs/tags/v1", "targetCommit": commit}]
    assert refs["pullRequests"][0]["targetCommit"] == pull
    commits = await client.ask("/api/models/acme/tiny/commits/main?limit=1")
    assert ([one["id"] for one in commits.json()], "p=1" in commits.headers["link"]) == ([second], True)
    assert (await client.ask("/api/models/acme/tiny/commits/main?limit=1&p=1")).json()[0]["id"] == commit


@pytest.mark.parametrize("revision", ["refs%2Fpr%2F1", "refs/pr/1"])
async def test_a_pull_request_may_be_quoted_or_not(hub, client, revision):
    pull = hub.repo("model", "acme/tiny").commit({"config.json": b"[]"}, branch="refs/pr/1")
    assert (await client.ask(f"/acme/tiny/resolve/{revision}/config.json", "HEAD")).headers["x-repo-commit"] == pull
    assert (await client.ask(f"/api/models/acme/tiny/revision/{revision}")).json()["sha"] == pull


async def test_each_kind_and_old_one_word_names_have_their_own_paths(hub, client):
    data = hub.add_repo("dataset", "acme/tiny", {"x.csv": b"1"})
    old = hub.add_repo("model", "gpt2", {"x.csv": b"2"})
    assert (await client.fetch("/datasets/acme/tiny/resolve/main/x.csv")).headers["x-repo-commit"] == data
    assert (await client.fetch("/gpt2/resolve/main/x.csv")).headers["x-repo-commit"] == old
    assert (await client.ask("/api/datasets/acme/tiny")).json()["sha"] == data
    assert (await client.ask("/api/models/gpt2/refs")).json()["branches"][0]["targetCommit"] == old


async def test_errors_carry_the_code_that_clients_map(client, commit):
    entry = await client.ask("/acme/tiny/resolve/main/nope.json", "HEAD")
    assert (entry.status, entry.headers["x-error-code"], entry.headers["x-repo-commit"]) == (404, "EntryNotFound", commit)
    assert (await client.ask("/api/models/acme/tiny/tree/main/nope")).headers["x-error-code"] == "EntryNotFound"
    revision = await client.ask("/api/models/acme/tiny/revision/nope")
    assert (revision.status, revision.headers["x-error-code"]) == (404, "RevisionNotFound")
    known = await client.ask("/api/models/acme/nope", token="hf_alice")
    assert (known.status, known.headers["x-error-code"]) == (404, "RepoNotFound")
    assert (await client.ask("/api/agent-harnesses")).status == 404
    assert (await client.ask("/api/models/acme/tiny", "DELETE")).status == 405


async def test_a_stranger_cannot_tell_a_private_repo_from_none(hub, client):
    hub.add_repo("model", "acme/secret", {"config.json": b"{}", "w.bin": b"s"}, private=True)
    hub.add_user("hf_bob", "bob", grants=["acme/other"])
    for token, status, code in ((None, 401, None), ("hf_nobody", 401, None), ("hf_bob", 404, "RepoNotFound")):
        for name in ("secret", "none"):
            reply = await client.ask(f"/acme/{name}/resolve/main/config.json", "HEAD", token=token)
            assert (reply.status, reply.headers.get("x-error-code")) == (status, code)
    assert (await client.ask("/acme/secret/resolve/main/config.json", token="hf_alice")).body == b"{}"
    assert (await client.fetch("/acme/secret/resolve/main/w.bin", token="hf_alice")).body == b"s"
    assert (await client.ask("/api/models?search=SECRET")).json() == []
    assert [one["id"] for one in (await client.ask("/api/models?search=SECRET", token="hf_alice")).json()] == ["acme/secret"]


async def test_a_gated_repo_is_listed_for_all_and_given_to_those_who_were_let_in(hub, client):
    hub.add_repo("model", "acme/gated", {"config.json": b"{}"}, gated=True)
    hub.add_user("hf_bob", "bob", grants=[])
    assert (await client.ask("/api/models/acme/gated")).json()["gated"] == "auto"
    for token, status in ((None, 401), ("hf_nobody", 401), ("hf_bob", 403)):
        reply = await client.ask("/acme/gated/resolve/main/config.json", token=token)
        assert (reply.status, reply.headers["x-error-code"]) == (status, "GatedRepo")
        assert (await client.ask("/api/models/acme/gated/auth-check", token=token)).status == status
    assert (await client.ask("/acme/gated/resolve/main/config.json", token="hf_alice")).status == 200


@pytest.mark.parametrize(
    "path", ["../evil", "/abs", "a\\b", "nul\0", "x" * 5000, "Config.json", "name with +#&%?.txt", "日本.bin"]
)
async def test_names_that_a_daemon_must_survive_can_be_served(hub, client, path):
    hub.add_repo("model", "acme/hostile", {path: b"1", "config.json": b"2"})
    assert path in {entry["path"] for entry in (await client.ask("/api/models/acme/hostile/tree/main?recursive=true")).json()}
    assert (await client.fetch(f"/acme/hostile/resolve/main/{quote(path)}")).body == b"1"
    by_query = await client.fetch(f"/api/v1/models/acme/hostile/repo?Revision=master&FilePath={quote_plus(path)}")
    assert by_query.body == b"1"


async def test_whoami_knows_tokens(client):
    assert (await client.ask("/api/whoami-v2", token="hf_alice")).json()["name"] == "alice"
    assert (await client.ask("/api/whoami-v2", token="hf_other")).status == 401


async def test_an_old_name_leads_to_the_new_one_and_keeps_the_query(hub, client):
    hub.rename("acme/tiny", "acme/small")
    for old in ("/api/models/acme/tiny?blobs=true", "/api/models/Acme/Small?blobs=true"):
        reply = await client.ask(old)
        assert (reply.status, reply.headers["location"]) == (307, "/api/models/acme/small?blobs=true")
    assert (await client.fetch(FILE)).body == WEIGHTS


async def test_storage_refuses_credentials_old_urls_and_forged_ones(hub, client, autojump_clock):
    location = (await client.ask(FILE)).headers["location"]
    assert (await client.ask(location)).status == 200
    assert (await client.ask(location, token="hf_alice")).status == 400
    assert hub.stats()["auth_leaks"] == 1
    assert (await client.ask(location.replace("signature=", "signature=0"))).status == 403
    await trio.sleep(hub.storage.lifetime_s + 2)
    assert (await client.ask(location)).status == 403


async def test_a_repo_that_is_removed_takes_its_bytes_along(hub, client):
    moved = await client.ask(FILE)
    hub.remove_repo("model", "acme/tiny")
    gc.collect()
    assert (await client.ask(FILE)).status == 401
    assert (await client.fetch(moved.headers["location"])).status == 404
