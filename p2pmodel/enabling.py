"""Lets huggingface_hub and modelscope take files from the daemon by hard link or reflink, instead of a copy over HTTP.

Their own functions that download one file are wrapped: ours first asks the daemon to bring the file into its store and links
it to where it was wanted; where that cannot be (another file system, another user's private file, no daemon, a version that we
do not know), theirs runs as ever, against the daemon's endpoint. Nothing is imported on their behalf: whoever is not loaded
yet is wrapped when it is. Needs no other import but the standard library's until a client is loaded.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

_Arguments = dict[str, Any]
_Take = Callable[[_Arguments], bool]


def enable() -> bool:
    """From now on, in this process. Call it before the clients are imported: they read their endpoint once. Whether a
    daemon was found; without one nothing changes."""
    if not _point_at_daemon():
        return False
    watch()
    for name, patch in _PATCHES.items():
        if name in sys.modules:
            patch(sys.modules[name])
    return True


def watch() -> None:
    """The same as soon as a client is imported (P2PMODEL_ENABLE=1, at `import p2pmodel`)."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _point_at_daemon() -> bool:
    """Where the user has not said otherwise, the clients' endpoint is the daemon's."""
    from p2pmodel.handing import environment  # noqa: PLC0415  # only once a client is there

    found = environment()
    for name, value in found.items():
        os.environ.setdefault(name, value)
    for name in ("NO_PROXY", "no_proxy") if found else ():  # each library reads its own spelling
        given = os.environ.get(name, "")
        if "localhost" not in given:
            os.environ[name] = f"localhost,127.0.0.1,::1,{given}".rstrip(",")
    return bool(found)


# Which functions, in which versions


def _huggingface(given: _Arguments) -> bool:
    """`_download_to_tmp_and_move`, huggingface_hub from 0.22 on."""
    destination = Path(given["destination_path"])
    if destination.exists() and not given.get("force_download"):
        return False
    return _hand(given["url_to_download"], destination, given.get("headers"), given.get("expected_size"))


def _modelscope_file(given: _Arguments) -> bool:
    """`parallel_download`, `http_get_model_file`, `http_get_file`, modelscope up to 1.37."""
    destination = Path(given["local_dir"]) / given["file_name"]
    return _hand(given["url"], destination, given.get("headers"), given.get("file_size"))


def _modelscope_hub(given: _Arguments) -> bool:
    """`DownloadManager._download_with_resume`, modelscope from 1.38 on."""
    repo = (given["repo_id"], given["repo_type"], given["file_path"], given["revision"])
    url = given["self"]._client.get_download_url(*repo)  # noqa: SLF001  # as the wrapped method does
    return _hand(url, Path(given["target"]), None, given.get("file_size"))


def _hand(url: str, destination: Path, headers: dict[str, str] | None, size: int | None) -> bool:
    from p2pmodel.handing import hand  # noqa: PLC0415

    return hand(url, destination, headers or {}, size)


def _patch_huggingface(module: ModuleType) -> None:
    _wrap(module, "_download_to_tmp_and_move", _huggingface)


def _patch_modelscope(module: ModuleType) -> None:
    for name in ("parallel_download", "http_get_model_file", "http_get_file"):
        _wrap(module, name, _modelscope_file)


def _patch_modelscope_hub(module: ModuleType) -> None:
    if (manager := getattr(module, "DownloadManager", None)) is not None:
        _wrap(manager, "_download_with_resume", _modelscope_hub, answer="target")


_PATCHES: Final[dict[str, Callable[[ModuleType], None]]] = {
    "huggingface_hub.file_download": _patch_huggingface,
    "modelscope.hub.file_download": _patch_modelscope,
    "modelscope.hub.snapshot_download": _patch_modelscope,  # up to 1.15 it took the names over
    "modelscope_hub._download": _patch_modelscope_hub,
}
#: Each reads its endpoint from the environment while it is imported.
_PACKAGES: Final = frozenset({"huggingface_hub", "modelscope", "modelscope_hub"})


def _wrap(owner: Any, name: str, take: _Take, *, answer: str | None = None) -> None:  # noqa: ANN401  # a module or a class
    """`answer` is the argument that the function returns when it is done."""
    theirs = getattr(owner, name, None)
    if theirs is None or hasattr(theirs, "__p2pmodel__"):
        return
    signature = inspect.signature(theirs)

    @functools.wraps(theirs)
    def with_daemon(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # theirs
        try:
            given = signature.bind(*args, **kwargs).arguments
            taken = take(given)
        except (TypeError, KeyError, AttributeError):  # a version that passes something else: theirs knows what to do
            taken = False
        if not taken:
            return theirs(*args, **kwargs)
        return given[answer] if answer else None

    with_daemon.__p2pmodel__ = True  # type: ignore[attr-defined]
    setattr(owner, name, with_daemon)


# Who is not loaded yet


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self) -> None:
        self._looking: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        if fullname in self._looking or fullname not in _PATCHES.keys() | _PACKAGES:
            return None
        self._looking.add(fullname)
        try:
            if fullname in _PACKAGES:
                _point_at_daemon()
                return None
            spec = importlib.util.find_spec(fullname)
        finally:
            self._looking.discard(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, _PATCHES[fullname])
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, theirs: importlib.abc.Loader, patch: Callable[[ModuleType], None]) -> None:
        self._theirs = theirs
        self._patch = patch

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._theirs.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._theirs.exec_module(module)
        self._patch(module)
