"""The demo hub is a hub only if unmodified clients take it for one. Each runs in a process, set up by its environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from noise import noise

from p2pmodel.demo.hub import Hub, ThreadedHub

pytestmark = pytest.mark.clients

MIB = 1024 * 1024
WEIGHTS = noise(1, 3_000_000)
SMALL = {
    "config.json": b'{"model_type": "bert"}',
    "sub/deep/vocab.txt": b"hello\n",
    "empty.txt": b"",
    "names with +#&%.txt": b"odd",
}
FILES = SMALL | {"model.safetensors": WEIGHTS}


@pytest.fixture
def hub(tmp_path):
    hub = Hub()
    (tmp_path / "weights").write_bytes(WEIGHTS)
    hub.add_repo("model", "acme/tiny", SMALL | {"model.safetensors": tmp_path / "weights"})
    hub.add_repo("dataset", "acme/data", {f"part{number}.csv": b"%d" % number for number in range(250)})
    hub.add_repo("model", "acme/secret", {"config.json": b"{}", "w.bin": b"secret"}, private=True)
    hub.add_repo("model", "acme/gated", {"config.json": b"{}"}, gated=True)
    hub.add_user("hf_alice", "alice")
    return hub


@pytest.fixture
def running(hub):
    with ThreadedHub(hub, cdn_host="localhost") as running:
        yield running


@pytest.fixture
def python(running, tmp_path):
    """Runs a script with both endpoints set and returns what it left in `result`."""

    def run(script: str, **environment: str):
        # The hub advertises Xet without a Xet server, as a trap for those who should strip it.
        settings = {"HF_ENDPOINT": running.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
        settings |= {
            "MODELSCOPE_ENDPOINT": running.url,
            "MODELSCOPE_CACHE": str(tmp_path / "ms"),
            "HOME": str(tmp_path),
            "NO_PROXY": "*",
        }
        inherited = {"PATH": os.environ["PATH"]}
        program = f"import json, sys, pathlib\n{script}\nprint('\\n' + json.dumps(result))"
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=inherited | settings | environment,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def _same_files(directory: str, files: dict[str, bytes]) -> bool:
    found = {str(path.relative_to(directory)): path.read_bytes() for path in Path(directory).rglob("*") if path.is_file()}
    return {path: data for path, data in found.items() if not path.startswith(".")} == files


def test_huggingface_hub_takes_a_snapshot_and_the_hub_counts_each_byte_once(hub, python):
    result = python("from huggingface_hub import snapshot_download\nresult = snapshot_download('acme/tiny')")
    assert result.endswith(hub.repo("model", "acme/tiny").head.id)
    assert _same_files(result, FILES)
    assert hub.stats()["file_bytes"] == sum(map(len, FILES.values()))


def test_huggingface_hub_reads_files_infos_and_lists(hub, python):
    hub.huggingface.page_entries = 2
    result = python("""
from huggingface_hub import HfApi, HfFileSystem, hf_hub_download
api = HfApi()
info = api.model_info("acme/tiny", files_metadata=True)
with HfFileSystem().open("acme/tiny/model.safetensors", "rb") as file:
    file.seek(1000)
    middle = file.read(5).hex()
result = {
    "file": pathlib.Path(hf_hub_download("acme/tiny", "sub/deep/vocab.txt")).read_text(),
    "sha": info.sha, "sizes": {one.rfilename: one.size for one in info.siblings}, "modified": info.last_modified.year,
    "listed": api.list_repo_files("acme/tiny"), "middle": middle,
    "paths": [one.path for one in api.get_paths_info("acme/tiny", ["config.json", "sub"])],
    "branches": [one.name for one in api.list_repo_refs("acme/tiny").branches],
    "commits": [one.commit_id for one in api.list_repo_commits("acme/tiny")],
    "found": [one.id for one in api.list_models(search="tiny")],
    "exists": [api.file_exists("acme/tiny", path) for path in ("config.json", "nope")],
    "revision": api.revision_exists("acme/tiny", "nope"),
}
""")
    commit = hub.repo("model", "acme/tiny").head.id
    assert result["file"] == "hello\n"
    assert (result["sha"], result["commits"], result["modified"]) == (commit, [commit], 2024)
    assert result["sizes"] == {path: len(data) for path, data in FILES.items()}
    assert result["listed"] == sorted(FILES)
    assert result["middle"] == WEIGHTS[1000:1005].hex()
    assert result["paths"] == ["config.json", "sub"]
    assert (result["branches"], result["found"], result["exists"]) == (["main"], ["acme/tiny"], [True, False])
    assert result["revision"] is False


def test_huggingface_hub_maps_the_errors_and_tokens_open_doors(hub, python):
    script = """
from huggingface_hub import HfApi, hf_hub_download
import huggingface_hub.errors
def outcome(function, *arguments, **named):
    try:
        return str(function(*arguments, **named) is not None)
    except Exception as error:
        return type(error).__name__
api = HfApi()
result = {
    "repo": outcome(api.model_info, "acme/none"), "revision": outcome(api.model_info, "acme/tiny", revision="none"),
    "entry": outcome(hf_hub_download, "acme/tiny", "none"), "gated": outcome(hf_hub_download, "acme/gated", "config.json"),
    "private": outcome(hf_hub_download, "acme/secret", "w.bin"), "whoami": outcome(api.whoami),
}
"""
    known = {"revision": "RevisionNotFoundError", "entry": "RemoteEntryNotFoundError"}
    strange = {
        "repo": "HfHubHTTPError",
        "gated": "GatedRepoError",
        "private": "HfHubHTTPError",
        "whoami": "LocalTokenNotFoundError",
    }
    assert python(script) == known | strange
    alice = {"repo": "RepositoryNotFoundError", "gated": "True", "private": "True", "whoami": "True"}
    assert python(script, HF_TOKEN="hf_alice") == known | alice
    stats = hub.stats()
    assert stats["tokens_by_host"]["hub"] > 0
    assert (stats["tokens_by_host"]["cdn"], stats["auth_leaks"]) == (0, 0)


def test_huggingface_hub_falls_into_the_xet_trap_when_it_is_not_disarmed(python):
    pytest.importorskip("hf_xet")
    script = """
from huggingface_hub import snapshot_download
try:
    result = snapshot_download("acme/tiny")
except Exception as error:
    result = type(error).__name__
"""
    assert python(script, HF_HUB_DISABLE_XET="0") == "HfHubHTTPError"


def test_huggingface_hub_resumes_after_a_cut_and_survives_a_429(hub, python):
    large = {"config.json": b"{}", "model.safetensors": noise(2, 12 * MIB)}
    hub.add_repo("model", "acme/large", large)
    hub.fault(r"GET /blobs/", host="cdn", truncate_at=11 * MIB, times=1)
    hub.fault(r"GET .*config", status=429, headers={"Retry-After": "0"}, times=1)
    assert _same_files(python("from huggingface_hub import snapshot_download\nresult = snapshot_download('acme/large')"), large)
    assert f"bytes={10 * MIB}-" in {seen.range for seen in hub.log}  # it writes pieces of 10 MiB
    assert hub.stats()["faults_played"] == 2


def test_huggingface_hub_follows_a_rename_and_reads_datasets(hub, python):
    hub.rename("acme/tiny", "acme/small")
    result = python("""
from huggingface_hub import hf_hub_download, snapshot_download
result = [pathlib.Path(hf_hub_download("acme/tiny", "config.json")).read_text(),
          len(list(pathlib.Path(snapshot_download("acme/data", repo_type="dataset")).iterdir()))]
""")
    assert result == ['{"model_type": "bert"}', 250]


def test_modelscope_takes_a_snapshot_and_single_files(hub, python):
    result = python("""
from modelscope import snapshot_download
from modelscope.hub.file_download import model_file_download
result = [snapshot_download("acme/tiny"), pathlib.Path(model_file_download("acme/tiny", "sub/deep/vocab.txt")).read_text()]
""")
    assert _same_files(result[0], FILES)
    assert result[1] == "hello\n"


def test_modelscope_takes_a_dataset_of_more_than_one_page(python):
    result = python("""
from modelscope import dataset_snapshot_download
directory = pathlib.Path(dataset_snapshot_download("acme/data"))
result = sorted(int(path.read_text()) for path in directory.glob("*.csv"))
""")
    assert result == list(range(250))


def test_modelscope_logs_in_and_sees_what_is_private(hub, python):
    script = """
from modelscope.hub.api import HubApi
from modelscope import snapshot_download
import os
if os.environ.get("LOGIN"):
    HubApi().login(os.environ["LOGIN"])
try:
    result = (pathlib.Path(snapshot_download("acme/secret")) / "w.bin").read_text()
except Exception as error:
    result = type(error).__name__
"""
    assert python(script) == "HTTPError"
    assert python(script, LOGIN="hf_alice") == "secret"
    assert hub.stats()["tokens_by_host"]["cdn"] == 0


def test_modelscope_refuses_corrupt_bytes(hub, python):
    hub.fault("/blobs/", host="cdn", flip_at=100)
    result = python("""
from modelscope import snapshot_download
try:
    result = snapshot_download("acme/tiny")
except Exception as error:
    result = type(error).__name__
""")
    assert result == "FileDownloadError"


def test_huggingface_hub_believes_corrupt_bytes(hub, python):
    """Why the daemon must check: no Python client of Hugging Face looks at a hash."""
    hub.fault("/blobs/", host="cdn", flip_at=100)
    result = python("from huggingface_hub import hf_hub_download\nresult = hf_hub_download('acme/tiny', 'model.safetensors')")
    assert Path(result).read_bytes() == WEIGHTS[:100] + bytes([WEIGHTS[100] ^ 0xFF]) + WEIGHTS[101:]
