"""The cache tree as huggingface_hub itself reads it, offline and without a daemon."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.stores import COMMIT, REPO, OnDisk, sample

from p2pmodel.content import FileEntry, Snapshot

pytestmark = pytest.mark.clients
FILES = {"model.safetensors": sample(1), "config.json": sample(2, 600, "git-sha1"), "onnx/model.onnx": sample(3, 5000)}


@pytest.fixture
def hub(tmp_path):
    """A cache directory with the whole model in it; the daemon is gone."""
    house = OnDisk(tmp_path / "state")
    for blob in FILES.values():
        blob.put(house.store)
    files = tuple(FileEntry(path, blob.blob.size, blob.blob) for path, blob in FILES.items())
    house.store.put_ref(REPO, "main", COMMIT)
    house.store.materialise(Snapshot(REPO, COMMIT, files, b"", public=True), files)
    house.close()
    return house.state_dir / "hub"


def run(hub, code):
    environment = os.environ | {"HF_HUB_CACHE": str(hub), "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_snapshot_download_finds_the_snapshot_offline(hub):
    pytest.importorskip("huggingface_hub")
    path = run(hub, "from huggingface_hub import snapshot_download\nprint(snapshot_download('org/model'))")
    assert path == str(hub / "models--org--model" / "snapshots" / COMMIT)
    for name, blob in FILES.items():
        file = run(hub, f"from huggingface_hub import hf_hub_download\nprint(hf_hub_download('org/model', {name!r}))")
        assert Path(file).read_bytes() == blob.data


def test_scan_cache_dir_finds_nothing_to_complain_about(hub):
    pytest.importorskip("huggingface_hub")
    code = "from huggingface_hub import scan_cache_dir\ncache = scan_cache_dir()\nprint(cache.warnings, cache.size_on_disk)"
    assert run(hub, code) == f"[] {sum(blob.blob.size for blob in FILES.values())}"
