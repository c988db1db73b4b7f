"""Unmodified clients at the gateway: its answers come from the demo hub, through the real upstreams, and a fake reader."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from fakes.gateway import FakeDelivery, running
from noise import noise

from p2pmodel.content import Hub
from p2pmodel.delivery.ports import Upstreams
from p2pmodel.demo.hub import Hub as DemoHub
from p2pmodel.demo.hub import ThreadedHub
from p2pmodel.errors import EntryNotFoundError
from p2pmodel.upstream import Router, Upstream

pytestmark = pytest.mark.clients

FILES = {
    "config.json": b'{"model_type": "bert"}',
    "sub/deep/vocab.txt": b"hello\n",
    "empty.txt": b"",
    "names with +#&%.txt": b"odd",
    "ünï.txt": b"unicode",
    "model.safetensors": noise(1, 12_000_000),
}
DATA = {f"part{number}.csv": b"%d" % number for number in range(250)}


class HubDelivery(FakeDelivery):
    """Lists what the hub lists; has the bytes of all its files, and a hub that can be cut off."""

    def __init__(self, upstreams: Upstreams) -> None:
        super().__init__()
        self._upstreams = upstreams

    async def snapshot(self, repo, revision, access):
        self.repos[repo] = DATA if repo.kind == "dataset" else FILES
        return await self._upstreams.snapshot(repo, revision, access)

    async def entry(self, repo, revision, path, access):
        snapshot = await self.snapshot(repo, revision, access)
        if entry := snapshot.entry(path):
            return snapshot, entry
        raise EntryNotFoundError("There is no such file.", commit=snapshot.commit)

    async def info(self, repo, revision, access):
        return await self._upstreams.info(repo, revision, access)


@pytest.fixture
def hub():
    hub = DemoHub()
    hub.add_repo("model", "acme/tiny", FILES)
    hub.add_repo("dataset", "acme/data", DATA)
    hub.add_repo("model", "acme/secret", FILES, private=True)
    hub.add_repo("model", "acme/gated", FILES, gated=True)
    hub.add_user("hf_alice", "alice")
    return hub


@asynccontextmanager
async def _gateway(hub, **options):
    with ThreadedHub(hub, cdn_host="localhost") as served:
        ways = [Upstream(name=str(each), hub=each, endpoint=served.url, trusted=True) for each in Hub]
        async with (
            Router(ways, rng=random.Random(1)) as router,
            running(delivery=HubDelivery(router), upstreams=router, host="localhost", **options) as rig,
        ):
            yield rig


async def _python(rig, home: Path, script: str, **environment: str):
    """Run a script with both endpoints set; what it leaves in `result`."""
    url = f"http://localhost:{rig.port}"
    settings = {
        "HF_ENDPOINT": url,
        "HF_HOME": str(home / "hf"),
        "MODELSCOPE_ENDPOINT": url,
        "MODELSCOPE_CACHE": str(home / "ms"),
    }
    settings |= {"HOME": str(home), "NO_PROXY": "*", "PATH": os.environ["PATH"]}
    program = f"import json, sys, pathlib\n{script}\nprint('\\n' + json.dumps(result))"
    run = partial(subprocess.run, capture_output=True, text=True, timeout=50, check=False)
    done = await trio.to_thread.run_sync(partial(run, [sys.executable, "-c", program], env=settings | environment))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def _bytes_of(path: str) -> bytes:
    return Path(path).read_bytes()


def _files_in(directory: str) -> dict[str, bytes]:
    found = {str(path.relative_to(directory)): path.read_bytes() for path in Path(directory).rglob("*") if path.is_file()}
    return {path: data for path, data in found.items() if not path.startswith(".")}


async def test_huggingface_hub_takes_snapshots_without_falling_for_xet(hub, tmp_path):
    async with _gateway(hub) as rig:
        result = await _python(
            rig,
            tmp_path,
            """
from huggingface_hub import snapshot_download
result = [snapshot_download("acme/tiny"), snapshot_download("acme/data", repo_type="dataset"),
          snapshot_download("acme/tiny", local_dir=pathlib.Path.home() / "local")]
""",
        )
        assert _files_in(result[0]) == FILES
        assert _files_in(result[1]) == DATA
        assert _files_in(result[2]) == FILES
        assert hub.stats()["file_bytes"] == 0


_LARGE = 10_000_000  # stands for the 50 GB above which huggingface_hub refuses a file over plain HTTP
_REFUSING = f"""
from huggingface_hub import constants, hf_hub_download, snapshot_download
constants.MAX_HTTP_DOWNLOAD_SIZE = {_LARGE}
try:
    result = [snapshot_download("acme/tiny"), hf_hub_download("acme/tiny", "model.safetensors", local_dir="{{}}")]
except ValueError as error:
    result = str(error)
"""


async def test_a_file_that_huggingface_hub_refuses_over_plain_http_comes_by_xet_and_the_others_do_not(hub, tmp_path):
    async with _gateway(hub, xet_above=_LARGE) as rig:
        result = await _python(rig, tmp_path, _REFUSING.format(tmp_path / "local"))
        assert _files_in(result[0]) == FILES
        assert _bytes_of(result[1]) == FILES["model.safetensors"]
        requests = rig.gateway.statistics.requests
        assert requests["xet", 206] >= 1
        assert requests["hf_file", 200] >= len(FILES) - 1
        assert hub.stats()["file_bytes"] == 0
    async with _gateway(hub, xet_above=None) as rig:
        assert "too large" in await _python(rig, tmp_path / "other", _REFUSING.format(tmp_path / "other/local"))


async def test_huggingface_hub_reads_files_infos_and_lists(hub, tmp_path):
    async with _gateway(hub) as rig:
        result = await _python(
            rig,
            tmp_path,
            """
from huggingface_hub import HfApi, HfFileSystem, hf_hub_download
api = HfApi()
info = api.model_info("acme/tiny", files_metadata=True)
with HfFileSystem().open("acme/tiny/model.safetensors", "rb") as file:
    file.seek(1000)
    middle = file.read(5).hex()
result = {
    "file": pathlib.Path(hf_hub_download("acme/tiny", "sub/deep/vocab.txt")).read_text(),
    "sizes": {one.rfilename: one.size for one in info.siblings}, "middle": middle,
    "plain": api.model_info("acme/tiny").siblings[0].size,
    "listed": sorted(api.list_repo_files("acme/tiny")),
    "tree": sorted(one.path for one in api.list_repo_tree("acme/tiny", "sub", expand=True)),
    "paths": [one.path for one in api.get_paths_info("acme/tiny", ["config.json", "sub"])],
    "branches": [one.name for one in api.list_repo_refs("acme/tiny").branches],
    "commits": [one.commit_id for one in api.list_repo_commits("acme/tiny")],
    "found": [one.id for one in api.list_models(search="tiny")],
    "exists": [api.file_exists("acme/tiny", path) for path in ("config.json", "nope")],
    "revision": api.revision_exists("acme/tiny", "nope"), "repo": api.repo_exists("acme/nope"),
    "user": api.whoami(token="hf_alice")["name"],
}
""",
        )
        assert result["file"] == "hello\n"
        assert result["sizes"] == {path: len(data) for path, data in FILES.items()}
        assert result["plain"] is None
        assert result["listed"] == sorted(FILES)
        assert result["middle"] == FILES["model.safetensors"][1000:1005].hex()
        assert (result["tree"], result["paths"]) == (["sub/deep"], ["config.json", "sub"])
        assert result["commits"] == [hub.repo("model", "acme/tiny").head.id]
        assert (result["branches"], result["found"], result["exists"]) == (["main"], ["acme/tiny"], [True, False])
        assert (result["revision"], result["repo"], result["user"]) == (False, False, "alice")


async def test_huggingface_hub_understands_our_errors(hub, tmp_path):
    script = """
from huggingface_hub import HfApi, hf_hub_download
def outcome(function, *arguments, **named):
    try:
        return str(function(*arguments, **named) is not None)
    except Exception as error:
        return type(error).__name__
api = HfApi()
result = {
    "repo": outcome(api.model_info, "acme/none"), "revision": outcome(api.model_info, "acme/tiny", revision="none"),
    "entry": outcome(hf_hub_download, "acme/tiny", "none"), "private": outcome(hf_hub_download, "acme/secret", "config.json"),
    "exists": api.repo_exists("acme/secret"),
}
"""
    async with _gateway(hub) as rig:
        assert await _python(rig, tmp_path, script) == {
            "repo": "RepositoryNotFoundError",
            "revision": "RevisionNotFoundError",
            "entry": "RemoteEntryNotFoundError",
            "private": "RepositoryNotFoundError",
            "exists": False,
        }
        alice = await _python(rig, tmp_path, script, HF_TOKEN="hf_alice")
        assert (alice["private"], alice["exists"]) == ("True", True)


async def test_huggingface_hub_resumes_a_body_that_ended_short(hub, tmp_path):
    async with _gateway(hub) as rig:
        rig.delivery.fails_at = 11 << 20
        rig.delivery.fails_once = True
        script = "from huggingface_hub import hf_hub_download\nresult = hf_hub_download('acme/tiny', 'model.safetensors')"
        result = await _python(rig, tmp_path, script)
        assert _bytes_of(result) == FILES["model.safetensors"]
        assert rig.gateway.statistics.broken == 1


async def test_huggingface_hub_waits_for_a_cold_file_longer_than_its_patience(hub, tmp_path):
    async with _gateway(hub) as rig, trio.open_nursery() as nursery:
        rig.delivery.gate = trio.Event()

        async def open_late():
            await rig.delivery.waiting.wait()
            await trio.sleep(12)
            rig.delivery.gate.set()

        nursery.start_soon(open_late)
        script = "from huggingface_hub import hf_hub_download\nresult = hf_hub_download('acme/tiny', 'config.json')"
        assert _bytes_of(await _python(rig, tmp_path, script)) == FILES["config.json"]
        assert rig.gateway.statistics.interims >= 3
        assert rig.gateway.statistics.requests["hf_file", 200] == 2  # one HEAD, one GET: nothing was asked twice


async def test_modelscope_takes_models_files_and_datasets(hub, tmp_path):
    async with _gateway(hub) as rig:
        result = await _python(
            rig,
            tmp_path,
            """
from modelscope import dataset_snapshot_download, snapshot_download
from modelscope.hub.file_download import model_file_download
result = [snapshot_download("acme/tiny"), model_file_download("acme/tiny", "names with +#&%.txt"),
          dataset_snapshot_download("acme/data")]
""",
        )
        assert _files_in(result[0]) == FILES
        assert _bytes_of(result[1]) == b"odd"
        assert _files_in(result[2]) == DATA


async def test_modelscope_logs_in_through_us_and_sees_what_is_private(hub, tmp_path):
    script = """
import os
from modelscope import snapshot_download
from modelscope.hub.api import HubApi
if os.environ.get("LOGIN"):
    HubApi().login(os.environ["LOGIN"])
try:
    result = (pathlib.Path(snapshot_download("acme/secret")) / "config.json").read_text()
except Exception as error:
    result = type(error).__name__
"""
    async with _gateway(hub) as rig:
        assert await _python(rig, tmp_path, script) == "HTTPError"
        assert await _python(rig, tmp_path, script, LOGIN="hf_alice") == '{"model_type": "bert"}'
