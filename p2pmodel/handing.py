"""Handing one file over from the daemon's store to where a client wants it, without a copy: see `enabling`."""

from __future__ import annotations

import fcntl
import functools
import os
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from p2pmodel import config
from p2pmodel.cli import local_daemon
from p2pmodel.cli.local_daemon import LocalDaemon
from p2pmodel.content.naming import check_path
from p2pmodel.errors import P2pmodelError

_FICLONE: Final = 0x40049409  # linux/fs.h
_WRITABLE: Final = 0o222
_HUGGINGFACE: Final = re.compile(r"/(?:(datasets|spaces)/)?([^/]+(?:/[^/]+)?)/resolve/([^/]+)/(.+)")
_MODELSCOPE: Final = re.compile(r"/api/v1/(models|datasets)/([^/]+/[^/]+)/repo")
_MASTER: Final = "master"


def environment() -> dict[str, str]:
    """What clients need in their environment to ask the daemon; empty if none runs."""
    daemon = _daemon()
    return daemon.client_environment() if daemon else {}


def hand(url: str, destination: Path, headers: Mapping[str, str], size: int | None) -> bool:
    """Put the file that a client would download from `url` at `destination`; False if that is left to the client."""
    daemon = _daemon()
    wanted = _read(url) if daemon and url.startswith(daemon.endpoints) else None
    if daemon is None or wanted is None:
        return False
    try:
        held = _bring(daemon, wanted, headers)
        return held is not None and _link(held, destination, size)
    except (P2pmodelError, OSError):
        return False


@functools.cache
def _daemon() -> LocalDaemon | None:
    with suppress(P2pmodelError):
        return local_daemon.find(config.load())
    return None


def _read(url: str) -> dict[str, str] | None:
    """The daemon's words for what an address of a hub's file means."""
    parts = urlsplit(url)
    if match := _MODELSCOPE.fullmatch(parts.path):
        kind, repo = match.groups()
        asked = parse_qs(parts.query)
        file, revision = (asked.get(name, [""])[0] for name in ("FilePath", "Revision"))
        found = {"hub": "modelscope", "type": kind[:-1], "repo": repo, "revision": revision or _MASTER, "file": file}
    elif match := _HUGGINGFACE.fullmatch(parts.path):
        kinds, repo, revision, path = match.groups("")
        kind = kinds[:-1] or "model"
        found = {"hub": "huggingface", "type": kind, "repo": repo, "revision": unquote(revision), "file": unquote(path)}
    else:
        return None
    try:
        check_path(found["file"])
    except ValueError:
        return None
    return found


def _bring(daemon: LocalDaemon, wanted: Mapping[str, str], headers: Mapping[str, str]) -> Path | None:
    """The file as the daemon keeps it, once it does. The client's own token is asked for it, as over HTTP."""
    given = next((value for name, value in headers.items() if name.lower() == "authorization"), "")
    token = given.removeprefix("Bearer ") if given.startswith("Bearer ") else None
    for event in daemon.events("/-/api/fetch", wanted, hub_token=token):
        if event.get("path"):
            return (Path(event["path"]) / wanted["file"]).resolve(strict=True)
    return None


def _link(held: Path, destination: Path, size: int | None) -> bool:
    there = held.stat()
    if size is not None and there.st_size != size:
        return False
    destination.parent.mkdir(parents=True, exist_ok=True)
    aside = destination.parent / f".p2pmodel-{os.getpid()}-{threading.get_ident()}"
    aside.unlink(missing_ok=True)
    # A file that its owner may write is somebody's cache as well: two caches shall not share one that either may change.
    made = (not there.st_mode & _WRITABLE and _linked(held, aside)) or _cloned(held, aside)
    if made:
        aside.replace(destination)
    return made


def _linked(held: Path, aside: Path) -> bool:
    try:
        os.link(held, aside)
    except OSError:
        return False
    return True


def _cloned(held: Path, aside: Path) -> bool:
    try:
        with held.open("rb") as source, aside.open("xb") as copy:
            fcntl.ioctl(copy.fileno(), _FICLONE, source.fileno())
    except OSError:
        aside.unlink(missing_ok=True)
        return False
    return True
