import json

import pytest

from p2pmodel.content import Hub, Repo, RepoKind
from p2pmodel.errors import (
    GatedRepoError,
    NotAuthorisedError,
    RateLimitedError,
    RevisionNotFoundError,
    StoreFullError,
    UnavailableError,
    WrongAnswerError,
)

COMMIT = "c0ffee" + "0" * 34
WEIGHTS = bytes(range(256)) * 4
SHA256 = "785b0751fc2c53dc14a4ce3d800e69ef9ce1009eb327ccf458afe09c242c26c9"
LISTING = [
    {"type": "directory", "oid": "d1", "size": 0, "path": "sub"},
    {"type": "file", "oid": "f1", "size": 2, "path": "a.json"},
    {"type": "file", "oid": "f2", "size": 1024, "path": "sub/w.bin", "lfs": {"oid": SHA256, "size": 1024, "pointerSize": 129}},
    {"type": "directory", "oid": "d2", "size": 0, "path": "sub/deep"},
    {"type": "file", "oid": "f3", "size": 1, "path": "sub/deep/x"},
]
RESOLVE = "/org/model/resolve/main/sub/w.bin"


@pytest.fixture
def repo(rig):
    repo = rig.add("org/model", {"a.json": b"{}", "sub/w.bin": WEIGHTS, "sub/deep/x": b"x", "empty": b"", "odd": b"no hash"})
    rig.delivery.hashless.add("odd")
    rig.delivery.listings[repo] = json.dumps(LISTING).encode()
    rig.delivery.infos[repo] = json.dumps(
        {"id": "org/model", "sha": COMMIT, "siblings": [{"rfilename": "a.json", "size": 2, "blobId": "f1"}]}
    ).encode()
    return repo


# Files


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_a_file_is_described_alike_on_head_and_get(rig, repo, method):
    answer = await rig.get(RESOLVE, method=method)
    expected = {
        "x-repo-commit": COMMIT,
        "etag": f'"{SHA256}"',
        "x-linked-etag": f'"{SHA256}"',
        "x-linked-size": "1024",
        "content-length": "1024",
        "accept-ranges": "bytes",
        "content-disposition": "attachment; filename*=UTF-8''w.bin",
        "x-p2pmodel-source": "store",
    }
    assert answer.status == 200
    assert expected.items() <= answer.headers.items()
    assert not {"content-encoding", "x-xet-hash", "link", "location"} & answer.headers.keys()
    assert answer.body == (WEIGHTS if method == "GET" else b"")


async def test_a_head_reads_no_byte(rig, repo):
    await rig.get(RESOLVE, method="HEAD")
    assert len(rig.delivery.asked) == 1


async def test_a_small_file_is_named_by_its_git_hash(rig, repo):
    assert (await rig.get("/org/model/resolve/main/a.json", method="HEAD")).headers[
        "etag"
    ] == '"9e26dfeeb6e641a33dae4961196235bdb965b21b"'


@pytest.mark.parametrize(
    ("asked", "content_range", "body"),
    [
        ("bytes=0-0", "bytes 0-0/1024", WEIGHTS[:1]),
        ("bytes=1000-", "bytes 1000-1023/1024", WEIGHTS[1000:]),
        ("bytes=-4", "bytes 1020-1023/1024", WEIGHTS[-4:]),
        ("bytes=1020-9999", "bytes 1020-1023/1024", WEIGHTS[1020:]),
    ],
)
async def test_a_range_is_a_206(rig, repo, asked, content_range, body):
    answer = await rig.get(RESOLVE, f"Range: {asked}")
    assert (answer.status, answer.headers["content-range"], answer.body) == (206, content_range, body)
    assert answer.headers["x-p2pmodel-source"] == "store"


async def test_a_range_behind_the_end_is_a_416_that_names_the_size(rig, repo):
    answer = await rig.get(RESOLVE, "Range: bytes=1024-")
    assert (answer.status, answer.headers["content-range"]) == (416, "bytes */1024")
    assert answer.headers["x-p2pmodel-source"] == "store"


async def test_several_ranges_are_answered_whole(rig, repo):
    answer = await rig.get(RESOLVE, "Range: bytes=0-1,4-5")
    assert (answer.status, answer.body) == (200, WEIGHTS)


async def test_an_empty_file_can_be_probed(rig, repo):
    answer = await rig.get("/org/model/resolve/main/empty", "Range: bytes=0-0")
    assert (answer.status, answer.headers["content-range"], answer.body) == (206, "bytes */0", b"")


async def test_a_changed_file_is_sent_whole_instead_of_a_range(rig, repo):
    same = await rig.get(RESOLVE, "Range: bytes=0-1", f'If-Range: "{SHA256}"')
    other = await rig.get(RESOLVE, "Range: bytes=0-1", 'If-Range: "else"')
    dated = await rig.get(RESOLVE, "Range: bytes=0-1", "If-Range: Sat, 21 Nov 2026 00:00:00 GMT")
    assert [answer.status for answer in (same, other, dated)] == [206, 200, 200]


@pytest.mark.parametrize("known", [f'"{SHA256}"', f'W/"{SHA256}"', f'"x", "{SHA256}"', "*"])
async def test_what_a_client_has_already_is_a_304(rig, repo, known):
    answer = await rig.get(RESOLVE, f"If-None-Match: {known}")
    assert (answer.status, answer.headers["x-repo-commit"], answer.body) == (304, COMMIT, b"")
    assert answer.headers["x-p2pmodel-source"] == "store"


@pytest.mark.parametrize(
    ("target", "repo"),
    [
        ("/datasets/org/data/resolve/main/f", Repo(Hub.HUGGINGFACE, RepoKind.DATASET, "org/data")),
        ("/spaces/org/app/resolve/main/f", Repo(Hub.HUGGINGFACE, RepoKind.SPACE, "org/app")),
        ("/gpt2/resolve/main/f", Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "gpt2")),
        ("/datasets/squad/resolve/main/f", Repo(Hub.HUGGINGFACE, RepoKind.DATASET, "squad")),
        ("/kernels/org/kernel/resolve/main/f", Repo(Hub.HUGGINGFACE, RepoKind.KERNEL, "org/kernel")),
    ],
)
async def test_every_kind_of_repo_is_found(rig, target, repo):
    rig.delivery.repos[repo] = {"f": b"bytes"}
    assert (await rig.get(target)).body == b"bytes"


async def test_raw_is_what_git_holds(rig, repo):
    pointer = await rig.get("/org/model/raw/main/sub/w.bin")
    assert pointer.body == f"version https://git-lfs.github.com/spec/v1\noid sha256:{SHA256}\nsize 1024\n".encode()
    assert pointer.headers["x-repo-commit"] == COMMIT
    assert pointer.headers["x-p2pmodel-source"] == "store"
    assert (await rig.get("/org/model/raw/main/a.json")).body == b"{}"
    assert (await rig.get("/org/model/raw/main/odder")).headers["x-error-code"] == "EntryNotFound"


async def test_git_finds_large_files_here(rig, repo):
    asked = {"operation": "download", "objects": [{"oid": SHA256, "size": 1024}], "ref": {"name": "refs/heads/main"}}
    body = json.dumps(asked).encode()
    password = "Basic YWxpY2U6aGZfYWxpY2U="
    headers = (f"Content-Length: {len(body)}", f"Authorization: {password}")
    answer = await rig.get("/org/model.git/info/lfs/objects/batch", *headers, method="POST", body=body)
    assert answer.headers["content-type"].startswith("application/vnd.git-lfs+json")
    download = answer.json()["objects"][0]["actions"]["download"]
    assert download["href"] == f"http://localhost:{rig.port}/org/model/resolve/{COMMIT}/sub/w.bin"
    assert download["header"] == {"Authorization": password}
    assert rig.delivery.asked[-1][-1].token == "hf_alice"
    assert rig.upstreams.requests == []


@pytest.mark.parametrize("target", ["/org/model/info/lfs/objects/batch", "/org/none.git/info/lfs/objects/batch"])
async def test_git_is_sent_to_the_hub_for_what_is_of_another_commit_or_not_for_it(rig, repo, target):
    rig.upstreams.body = b'{"objects": []}'
    body = json.dumps({"operation": "download", "objects": [{"oid": "0" * 64, "size": 1024}]}).encode()
    answer = await rig.get(target, f"Content-Length: {len(body)}", method="POST", body=body)
    assert (answer.status, len(rig.upstreams.requests)) == (200, 1)
    assert rig.upstreams.bodies == [body]


async def test_parquet_listings_lead_here(rig, repo):
    rig.upstreams.home = "https://hub.example"
    rig.upstreams.body = (
        b'{"default": {"train": ["https://hub.example/api/datasets/org/data/parquet/default/train/0.parquet"]}}'
    )
    answer = await rig.get("/api/datasets/org/data/parquet")
    [url] = answer.json()["default"]["train"]
    assert url == f"http://localhost:{rig.port}/api/datasets/org/data/parquet/default/train/0.parquet"


async def test_a_file_without_a_usable_hash_is_left_to_the_hub(rig, repo):
    rig.upstreams.body = b"no hash"
    assert (await rig.get("/org/model/resolve/main/odd")).body == b"no hash"
    assert rig.upstreams.requests[0].target == "/org/model/resolve/main/odd"


# Errors


async def test_a_missing_file_names_the_commit_so_that_clients_remember(rig, repo):
    answer = await rig.get("/org/model/resolve/main/nothing", method="HEAD")
    assert answer.status == 404
    assert (answer.headers["x-error-code"], answer.headers["x-repo-commit"]) == ("EntryNotFound", COMMIT)


@pytest.mark.parametrize("name", ["org/nothing", "..", "org/.hidden", "a b"])
async def test_a_missing_repo_is_said_so_in_the_code(rig, name):
    answer = await rig.get(f"/api/models/{name.replace(' ', '%20')}/tree/main")
    assert (answer.status, answer.headers["x-error-code"]) == (404, "RepoNotFound")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RevisionNotFoundError("no such revision"), 404, "RevisionNotFound"),
        (GatedRepoError("gated"), 403, "GatedRepo"),
        (NotAuthorisedError("who are you?"), 401, "RepoNotFound"),
        (UnavailableError("nobody has it"), 504, None),
        (RateLimitedError("patience", retry_after_s=7.2), 429, None),
        (StoreFullError("no room"), 507, None),
        (WrongAnswerError("the hub is odd"), 502, None),
    ],
)
async def test_each_error_has_its_status_and_code(rig, repo, error, status, code):
    rig.delivery.failure = error
    answer = await rig.get(RESOLVE)
    assert (answer.status, answer.headers.get("x-error-code")) == (status, code)
    assert str(error) in answer.json()["error"]
    assert answer.headers.get("retry-after") == ("8" if isinstance(error, RateLimitedError) else None)


async def test_an_error_in_other_words_still_fits_a_header(rig, repo):
    rig.delivery.failure = UnavailableError("Größe\r\nX-Evil: 1", next_step="Warten.")
    answer = await rig.get(RESOLVE)
    assert answer.headers["x-error-message"] == "Gr??e X-Evil: 1 Warten."
    assert "x-evil" not in answer.headers


# The API


@pytest.mark.parametrize(
    "target", ["/api/models/org/model", "/api/models/org/model/revision/main", "/api/models/org/model?blobs=False"]
)
async def test_info_is_the_hubs_own_with_the_names_of_the_files(rig, repo, target):
    assert (await rig.get(target)).json() == {"id": "org/model", "sha": COMMIT, "siblings": [{"rfilename": "a.json"}]}


async def test_info_has_sizes_for_those_who_ask(rig, repo):
    answer = await rig.get("/api/models/org/model?blobs=true")
    assert answer.json()["siblings"] == [{"rfilename": "a.json", "size": 2, "blobId": "f1"}]


@pytest.mark.parametrize(
    ("target", "paths"),
    [
        ("/tree/main?recursive=true&expand=false", ["sub", "a.json", "sub/w.bin", "sub/deep", "sub/deep/x"]),
        ("/tree/main?recursive=True", ["sub", "a.json", "sub/w.bin", "sub/deep", "sub/deep/x"]),
        ("/tree/main", ["sub", "a.json"]),
        ("/tree/main/sub", ["sub/w.bin", "sub/deep"]),
        ("/tree/main/sub?recursive=1", ["sub/w.bin", "sub/deep", "sub/deep/x"]),
        ("/tree/main/sub%2Fdeep", ["sub/deep/x"]),
        ("/tree/refs%2Fpr%2F1/sub/deep", ["sub/deep/x"]),
    ],
)
async def test_a_tree_comes_in_one_page_as_the_hub_wrote_it(rig, repo, target, paths):
    answer = await rig.get("/api/models/org/model" + target)
    assert answer.json() == [entry for entry in LISTING if entry["path"] in paths]
    assert "link" not in answer.headers


async def test_a_tree_of_a_missing_directory_is_a_missing_entry(rig, repo):
    answer = await rig.get("/api/models/org/model/tree/main/additional_chat_templates")
    assert (answer.status, answer.headers["x-error-code"]) == (404, "EntryNotFound")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-www-form-urlencoded", b"paths=sub%2Fw.bin&paths=sub&paths=nothing&expand=False"),
        ("application/json", b'{"paths":["sub/w.bin","sub","nothing"],"expand":false}'),
    ],
)
async def test_paths_info_leaves_out_what_is_not_there(rig, repo, content_type, body):
    answer = await rig.get(
        "/api/models/org/model/paths-info/main",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        method="POST",
        body=body,
    )
    assert [entry["path"] for entry in answer.json()] == ["sub", "sub/w.bin"]


@pytest.mark.parametrize("body", [b"{", b'{"paths":7}', b"\xff"])
async def test_paths_that_cannot_be_read_are_refused(rig, repo, body):
    answer = await rig.get(
        "/api/models/org/model/paths-info/main",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        method="POST",
        body=body,
    )
    assert answer.status == 400


async def test_what_only_the_hub_knows_is_asked_of_it_without_leading_to_xet(rig, repo):
    rig.upstreams.body = b'[{"path":"a.json","xetHash":"ab","lfs":{"size":1},"lastCommit":{"id":"1"}}]'
    answer = await rig.get("/api/models/org/model/tree/main?expand=true")
    assert answer.json() == [{"path": "a.json", "lfs": {"size": 1}, "lastCommit": {"id": "1"}}]


@pytest.mark.parametrize("target", ["/api/models/org/model", f"/api/models/org/model/revision/{COMMIT}?blobs=true"])
async def test_when_the_hub_is_gone_the_listing_tells_about_the_repo(rig, repo, target):
    del rig.delivery.infos[repo]
    about = (await rig.get(target)).json()
    assert (about["id"], about["sha"], about["private"]) == ("org/model", COMMIT, False)
    assert [sibling["rfilename"] for sibling in about["siblings"]] == list(rig.delivery.repos[repo])
    assert ("size" in about["siblings"][0]) == ("blobs" in target)


async def test_when_the_hub_is_gone_a_listing_has_what_older_clients_read_without_asking(rig, repo):
    """0.17 takes `lastCommit` of every entry."""
    rig.upstreams.down = True
    tree = (await rig.get("/api/models/org/model/tree/main?expand=true")).json()
    assert [entry["lastCommit"]["id"] for entry in tree] == [COMMIT] * 2
    assert (await rig.get("/api/models/org/model?expand=sha")).json()["sha"] == COMMIT
    body = b"paths=a.json&expand=true"
    answer = await rig.get("/api/models/org/model/paths-info/main", f"Content-Length: {len(body)}", method="POST", body=body)
    assert [entry["lastCommit"]["id"] for entry in answer.json()] == [COMMIT]


async def test_when_the_hub_is_gone_the_branch_that_is_known_is_named(rig, repo):
    rig.upstreams.down = True
    refs = (await rig.get("/api/models/org/model/refs")).json()
    assert refs["branches"] == [{"name": "main", "ref": "refs/heads/main", "targetCommit": COMMIT}]
    assert (refs["tags"], refs["converts"]) == ([], [])


@pytest.fixture
def revisions(rig, monkeypatch):
    """What delivery is asked for."""
    asked = []
    answer = rig.delivery.snapshot

    async def snapshot(repo, revision, access):
        asked.append(revision)
        return await answer(repo, revision, access)

    monkeypatch.setattr(rig.delivery, "snapshot", snapshot)
    return asked


async def test_who_asks_for_branches_finds_the_default_one_again_without_the_hub(rig, repo, revisions):
    rig.upstreams.body = b'{"branches":[],"converts":[],"tags":[]}'
    assert (await rig.get("/api/models/org/model/refs")).body == rig.upstreams.body
    assert revisions == ["main"]


async def test_head_is_the_default_branch(rig, repo, revisions):
    assert (await rig.get("/api/models/org/model/revision/HEAD")).json()["sha"] == COMMIT
    assert revisions[0] == "main"
    assert "HEAD" not in revisions


# Passing on


@pytest.mark.parametrize(
    "target",
    [
        "/api/whoami-v2",
        "/api/models?search=bert&limit=5",
        "/api/models/org/model/refs",
        "/api/models/gpt2/refs",
        "/api/models/org/model/commits/main",
        "/api/agent-harnesses",
        "/org/model.git/info/refs?service=git-upload-pack",
        "/",
    ],
)
async def test_other_routes_are_passed_on_as_they_are(rig, target):
    answer = await rig.get(target, "Authorization: Bearer hf_x")
    assert answer.json() == {}
    request = rig.upstreams.requests[0]
    assert (request.hub, request.method, request.target) == (Hub.HUGGINGFACE, "GET", target)
    assert ("authorization", "Bearer hf_x") in request.headers
    assert request.body is None


async def test_links_of_the_hub_lead_back_to_us_as_the_client_names_us(rig):
    rig.upstreams.headers = [("Link", '<{endpoint}/api/models?cursor=2>; rel="next"')]
    host = f"127.0.0.1:{rig.port}"
    answer = await rig.get("/api/models", host=host)
    assert answer.headers["link"] == f'<http://{host}/api/models?cursor=2>; rel="next"'


@pytest.mark.parametrize(
    ("framing", "body"),
    [("Content-Length: 11", b"hello world"), ("Transfer-Encoding: chunked", b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")],
)
async def test_an_upload_streams_through(rig, framing, body):
    client = await rig.connect()
    answer = await client.get("/api/models/org/model/commit/main", framing, method="POST", body=body)
    assert answer.status == 200
    assert rig.upstreams.bodies == [b"hello world"]
    assert (await client.get("/api/whoami-v2")).status == 200


async def test_a_client_that_waits_for_leave_to_send_its_body_gets_it(rig):
    client = await rig.connect()
    await client.get("/api/repos/create", "Expect: 100-continue", "Content-Length: 2", method="POST", read=False)
    assert await client.interim() == 100
    await client.send(b"{}")
    assert (await client.answer()).status == 200


async def test_offline_what_only_the_hub_knows_is_a_clear_504(rig):
    rig.upstreams.down = True
    answer = await rig.get("/api/whoami-v2")
    assert answer.status == 504
    assert "does not answer" in answer.json()["error"]


async def test_a_bare_401_about_a_repo_gets_the_code_that_clients_need_over_http(rig):
    rig.upstreams.status = 401
    assert (await rig.get("/api/models/org/model/refs")).headers["x-error-code"] == "RepoNotFound"
    assert "x-error-code" not in (await rig.get("/api/whoami-v2")).headers
