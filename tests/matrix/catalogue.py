"""The clients: how each is had, what it is asked to do, and where it cannot, why not and what helps.

A new client or version is a line here; a new thing that it does is an operation in `operations.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from matrix.environments import Npm, Pip, Programs
from matrix.operations import STATES, State


@dataclass(frozen=True, slots=True)
class Limit:
    """A cell that cannot be green. It must not turn green unnoticed either."""

    why: str
    way_round: str
    states: tuple[State, ...] = STATES


@dataclass(frozen=True, slots=True, eq=False)
class Client:
    """`settings` are those of the daemons; `limits` go by operation; `often` is whether it runs before every merge."""

    family: str
    version: str
    needs: Pip | Npm | Programs
    operations: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, Limit] = field(default_factory=dict)
    often: bool = False

    @property
    def name(self) -> str:
        return f"{self.family} {self.version}".strip()

    def hopeless(self, operation: str) -> tuple[State, ...]:
        """States that a limit holds in too, once it has been seen to hold: old clients try for half a minute."""
        return self.limits[operation].states[1:] if operation in self.limits else ()

    def limit(self, operation: str, state: State) -> Limit | None:
        found = self.limits.get(operation)
        return found if found is not None and state in found.states else None


# Hugging Face

_HUB: Final = (
    "hf-snapshot",
    "hf-revisions",
    "hf-kinds",
    "hf-files",
    "hf-listings",
    "hf-ranges",
    "hf-errors",
    "hf-private",
    "hf-cli",
    "hf-upload",
)
_BY_XET: Final = ("hf-snapshot", "hf-kinds", "hf-files", "hf-ranges")
_TRANSFER: Final = "hf_transfer==0.1.9"
_OLD_XET: Final = "hf_xet==1.0.3"
_XET: Final = "hf_xet==1.8.0"

_HISTORY: Final = Limit(
    "A clone's history is the hub's; only the large files are the node's.", "`snapshot_download`.", ("gone",)
)


def _hub(version: str, *more: str, **how: Any) -> Client:
    by_xet = ("hf-xet-upload",) if {_XET, _OLD_XET} & set(more) else ()
    operations = (*_HUB, *by_xet, *(("hf-transfer",) if _TRANSFER in more else ()))
    return Client("huggingface_hub", version, Pip((f"huggingface_hub=={version}", *more)), operations, **how)


def _by_xet(version: str, *more: str, **how: Any) -> Client:
    packages = Pip((f"huggingface_hub=={version}", *more))
    return Client("huggingface_hub by Xet", version, packages, _BY_XET, {"gateway.xet": "all"}, **how)


def _transformers(version: str, hub: str, *more: str, **how: Any) -> Client:
    packages = Pip((f"transformers=={version}", f"huggingface_hub=={hub}", *more))
    return Client("transformers", version, packages, ("transformers",), **how)


def _datasets(version: str, hub: str, *more: str, **how: Any) -> Client:
    packages = Pip((f"datasets=={version}", f"huggingface_hub=={hub}", *more))
    return Client("datasets", version, packages, ("datasets-load", "datasets-stream"), **how)


# ModelScope

_MS_FIRST: Final = ("ms-snapshot", "ms-revisions", "ms-files", "ms-odd", "ms-errors", "ms-private")
_MS: Final = (*_MS_FIRST, "ms-dataset", "ms-cli", "ms-upload")

#: What old versions import before they download anything; the rest of what they depend on is for models.
_PKG_RESOURCES: Final = "setuptools<81"
_MS_LIGHT: Final = (
    _PKG_RESOURCES,
    *("requests", "tqdm", "pandas", "addict", "yapf", "packaging", "gast", "simplejson", "sortedcontainers", "pyyaml"),
)
_MS_DATASETS: Final = "datasets==3.6.0"  # without it some dataset calls return an empty directory

_UNQUOTED: Final = Limit("1.9 does not quote `#` and `%` in file names.", "A newer version.")
_FLAT: Final = Limit("1.15 does not make the folder for a single file in one.", "`snapshot_download`, or a newer version.")
_NO_COMMAND: Final = Limit("Its command line needs OpenCV and more.", "`snapshot_download` from Python.")


def _modelscope(version: str, *more: str, **how: Any) -> Client:
    return Client("modelscope", version, Pip((f"modelscope=={version}", *more)), _MS, **how)


CLIENTS: Final = (
    _hub("0.17.3", _TRANSFER),
    _hub("0.25.2", _TRANSFER, often=True),
    _hub("0.30.2", _OLD_XET, _TRANSFER),
    _hub("0.36.2", _XET, _TRANSFER),
    _hub("1.0.1", _XET, "click==8.4.0"),  # its command line forgets to ask for click
    _hub("1.33.0", _XET, often=True),
    _hub("2.4.0", _XET),
    _by_xet("0.30.2", _OLD_XET),
    _by_xet("0.36.2", _XET),
    _by_xet("1.0.1", _XET),
    _by_xet("1.33.0", _XET),
    _by_xet("2.4.0", _XET),
    _transformers("4.40.2", "0.25.2", "numpy<2"),
    _transformers("4.57.6", "0.36.2"),
    _transformers("5.23.0", "2.4.0"),
    _datasets("2.21.0", "0.25.2", "numpy<2", "pyarrow==17.0.0"),
    _datasets("3.6.0", "0.36.2"),
    _datasets("5.2.0", "2.4.0", often=True),
    Client("@huggingface/hub", "2.17.5", Npm(("@huggingface/hub@2.17.5",)), ("node", "node-upload"), often=True),
    Client("llama.cpp", "`-hf`, its requests", Programs(), ("llama-cpp",), often=True),
    Client("Rust hf-hub", "0.3 to 1.0, its requests", Programs(), ("rust",), often=True),
    Client("curl", "", Programs(("curl",)), ("curl",), often=True),
    Client("wget", "", Programs(("wget",)), ("wget",), often=True),
    Client(
        "git",
        "with git-lfs",
        Programs(("git", "git-lfs")),
        ("git", "git-push"),
        limits={"git": _HISTORY, "git-push": _HISTORY},
        often=True,
    ),
    Client("aria2", "as hfd.sh calls it", Programs(("curl", "aria2c")), ("aria2",), often=True),
    Client(
        "modelscope",
        "1.9.5",
        Pip(_MS_LIGHT, bare=("modelscope==1.9.5",)),
        _MS_FIRST,
        limits={"ms-odd": _UNQUOTED},
    ),
    Client(
        "modelscope",
        "1.15.0",
        Pip(_MS_LIGHT, bare=("modelscope==1.15.0",)),
        (*_MS_FIRST, "ms-cli"),
        limits={"ms-odd": _FLAT, "ms-cli": _NO_COMMAND},
    ),
    _modelscope("1.22.3", _MS_DATASETS, _PKG_RESOURCES),
    _modelscope("1.30.0", _MS_DATASETS, _PKG_RESOURCES),
    _modelscope("1.37.1", _MS_DATASETS, often=True),
    _modelscope("1.40.0", "modelscope-hub==0.3.1"),
    _modelscope("1.40.2", "modelscope-hub==0.5.1"),
    Client(
        "ms-swift",
        "4.6.0",
        Pip(("modelscope==1.40.2", "huggingface_hub==0.36.2"), bare=("ms-swift==4.6.0",)),
        ("ms-swift",),
        often=True,
    ),
)
