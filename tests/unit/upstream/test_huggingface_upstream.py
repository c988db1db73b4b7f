"""The Hugging Face dialect, asked through the router."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import trio

from p2pmodel.content import Access, Blob, BlobId, Hub, Repo, RepoKind
from p2pmodel.content.xet import xet_bytes
from p2pmodel.delivery.ports import Location
from p2pmodel.demo.hub import Hub as DemoHub
from p2pmodel.errors import (
    GatedRepoError,
    NotAuthorisedError,
    RepoNotFoundError,
    RevisionNotFoundError,
    SourceError,
    UnavailableError,
)
from p2pmodel.limits import HUB_ROOT_TIMEOUT_S, MIB

FILES = {"config.json": b"{}", "sub/model.safetensors": bytes(2 * MIB), "README.md": b"# hi", "empty": b""}


@pytest.fixture
def commit(hub):
    return hub.add_repo("model", "org/name", FILES)


async def test_a_snapshot_names_every_file_as_the_hub_does(commit, hub, hf, anyone, router):
    async with router() as opened:
        snapshot = await opened.snapshot(hf, "main", anyone)
    files = hub.repo("model", "org/name").head.files
    assert snapshot.commit == commit
    assert snapshot.public
    assert {entry.path: str(entry.blob.id) for entry in snapshot.files} == {
        "config.json": f"git-sha1:{files['config.json'].content.git_sha1}",
        "README.md": f"git-sha1:{files['README.md'].content.git_sha1}",
        "empty": f"git-sha1:{files['empty'].content.git_sha1}",
        "sub/model.safetensors": f"sha256:{files['sub/model.safetensors'].content.sha256}",
    }
    assert snapshot.size == sum(map(len, FILES.values()))


async def test_the_listing_is_the_hubs_own_without_xet(commit, hub, hf, anyone, router):
    async with router() as opened:
        snapshot = await opened.snapshot(hf, "main", anyone)
    entries = json.loads(snapshot.listing)
    assert b"xet" not in snapshot.listing.lower()
    assert {entry["path"]: entry["type"] for entry in entries} == {
        **dict.fromkeys(FILES, "file"),
        "sub": "directory",
    }
    assert next(entry["lfs"]["pointerSize"] for entry in entries if "lfs" in entry) > 100


@pytest.mark.parametrize("kind", ["dataset", "space"])
async def test_other_kinds_of_repos_have_their_own_paths(kind, hub, anyone, router):
    commit = hub.add_repo(kind, "org/name", FILES)
    repo = Repo(Hub.HUGGINGFACE, RepoKind(kind), "org/name")
    async with router() as opened:
        snapshot = await opened.snapshot(repo, "main", anyone)
        assert await opened.may_read(Location(repo, commit, "config.json", anyone))
    assert len(snapshot.files) == len(FILES)


async def test_branches_tags_pull_requests_and_commits_are_revisions(commit, hub, hf, anyone, router):
    repo = hub.repo("model", "org/name")
    repo.tag("v1/final")
    changed = repo.commit({"config.json": b"[]"}, branch="refs/pr/1")
    async with router() as opened:
        for revision, expected in {"v1/final": commit, "refs/pr/1": changed, commit: commit, "HEAD": commit}.items():
            assert (await opened.snapshot(hf, revision, anyone)).commit == expected
            assert await opened.commit(hf, revision, anyone) == (expected, True)


async def test_one_request_tells_the_commit_and_all_files(hub, hf, anyone, router):
    commit = hub.add_repo("model", "org/name", {f"d/{number:05}.txt": b"%d" % number for number in range(2100)})
    async with router() as opened:
        snapshot = await opened.snapshot(hf, "main", anyone)
        assert hub.stats()["requests"] == {"GET hf info": 1}
        assert snapshot.info == await opened.info(hf, "main", anyone)
        hub.huggingface.hashes_in_info = False
        paged = await opened.snapshot(hf, "main", anyone)
    assert (snapshot.commit, len(snapshot.files)) == (commit, 2100)
    assert {entry.path: entry for entry in paged.files} == {entry.path: entry for entry in snapshot.files}
    assert paged.info is None, "it would lack the sizes"


async def test_a_hub_that_cannot_tell_all_hashes_in_time_is_asked_page_by_page(commit, hub, hf, anyone, router):
    hub.fault("blobs=true", status=504)
    async with router() as opened:
        assert len((await opened.snapshot(hf, "main", anyone)).files) == len(FILES)
    assert hub.stats()["requests"] == {"GET hf info": 2, "GET hf tree": 1}


@pytest.fixture
def paged(hub):
    """A hub that tells files page by page only."""
    hub.huggingface.hashes_in_info = False
    return hub


async def test_all_pages_of_a_listing_are_read(paged, hub, hf, anyone, router):
    hub.add_repo("model", "org/name", {f"d/{number:05}.txt": b"%d" % number for number in range(2100)})
    async with router() as opened:
        snapshot = await opened.snapshot(hf, "main", anyone)
    assert len(snapshot.files) == 2100
    assert hub.stats()["requests"] == {"GET hf info": 1, "GET hf tree": 3}


async def test_a_listing_that_breaks_off_is_no_listing(paged, hub, hf, anyone, router):
    hub.add_repo("model", "org/name", {f"{number}.txt": b"" for number in range(1200)})
    hub.fault("cursor=", status=404)
    async with router() as opened:
        with pytest.raises(RepoNotFoundError):
            await opened.snapshot(hf, "main", anyone)


@pytest.mark.parametrize(
    ("link", "complete"),
    [
        ('<http://evil.example/api/next>; rel="next"', False),
        ("</api/models/org/name/tree/{commit}?recursive=true&cursor=1000>; rel=next", True),
        ('<https://huggingface.co/api/models/org/name/tree/{commit}?recursive=true&cursor=1000>; rel="next"', True),
    ],
)
async def test_a_listing_goes_on_at_this_hub_only(link, complete, internet, paged, hub, hf, anyone, router):
    commit = hub.add_repo("model", "org/name", {f"{number:05}.txt": b"" for number in range(1200)})
    hub.fault("expand=false", times=1, headers={"Link": link.replace("{commit}", commit)})
    async with router() as opened:
        if complete:
            assert len((await opened.snapshot(hf, "main", anyone)).files) == 1200
        else:
            with pytest.raises(UnavailableError, match="another host"):
                await opened.snapshot(hf, "main", anyone)
    assert set(internet.dialled) == {"151.101.2.1"}


async def test_a_listing_without_end_is_given_up(commit, paged, hub, hf, anyone, router):
    hub.fault("/tree/", headers={"Link": '</api/models/org/name/tree/main?recursive=true>; rel="next"'})
    async with router() as opened:
        with pytest.raises(UnavailableError, match="does not come to an end"):
            await opened.snapshot(hf, "main", anyone)


@pytest.mark.parametrize("path", ["../up", "a\\b", "nul", "x" * 2000, "a\0b"])
async def test_a_file_name_that_no_disk_may_hold_refuses_the_whole_listing(path, hub, hf, anyone, router):
    hub.add_repo("model", "org/name", {path: b"", "config.json": b"{}"})
    async with router() as opened:
        with pytest.raises(UnavailableError, match="cannot be kept"):
            await opened.snapshot(hf, "main", anyone)


async def test_what_does_not_exist_is_said_to_be_what_is_missing(commit, hf, anyone, router):
    missing = Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/missing")
    async with router() as opened:
        for verb in (opened.snapshot, opened.commit, opened.info):
            with pytest.raises(RevisionNotFoundError):
                await verb(hf, "nope", anyone)
            with pytest.raises(RepoNotFoundError):
                await verb(missing, "main", anyone)


async def test_a_private_repo_is_unknown_without_a_token_and_never_public(hub, hf, anyone, router):
    hub.add_repo("model", "org/name", FILES, private=True)
    hub.add_user("hf_alice", "alice")
    hub.add_user("hf_bob", "bob", grants=[])
    async with router() as opened:
        snapshot = await opened.snapshot(hf, "main", Access("hf_alice"))
        assert not snapshot.public
        assert len(snapshot.files) == len(FILES)
        with pytest.raises(RepoNotFoundError):
            await opened.snapshot(hf, "main", anyone)
        with pytest.raises(RepoNotFoundError):
            await opened.snapshot(hf, "main", Access("hf_bob"))
        with pytest.raises(NotAuthorisedError):
            await opened.snapshot(hf, "main", Access("hf_nobody"))
        location = Location(hf, snapshot.commit, "config.json", Access("hf_alice"))
        assert await opened.may_read(location)
        for other in (anyone, Access("hf_bob"), Access("hf_nobody")):
            assert not await opened.may_read(Location(hf, snapshot.commit, "config.json", other))


async def test_the_upstreams_own_token_lets_nobody_in(hub, hf, anyone, router, make_upstream):
    hub.add_repo("model", "org/name", FILES, private=True)
    hub.add_user("hf_node", "node")
    hub.add_user("hf_bob", "bob", grants=[])
    hub.add_user("hf_alice", "alice")
    async with router(make_upstream(token="hf_node")) as opened:
        for refused in (anyone, Access("hf_bob")):
            with pytest.raises(RepoNotFoundError):
                await opened.snapshot(hf, "main", refused)
        snapshot = await opened.snapshot(hf, "main", Access("hf_alice"))
        assert not snapshot.public
        assert not await opened.may_read(Location(hf, snapshot.commit, "config.json", anyone))


async def test_a_public_repo_is_public_whatever_the_token(commit, hf, router):
    async with router() as opened:
        assert (await opened.snapshot(hf, "main", Access("hf_stale"))).public


async def test_a_gated_repo_is_listed_for_all_and_given_to_some(hub, hf, anyone, sink, put, router):
    hub.add_user("hf_alice", "alice")
    hub.add_user("hf_bob", "bob", grants=[])
    file = put(b"{}", path="config.json", gated=True)
    async with router() as opened:
        snapshot = await opened.snapshot(hf, "main", anyone)
        assert not snapshot.public
        assert await opened.may_read(Location(hf, snapshot.commit, "config.json", Access("hf_alice")))
        assert not await opened.may_read(Location(hf, snapshot.commit, "config.json", Access("hf_bob")))
        with pytest.raises(SourceError) as caught:
            await opened.source([file.location]).fetch(file.order(), sink)
        assert isinstance(caught.value.__cause__, GatedRepoError)


@pytest.mark.parametrize("leads_to", ["/login", "http://sso.example/login"])
async def test_to_be_sent_to_where_people_log_in_is_no_yes(internet, commit, hub, hf, anyone, router, leads_to):
    internet.add("sso.example", "151.101.9.9", hub.server.handle)
    hub.fault("/resolve/", status=302, headers={"Location": leads_to})
    hub.fault("/login", status=200)
    async with router() as opened:
        assert not await opened.may_read(Location(hf, commit, "config.json", anyone))


async def test_may_read_asks_the_hub_and_not_its_storage(commit, hub, hf, anyone, router):
    async with router() as opened:
        assert await opened.may_read(Location(hf, commit, "sub/model.safetensors", anyone))
        assert await opened.may_read(Location(hf, commit, "config.json", anyone))
        assert not await opened.may_read(Location(hf, commit, "missing", anyone))
    assert {seen.host for seen in hub.log} == {"hub"}
    assert {seen.method for seen in hub.log} == {"HEAD"}


def _large(hub):
    """The blob of the file that lies in LFS, and what the hub says of it as Xet's."""
    content = hub.repo("model", "org/name").head.files["sub/model.safetensors"].content
    return Blob(BlobId("sha256", content.sha256), content.size), xet_bytes(content.xet_hash)


async def test_a_files_xet_root_is_asked_of_the_hub_once_and_not_of_its_storage(commit, hub, hf, anyone, router):
    blob, root = _large(hub)
    async with router() as opened:
        assert await opened.xet_root([Location(hf, commit, "sub/model.safetensors", anyone)], blob) == root
    assert [(seen.host, seen.method) for seen in hub.log] == [("hub", "HEAD")]


async def test_of_a_file_that_is_another_now_there_is_no_root(commit, hub, hf, anyone, router):
    blob, _ = _large(hub)
    other = Blob(BlobId("sha256", "ab" * 32), blob.size)
    async with router() as opened:
        assert await opened.xet_root([Location(hf, commit, "sub/model.safetensors", anyone)], other) is None


async def test_the_root_is_found_where_any_of_the_places_tells_it(commit, hub, hf, anyone, router):
    blob, root = _large(hub)
    places = [Location(hf, commit, path, anyone) for path in ("missing", "config.json", "sub/model.safetensors")]
    async with router() as opened:
        assert await opened.xet_root(places, blob) == root
        assert await opened.xet_root(places[:2], blob) is None
        assert await opened.xet_root([], blob) is None


async def test_a_hub_without_xet_has_no_roots(commit, hub, hf, anyone, router):
    hub.huggingface.xet = False
    async with router() as opened:
        assert await opened.xet_root([Location(hf, commit, "sub/model.safetensors", anyone)], _large(hub)[0]) is None


@pytest.mark.parametrize("told", ["", "ab" * 31, "zz" * 32, "ab" * 33, "ab" * 32 + ", " + "cd" * 32])
async def test_a_root_that_is_none_is_not_taken_for_one(told, commit, hub, hf, anyone, router):
    blob, _ = _large(hub)
    hub.fault("HEAD", headers={"X-Xet-Hash": told})
    async with router() as opened:
        assert await opened.xet_root([Location(hf, commit, "sub/model.safetensors", anyone)], blob) is None


async def test_who_may_not_read_a_file_is_not_told_its_root(hub, hf, anyone, router):
    commit = hub.add_repo("model", "org/name", FILES, private=True)
    hub.add_user("hf_alice", "alice")
    blob, root = _large(hub)
    async with router() as opened:
        for access, told in ((anyone, None), (Access("hf_nobody"), None), (Access("hf_alice"), root)):
            assert await opened.xet_root([Location(hf, commit, "sub/model.safetensors", access)], blob) == told


async def test_a_mirror_is_not_asked_for_a_root(commit, hub, hf, anyone, router, make_upstream):
    """It may say what it likes, and what it says would prove its own bytes."""
    async with router(make_upstream("mirror", trusted=False)) as opened:
        assert await opened.xet_root([Location(hf, commit, "sub/model.safetensors", anyone)], _large(hub)[0]) is None
    assert hub.log == []


async def test_a_hub_that_cannot_be_asked_has_no_root_and_holds_nobody_up(
    commit, hub, hf, anyone, internet, router, autojump_clock
):
    blob, _ = _large(hub)
    place = [Location(hf, commit, "sub/model.safetensors", anyone)]
    async with router() as opened:
        hub.fault("HEAD", status=503)
        assert await opened.xet_root(place, blob) is None
        hub.faults.clear()
        hub.fault("HEAD", status=429, headers={"Retry-After": "30"})
        assert await opened.xet_root(place, blob) is None
    internet.names["hub.example"] = ["192.0.2.1"]  # where nobody answers and nobody refuses
    async with router() as opened:
        begun = trio.current_time()
        assert await opened.xet_root(place, blob) is None
        assert trio.current_time() - begun <= HUB_ROOT_TIMEOUT_S
    async with router(offline=True) as opened:
        assert await opened.xet_root(place, blob) is None


async def test_info_is_the_hubs_own_json(commit, hf, anyone, router):
    async with router() as opened:
        info = json.loads(await opened.info(hf, "main", anyone))
    assert info["sha"] == commit
    assert info["id"] == "org/name"
    assert {entry["rfilename"]: entry["size"] for entry in info["siblings"]} == {
        path: len(body) for path, body in FILES.items()
    }


async def test_an_answer_that_is_no_hubs_is_not_believed(commit, hub, hf, anyone, internet, router, make_upstream):
    hub.fault("HEAD|GET", times=1, gzip=True)
    async with router() as opened:
        with pytest.raises(UnavailableError):
            await opened.snapshot(hf, "main", anyone)


async def test_an_answer_longer_than_any_listing_is_not_read_to_its_end(commit, hub, hf, anyone, router, monkeypatch):
    hub.fault("revision", endless=True)
    hub.pace.rate = None
    async with router() as opened:
        way = next(iter(opened._ways))
        with pytest.raises(SourceError, match="more than 5000 bytes"):
            await way.client.document("/api/models/org/name/revision/main", token=None, limit=5000)


async def test_who_may_read_what_is_asked_of_the_hub_and_not_of_a_mirror_before_it(
    hub, hf, anyone, put, internet, router, make_upstream
):
    """A mirror gets no credential: its no would keep out those whom the hub lets in, its yes would open the gate to all."""
    hub.add_user("hf_alice", "alice")
    data = bytes(range(256)) * 8192
    file = put(data, path="w.bin", gated=True)
    mirror = DemoHub()
    mirror.add_repo("model", "org/name", {"w.bin": data})
    internet.add("mirror.example", "151.101.2.9", mirror.server.handle)
    ways = make_upstream("mirror", endpoint="http://mirror.example", trusted=False, priority=-1), make_upstream()
    alice = replace(file.location, access=Access("hf_alice"))
    async with router(*ways) as opened:
        assert await opened.may_read(alice)
        assert not await opened.may_read(file.location)
        assert await opened.read_range(alice, file.blob, 1000, 17_384) == data[1000:17_384]
        with pytest.raises(NotAuthorisedError):
            await opened.read_range(file.location, file.blob, 1000, 17_384)
    assert mirror.log == []


async def test_a_private_repo_is_listed_by_the_hub_though_a_mirror_before_it_has_none(
    hub, hf, anyone, internet, router, make_upstream
):
    hub.add_user("hf_alice", "alice")
    commit = hub.add_repo("model", "org/name", FILES, private=True)
    internet.add("mirror.example", "151.101.2.9", DemoHub().server.handle)
    ways = make_upstream("mirror", endpoint="http://mirror.example", trusted=False, priority=-1), make_upstream()
    alice = Access("hf_alice")
    async with router(*ways) as opened:
        snapshot = await opened.snapshot(hf, "main", alice)
        assert (snapshot.commit, snapshot.public) == (commit, False)
        assert await opened.commit(hf, "main", alice) == (commit, False)
        for refused in (anyone, Access("hf_mallory")):
            with pytest.raises((RepoNotFoundError, NotAuthorisedError)):
                await opened.snapshot(hf, "main", refused)
