"""The ModelScope dialect, asked through the router."""

from __future__ import annotations

import json

import pytest

from p2pmodel.content import Access, Blob, BlobId, Hub, Repo, RepoKind
from p2pmodel.delivery.ports import Location
from p2pmodel.errors import NotAuthorisedError, RepoNotFoundError, RevisionNotFoundError, SourceError, UnavailableError
from p2pmodel.limits import MIB

FILES = {"config.json": b"{}", "sub/deep/model.safetensors": bytes(2 * MIB), ".gitattributes": b"*", "empty": b""}
KINDS = pytest.mark.parametrize("kind", ["model", "dataset"])


@KINDS
async def test_a_snapshot_names_every_file_by_its_sha256(kind, hub, anyone, router):
    commit = hub.add_repo(kind, "org/name", FILES)
    repo = Repo(Hub.MODELSCOPE, RepoKind(kind), "org/name")
    async with router() as opened:
        snapshot = await opened.snapshot(repo, "master", anyone)
        assert await opened.commit(repo, "master", anyone) == (commit, True)
    files = hub.repo(kind, "org/name").head.files
    assert snapshot.commit == commit
    assert snapshot.public
    assert {entry.path: str(entry.blob.id) for entry in snapshot.files} == {
        path: f"sha256:{files[path].content.sha256}" for path in FILES
    }
    assert {entry["Path"] for entry in json.loads(snapshot.listing)} == {*FILES, "sub", "sub/deep"}


async def test_a_listing_that_is_cut_at_3000_is_walked_directory_by_directory(hub, ms, anyone, router):
    files = {f"d{number % 7}/e{number % 3}/{number:05}.txt": b"" for number in range(4000)}
    hub.add_repo("model", "org/name", {**files, "top.txt": b""})
    hub.modelscope.files_max = 3000
    async with router() as opened:
        snapshot = await opened.snapshot(ms, "master", anyone)
    assert {entry.path for entry in snapshot.files} == {*files, "top.txt"}


async def test_a_directory_of_3000_files_cannot_be_known_to_be_complete(hub, ms, anyone, router):
    hub.add_repo("model", "org/name", {f"{number:05}.txt": b"" for number in range(3100)})
    hub.modelscope.files_max = 3000
    async with router() as opened:
        with pytest.raises(UnavailableError, match="cuts its listing"):
            await opened.snapshot(ms, "master", anyone)
        hub.modelscope.files_max = None
        assert len((await opened.snapshot(ms, "master", anyone)).files) == 3100


async def test_all_pages_of_a_dataset_are_read(hub, anyone, router):
    hub.add_repo("dataset", "org/name", {f"{number:05}.txt": b"" for number in range(433)})
    repo = Repo(Hub.MODELSCOPE, RepoKind.DATASET, "org/name")
    async with router() as opened:
        assert len((await opened.snapshot(repo, "master", anyone)).files) == 433


@pytest.mark.parametrize("status", [403, 404, 503])
async def test_a_dataset_with_a_broken_page_is_no_snapshot(status, hub, anyone, router):
    hub.add_repo("dataset", "org/name", {f"{number:05}.txt": b"" for number in range(433)})
    hub.fault("PageNumber=2", status=status)
    async with router() as opened:
        with pytest.raises((UnavailableError, RevisionNotFoundError, NotAuthorisedError)):
            await opened.snapshot(Repo(Hub.MODELSCOPE, RepoKind.DATASET, "org/name"), "master", anyone)


async def test_a_hub_without_a_list_of_commits_names_the_newest_by_its_files(hub, ms, anyone, router):
    hub.add_repo("model", "org/name", FILES)
    newest = hub.repo("model", "org/name").commit({"config.json": b"[]"})
    hub.fault("/commits", status=404)
    async with router() as opened:
        assert (await opened.snapshot(ms, "master", anyone)).commit == newest
        assert await opened.commit(ms, "master", anyone) == (newest, True)


async def test_a_commit_stays_pinned_when_the_branch_moves_on(hub, ms, anyone, router):
    commit = hub.add_repo("model", "org/name", FILES)
    hub.repo("model", "org/name").commit({"config.json": b"[]"})
    async with router() as opened:
        snapshot = await opened.snapshot(ms, commit, anyone)
    assert snapshot.commit == commit
    assert snapshot.entry("config.json").size == 2


async def test_what_does_not_exist_is_said_to_be_what_is_missing(hub, ms, anyone, router):
    hub.add_repo("model", "org/name", FILES)
    async with router() as opened:
        with pytest.raises(RevisionNotFoundError, match="nope"):
            await opened.snapshot(ms, "nope", anyone)
        for name, kind in {"org/missing": "model", "single": "model", "org/name": "space"}.items():
            with pytest.raises(RepoNotFoundError):
                await opened.snapshot(Repo(Hub.MODELSCOPE, RepoKind(kind), name), "master", anyone)


async def test_a_private_repo_needs_a_token_and_is_never_public(hub, ms, anyone, router):
    hub.add_repo("model", "org/name", FILES, private=True)
    hub.add_user("ms_alice", "alice")
    async with router() as opened:
        snapshot = await opened.snapshot(ms, "master", Access("ms_alice"))
        assert not snapshot.public
        with pytest.raises(RepoNotFoundError):
            await opened.snapshot(ms, "master", anyone)
        assert await opened.may_read(Location(ms, snapshot.commit, "config.json", Access("ms_alice")))
        assert not await opened.may_read(Location(ms, snapshot.commit, "config.json", anyone))


async def test_a_listing_for_all_of_files_for_some_is_not_public(hub, ms, anyone, sink, put, router):
    hub.add_user("ms_alice", "alice")
    file = put(b"{}", path="config.json", hub=Hub.MODELSCOPE, gated=True)
    async with router() as opened:
        snapshot = await opened.snapshot(ms, "master", anyone)
        assert not snapshot.public
        assert await opened.may_read(Location(ms, snapshot.commit, "config.json", Access("ms_alice")))
        with pytest.raises(SourceError) as caught:
            await opened.source([file.location]).fetch(file.order(), sink)
        assert isinstance(caught.value.__cause__, NotAuthorisedError)


async def test_may_read_takes_one_byte_at_most(hub, ms, anyone, router):
    commit = hub.add_repo("model", "org/name", FILES)
    async with router() as opened:
        for path in FILES:
            assert await opened.may_read(Location(ms, commit, path, anyone))
        assert not await opened.may_read(Location(ms, commit, "missing", anyone))
    assert hub.stats()["file_bytes"] <= 2
    assert {seen.host for seen in hub.log} == {"hub"}


async def test_there_are_no_xet_roots_here(hub, ms, anyone, router):
    commit = hub.add_repo("model", "org/name", FILES)
    content = hub.repo("model", "org/name").head.files["sub/deep/model.safetensors"].content
    async with router() as opened:
        blob = Blob(BlobId("sha256", content.sha256), content.size)
        assert await opened.xet_root([Location(ms, commit, "sub/deep/model.safetensors", anyone)], blob) is None
    assert hub.log == []


async def test_info_is_the_hubs_own_envelope(hub, ms, anyone, router):
    hub.add_repo("model", "org/name", FILES)
    async with router() as opened:
        info = json.loads(await opened.info(ms, "master", anyone))
    assert info["Code"] == 200
    assert info["Data"]["Name"] == "name"


async def test_a_200_that_carries_an_error_is_an_error(hub, ms, anyone, router):
    hub.add_repo("model", "org/name", FILES)
    hub.fault("org/name", status=200)  # the demo's fault body has no envelope: neither Code nor Data
    async with router() as opened:
        with pytest.raises((UnavailableError, RepoNotFoundError)):
            await opened.snapshot(ms, "master", anyone)
