"""What a Python program may ask of the daemon on this machine. Every function raises a P2pmodelError for what fails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from p2pmodel import config
from p2pmodel.cli import fetch, local_daemon
from p2pmodel.cli.progress import view
from p2pmodel.cli.report import StatusReport as Status
from p2pmodel.cli.warm import NodeEvent, WarmEvent
from p2pmodel.content.naming import Hub, Repo, RepoKind
from p2pmodel.enabling import enable
from p2pmodel.errors import ConfigError, P2pmodelError

__all__ = ["NodeEvent", "P2pmodelError", "Status", "enable", "snapshot_download", "status", "warm"]

HubName = Literal["huggingface", "modelscope"]
KindName = Literal["model", "dataset", "space"]


def snapshot_download(
    repo_id: str,
    *,
    revision: str | None = None,
    hub: HubName = "huggingface",
    repo_type: KindName = "model",
    files: Sequence[str] = (),
    allow_patterns: Sequence[str] | str | None = None,
    ignore_patterns: Sequence[str] | str | None = None,
    local_dir: str | Path | None = None,
    token: str | None = None,
    local_files_only: bool = False,
) -> str:
    """Bring a snapshot here and return its directory, as `p2pmodel fetch` does: through the local daemon or, if none runs,
    as a daemon for the time it takes. `token` is this user's own where the hub's tools keep it, unless given."""
    wanted = fetch.Wanted(
        repo=_repo(repo_id, hub, repo_type),
        revision=revision or fetch.MAIN_BRANCH[Hub(hub)],
        files=tuple(files),
        include=_patterns(allow_patterns),
        exclude=_patterns(ignore_patterns),
        offline=local_files_only,
        hub_token=token or fetch.hub_token(Hub(hub)),
    )
    with view(repo_id, quiet=True) as silent:
        done = fetch.bring(config.load(), wanted, silent)
    return str(fetch.export_to(done, Path(local_dir), wanted)) if local_dir is not None else str(done.path)


def status() -> Status:
    """The daemon of this machine, and its live transfers. Raises NoDaemonError."""
    return msgspec.convert(local_daemon.find(config.load()).get("/-/api/status"), Status)


def warm(
    repo_id: str,
    *,
    nodes: str = "all",
    revision: str | None = None,
    hub: HubName = "huggingface",
    repo_type: KindName = "model",
    allow_patterns: Sequence[str] | str | None = None,
    ignore_patterns: Sequence[str] | str | None = None,
    wait: bool = True,
) -> list[NodeEvent]:
    """Have nodes of a closed cluster bring a public snapshot in; how far each is, at the end or (not `wait`) now."""
    query = {
        "repo": _repo(repo_id, hub, repo_type).name,
        "revision": revision or "",
        "hub": hub,
        "type": repo_type,
        "nodes": nodes,
        "include": _patterns(allow_patterns),
        "exclude": _patterns(ignore_patterns),
    }
    last = WarmEvent(event="")
    for event in local_daemon.find(config.load()).events("/-/api/warm", query, hub_token=None):
        last = msgspec.convert(event, WarmEvent)
        if not wait:
            break
    return last.nodes


def _repo(name: str, hub: str, kind: str) -> Repo:
    try:
        return Repo(Hub(hub), RepoKind(kind), name)
    except ValueError as error:
        raise ConfigError(f"{error}.") from None


def _patterns(given: Sequence[str] | str | None) -> tuple[str, ...]:
    if given is None:
        return ()
    return (given,) if isinstance(given, str) else tuple(given)
