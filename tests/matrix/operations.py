"""What clients are asked to do: for each operation a repo at the hub, a script, and what the script must have seen.

Every operation has a repo and bytes of its own, so that it finds a node as cold as if nothing had been asked before.
"""

from __future__ import annotations

import hashlib
import json
import random
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from daemons import MIB
from noise import noise

from p2pmodel.demo.hub import Hub

TOKEN: Final = "hf_aliceAliceAliceAliceAliceAliceAlic"
DATASET: Final = "dataset"

#: ModelScope's listings do not say who may read, so one byte for each is asked for without a token.
_PROBES: Final = 8
#: Of a private file that a peer holds, a node reads the proof at the hub; of those below 1 MiB, all.
_PROOF: Final = 64 * 1024 + 1024

State = Literal["cold", "peer", "gone"]
STATES: Final[tuple[State, ...]] = ("cold", "peer", "gone")

Furnish = Callable[[Hub, str], Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """`furnish` puts the repo on the hub and returns what a client sees of it.

    `states` are those in which it makes sense.
    """

    name: str
    title: str
    script: str
    furnish: Furnish
    environ: Mapping[str, str] = field(default_factory=dict)
    states: tuple[State, ...] = STATES
    hub_bytes_max: int = _PROBES  # that the hub may send to a node whose peer has it all

    @property
    def repo(self) -> str:
        """Under the name of the user who uploads."""
        return f"alice/{self.name}"


# What repos hold


def written(seed):
    """What the scripts write to upload it: they have no modules of ours."""
    return random.Random(seed).randbytes(9 * MIB)


def safetensors(name: str, size: int = 6 * MIB) -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + noise(zlib.crc32(name.encode()), size)


def files(name: str) -> dict[str, bytes]:
    """One large file, an empty one, folders, a name that is not ASCII."""
    return {
        "config.json": json.dumps({"model_type": "bert", "name": name}).encode(),
        "empty.txt": b"",
        "sub/deep/vocab.txt": b"hello\n",
        "ünï.txt": b"unicode",
        "model.safetensors": safetensors(name),
    }


#: What a URL must quote.
ODD: Final = {"names with +#&%.txt": b"odd", "sub/100%.txt": b"per cent"}


def sums(contents: Mapping[str, bytes]) -> dict[str, str]:
    return {path: sha256(data) for path, data in contents.items()}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def commit_of(hub: Hub, repo: str) -> str:
    return hub.repo("model", repo).head.id


# How they are put there


def tree(hub: Hub, repo: str) -> Any:
    hub.add_repo("model", repo, files(repo))
    return sums(files(repo))


def odd_tree(hub: Hub, repo: str) -> Any:
    hub.add_repo("model", repo, files(repo) | ODD)
    return sums(files(repo) | ODD)


def git_tree(hub: Hub, repo: str) -> Any:
    """What a repo says of itself decides which files git-lfs takes over."""
    contents = files(repo) | ODD
    hub.add_repo("model", repo, contents | {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
    return {"head": commit_of(hub, repo), "files": sums(contents)}


def pushed(hub: Hub, repo: str) -> Any:
    """An empty repo, into which the client pushes."""
    first = {".gitattributes": b"*.bin filter=lfs diff=lfs merge=lfs -text\n"}
    hub.add_repo("model", repo, first)
    return sums({"small.txt": b"small", "sub/weights.bin": written(8)})


def tree_twice(hub: Hub, repo: str) -> Any:
    return dict.fromkeys(("cache", "folder"), odd_tree(hub, repo))


def chosen(*paths: str) -> Furnish:
    def furnish(hub: Hub, repo: str) -> Any:
        seen = odd_tree(hub, repo)
        return {path: seen[path] for path in paths}

    return furnish


def revisions(*names: str) -> Furnish:
    """Two commits on main, the first of them tagged; a branch and a pull request with one of their own each."""

    def furnish(hub: Hub, repo: str) -> Any:
        first, second = files(repo), files(repo) | {"config.json": b'{"second": true}', "new.bin": noise(9, MIB)}
        hub.add_repo("model", repo, first)
        shelved = hub.repo("model", repo)
        shelved.tag("v1.0")
        shelved.commit({path: second[path] for path in ("config.json", "new.bin")})
        seen = {"main": second, "master": second, "v1.0": first, shelved.head.id: second}
        for branch in ("side/branch", "refs/pr/1"):
            shelved.commit({"aside.bin": noise(len(branch), MIB)}, branch=branch)
            seen[branch] = second | {"aside.bin": noise(len(branch), MIB)}
        return {name: sums(seen[name or shelved.head.id]) for name in names} | (
            {shelved.head.id: sums(second)} if "main" in names else {}
        )

    return furnish


def kinds(hub: Hub, repo: str) -> Any:
    for kind in ("dataset", "space"):
        hub.add_repo(kind, repo, files(repo + kind))
    return {kind: sums(files(repo + kind)) for kind in ("dataset", "space")}


PARTS: Final = {f"part{number}.csv": b"%d" % number for number in range(230)}  # more than one page of ModelScope's


def dataset(hub: Hub, repo: str) -> Any:
    hub.add_repo("dataset", repo, PARTS)
    return {"all": sums(PARTS), "one": sha256(PARTS["part7.csv"])}


def listings(hub: Hub, repo: str) -> Any:
    tree(hub, repo)
    contents = files(repo)
    return {
        "sha": commit_of(hub, repo),
        "sizes": {path: len(data) for path, data in contents.items()},
        "files": sorted(contents),
        "tree": ["sub/deep"],
        "paths": ["config.json", "sub"],
    }


def ranges(hub: Hub, repo: str) -> Any:
    """The file is so large that cold its ranges are read from the hub at once."""
    weights = safetensors(repo, 40 * MIB)
    hub.add_repo("model", repo, files(repo) | {"model.safetensors": weights})
    return {"middle": sha256(weights[5_000_000:5_001_000]), "ls": [f"{repo}/sub/deep"], "tensors": ["w"]}


def errors(**seen: Any) -> Furnish:
    def furnish(hub: Hub, repo: str) -> Any:
        there = tree(hub, repo)
        hub.add_repo("model", f"{repo}-private", files(repo), private=True)
        return seen | {"config.json": there["config.json"]}

    return furnish


def private(hub: Hub, repo: str) -> Any:
    hub.add_repo("model", repo, files(repo), private=True)
    return sums(files(repo))


def private_and_name(hub: Hub, repo: str) -> Any:
    return {"name": "alice", "files": private(hub, repo)}


def large(hub: Hub, repo: str) -> Any:
    """Above 50 MiB hf_transfer takes over."""
    weights = safetensors(repo, 56 * MIB)
    hub.add_repo("model", repo, {"model.safetensors": weights})
    return {"model.safetensors": sha256(weights)}


def node(hub: Hub, repo: str) -> Any:
    seen = tree(hub, repo)
    contents = files(repo)
    return {
        "sha": commit_of(hub, repo),
        "listed": sorted(contents),
        "exists": [True, False],
        "whole": seen["model.safetensors"],
        "middle": sha256(contents["model.safetensors"][5_000_000:5_001_000]),
        "commit": seen["config.json"],
        "snapshot": seen,
    }


def swift(hub: Hub, repo: str) -> Any:
    seen = tree(hub, repo)
    return {"all": seen, "part": {"sub/deep/vocab.txt": seen["sub/deep/vocab.txt"]}}


def uploaded(seed: int, **more: bytes) -> Furnish:
    """Nothing is there yet; the client brings it. A hub adds .gitattributes of its own, which nobody looks at."""

    def furnish(hub: Hub, repo: str) -> Any:
        return sums({"small.txt": b"small", "sub/weights.bin": written(seed), **more})

    return furnish


def uploaded_by_node(hub: Hub, repo: str) -> Any:
    """What JavaScript can make as well."""
    weights = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(9 << 15))
    return sums({"small.txt": b"small", "sub/weights.bin": weights})


def weights_by(**cut: tuple[int, int]) -> Furnish:
    """Pieces of the one large file."""

    def furnish(hub: Hub, repo: str) -> Any:
        tree(hub, repo)
        return {name: sha256(safetensors(repo)[slice(*piece)]) for name, piece in cut.items()}

    return furnish


def gguf(hub: Hub, repo: str) -> Any:
    contents = {"config.json": repo.encode(), "m-Q4_K_M.gguf": noise(7, 5 * MIB), "m-Q8_0.gguf": noise(11, 6 * MIB)}
    hub.add_repo("model", repo, contents)
    chosen = {"latest": "m-Q4_K_M.gguf", "q8_0": "m-Q8_0.gguf"}
    return {"commit": commit_of(hub, repo), "chosen": chosen, "files": sums(contents)}


def tokenizer(hub: Hub, repo: str) -> Any:
    words = {"[UNK]": 0, "hello": 1, "brave": 2, "world": 3}
    about = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "[UNK]"},
    }
    contents = {
        "config.json": {"model_type": "gpt2", "n_layer": 7},
        "tokenizer.json": about,
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"},
    }
    hub.add_repo("model", repo, {path: json.dumps(data).encode() for path, data in contents.items()})
    return {"type": "gpt2", "layers": 7, "ids": [1, 2, 3]}


#: The rows below as Parquet, as pyarrow writes them without compression.
PARQUET: Final = Path(__file__).with_name("rows.parquet").read_bytes()
ROWS: Final = [{"word": "one", "number": 1}, {"word": "two", "number": 2}, {"word": "three", "number": 3}]


def rows(hub: Hub, repo: str) -> Any:
    contents = {
        "README.md": b"# Rows\n",
        "data/rows.csv": b"word,number\n" + "".join(f"{row['word']},{row['number']}\n" for row in ROWS).encode(),
        "data/rows.json": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
        "data/rows.parquet": PARQUET,
    }
    hub.add_repo("dataset", repo, contents)
    return dict.fromkeys(("csv", "json", "parquet"), ROWS)


_SOME: Final = ("config.json", "empty.txt", "model.safetensors")
_STRANGE: Final = ("sub/deep/vocab.txt", "ünï.txt", *ODD)
_MISSING: Final = {
    "repo": "RepositoryNotFoundError",
    "revision": "RevisionNotFoundError",
    "file": "EntryNotFoundError",
    "private": "RepositoryNotFoundError",
}
_TOKEN: Final = {"TOKEN": TOKEN}
_HF_CLI: Final = {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
_RUST: Final = ("config.json", "empty.txt", "sub/deep/vocab.txt", "model.safetensors")

_WITH_HUB: Final = ("cold", "peer")  # only the hub knows what there is not, and who may read what is private

OPERATIONS: Final = {
    one.name: one
    for one in (
        # huggingface_hub
        Operation("hf-snapshot", "snapshot, to the cache and to a folder", "hf_snapshot.py", tree_twice),
        Operation(
            "hf-revisions",
            "branch, tag, `refs/pr/1`, commit",
            "hf_revisions.py",
            revisions("main", "v1.0", "side/branch", "refs/pr/1"),
        ),
        Operation("hf-kinds", "dataset, space", "hf_kinds.py", kinds),
        Operation(
            "hf-files",
            "single files, odd names",
            "hf_files.py",
            chosen(*_SOME, *_STRANGE),
            {"PATHS": json.dumps(_SOME + _STRANGE)},
        ),
        Operation("hf-listings", "info, tree, paths", "hf_listings.py", listings),
        Operation("hf-ranges", "`HfFileSystem`, safetensors header", "hf_ranges.py", ranges),
        Operation("hf-errors", "what is missing or private", "hf_errors.py", errors(**_MISSING), states=_WITH_HUB),
        Operation(
            "hf-private",
            "private, with a token",
            "hf_private.py",
            private_and_name,
            _TOKEN,
            states=_WITH_HUB,
            hub_bytes_max=_PROOF,
        ),
        Operation("hf-cli", "`hf download`", "hf_cli.py", tree, _HF_CLI),
        Operation(
            "hf-transfer",
            "hf_transfer",
            "hf_files.py",
            large,
            {"HF_HUB_ENABLE_HF_TRANSFER": "1", "HF_HUB_DISABLE_XET": "1", "PATHS": '["model.safetensors"]'},
        ),
        Operation(
            "hf-upload",
            "new repo, `upload_folder`, `upload_file`",
            "hf_upload.py",
            uploaded(5, **{"later.txt": b"later"}),
            _TOKEN | {"HF_HUB_DISABLE_XET": "1", "SEED": "5"},
        ),
        Operation(
            "hf-xet-upload",
            "the same with hf_xet switched on",
            "hf_upload.py",
            uploaded(7, **{"later.txt": b"later"}),
            _TOKEN | {"SEED": "7"},
        ),
        # on top of it
        Operation("transformers", "`AutoConfig`, `AutoTokenizer`", "tf_load.py", tokenizer),
        Operation("datasets-load", "`load_dataset`: csv, json, parquet", "ds_load.py", rows),
        Operation("datasets-stream", "the same, streaming", "ds_stream.py", rows),
        # other programs
        Operation("node", "snapshot, files, ranges, listings", "node_hub.mjs", node),
        Operation("node-upload", "new repo, `uploadFiles`", "node_upload.mjs", uploaded_by_node, _TOKEN),
        Operation(
            "curl",
            "whole, ranges, resume",
            "curl.py",
            weights_by(whole=(0, None), range=(5_000_000, 5_001_000), last=(-1000, None), resumed=(0, None)),
        ),
        Operation("wget", "whole, resume", "wget.py", weights_by(whole=(0, None), resumed=(0, None))),
        Operation("aria2", "all files, 8 ranges at once", "aria2.py", odd_tree),
        Operation("git", "`git clone` with LFS", "git_clone.py", git_tree),
        Operation("git-push", "`git push` with LFS, then a clone", "git_push.py", pushed, _TOKEN),
        Operation("llama-cpp", "`-hf`: manifests, refs, tree, HEAD, GET, resume", "llama_cpp.py", gguf),
        Operation("rust", "`bytes=0-0`, parallel ranges, HEAD, 304", "rust_hf_hub.py", chosen(*_RUST)),
        # modelscope
        Operation("ms-snapshot", "snapshot", "ms_snapshot.py", tree),
        Operation("ms-revisions", "branch, tag", "ms_revisions.py", revisions("master", "v1.0")),
        Operation("ms-files", "single files", "ms_files.py", chosen(*_SOME), {"PATHS": json.dumps(_SOME)}),
        Operation("ms-odd", "files in folders, odd names", "ms_files.py", chosen(*_STRANGE), {"PATHS": json.dumps(_STRANGE)}),
        Operation("ms-dataset", "dataset, 230 files and one", "ms_dataset.py", dataset),
        Operation(
            "ms-errors",
            "what is missing or private",
            "ms_errors.py",
            errors(repo=True, file=True, private=True),
            states=_WITH_HUB,
        ),
        Operation(
            "ms-private", "private, after a login", "ms_private.py", private, _TOKEN, states=_WITH_HUB, hub_bytes_max=_PROOF
        ),
        Operation("ms-cli", "`modelscope download`", "ms_cli.py", tree),
        Operation("ms-upload", "new repo, `upload_folder`", "ms_upload.py", uploaded(6, **{"README.md": b"# up"}), _TOKEN),
        Operation("ms-swift", "its `download_model`", "swift_download.py", swift),
    )
}
