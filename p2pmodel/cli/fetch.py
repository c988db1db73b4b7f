"""`p2pmodel fetch`: brings a snapshot here through the local daemon or, if none runs, as a daemon for the time it takes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from p2pmodel.cli import local_daemon
from p2pmodel.cli.local_daemon import LocalDaemon
from p2pmodel.cli.options import exclude_option, include_option, json_option, settings_options
from p2pmodel.cli.progress import FetchEvent, View, view
from p2pmodel.cli.repo_argument import hub_option, model_or_dataset_option
from p2pmodel.content.naming import Hub, Repo, RepoKind
from p2pmodel.errors import NoDaemonError, NotFoundError, P2pmodelError
from p2pmodel.settings import GatewaySettings, HostPort, Settings

_API: Final = "/-/api/fetch"
_QUOTE: Final = "A pattern is matched against the whole path, and quoted, so that the shell leaves it alone: '*.json'."
MAIN_BRANCH: Final = {Hub.HUGGINGFACE: "main", Hub.MODELSCOPE: "master"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to fetch, with this user's own token for the hub."""

    repo: Repo
    revision: str
    files: tuple[str, ...]
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    offline: bool
    hub_token: str | None = field(default=None, repr=False)

    def names(self, path: str) -> bool:
        """Whether a file is among those asked for; an earlier fetch may have brought others."""
        if self.files and path not in self.files:
            return False
        if self.include and not any(fnmatchcase(path, pattern) for pattern in self.include):
            return False
        return not any(fnmatchcase(path, pattern) for pattern in self.exclude)

    def events(self, daemon: LocalDaemon) -> Iterator[FetchEvent]:
        query = {
            "hub": self.repo.hub.value,
            "type": self.repo.kind.value,
            "repo": self.repo.name,
            "revision": self.revision,
            "file": self.files,
            "include": self.include,
            "exclude": self.exclude,
            "offline": "1" if self.offline else "",
        }
        for event in daemon.events(_API, query, hub_token=self.hub_token):
            yield msgspec.convert(event, FetchEvent)


@click.command("fetch")
@click.argument("repo", metavar="REPO[@REV]")
@click.argument("files", metavar="[FILE]...", nargs=-1)
@hub_option
@model_or_dataset_option
@include_option
@exclude_option
@click.option(
    "--to", "target", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Put the files there as well."
)
@click.option("--offline", is_flag=True, help="Never ask a hub; only what is here or at a peer.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@json_option
@settings_options
def command(
    settings: Settings,
    *,
    repo: str,
    files: tuple[str, ...],
    hub: str,
    kind: str,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    target: Path | None,
    offline: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Bring a snapshot (or the named FILEs of it) here and print the path of its directory.

    REPO is asked for at Hugging Face unless --hub says otherwise. With --to the files are also put into DIR, as hard links
    where that is possible. Interrupted or failed, the same command resumes.
    """
    started = time.monotonic()
    wanted = _wanted(repo, Hub(hub), RepoKind(kind), files=files, include=include, exclude=exclude, offline=offline)
    try:
        with view(str(wanted.repo), quiet=quiet) as shown:
            done = bring(settings, wanted, shown)
    except* KeyboardInterrupt:  # in a group where this process is the daemon
        click.echo("What was fetched is kept; the same command resumes.", err=True)
        raise
    if not done.files and (wanted.include or wanted.exclude):
        raise NotFoundError(f"No file of {wanted.repo} is left by --include and --exclude.", next_step=_QUOTE)
    path = done.path if target is None else str(export_to(done, target, wanted))
    if not as_json:
        click.echo(path)
        return
    document = msgspec.structs.asdict(done) | {"path": path, "seconds": round(time.monotonic() - started, 3)}
    click.echo(json.dumps({key: value for key, value in document.items() if key not in {"event", "rate", "files_done"}}))


def _wanted(text: str, hub: Hub, kind: RepoKind, **rest: Any) -> Wanted:  # noqa: ANN401  # fields of Wanted
    name, at, revision = text.partition("@")
    if at and not revision:
        raise click.BadParameter("a revision must stand behind the @.", param_hint="REPO")
    try:
        repo = Repo(hub, kind, name)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint="REPO") from None
    return Wanted(repo, revision or MAIN_BRANCH[hub], hub_token=hub_token(hub), **rest)


def bring(settings: Settings, wanted: Wanted, shown: View) -> FetchEvent:
    """By the local daemon or, if none runs, as one; the last event, which has the path."""

    def follow(daemon: LocalDaemon) -> FetchEvent:
        for event in wanted.events(daemon):
            shown.update(event)
            if event.path:
                return event
        raise P2pmodelError("The daemon ended its answer too early.", next_step="The same command resumes.")

    try:
        daemon = local_daemon.find(settings)
    except NoDaemonError:
        return _as_daemon(settings, wanted, follow)
    return follow(daemon)


def _as_daemon(settings: Settings, wanted: Wanted, follow: Callable[[LocalDaemon], FetchEvent]) -> FetchEvent:
    """Be the daemon while `follow` asks it: peers find it, and the next `serve` goes on with what it stored."""
    from p2pmodel.process import run_for  # noqa: PLC0415  # the whole house

    anywhere = replace(
        settings,
        node=replace(settings.node, offline=settings.node.offline or wanted.offline),
        gateway=GatewaySettings(listen=HostPort("localhost", 0)),
        peering=replace(settings.peering, listen=settings.peering.listen._replace(port=0)),
    )
    return run_for(anywhere, lambda running: follow(LocalDaemon(running.node_id, running.gateway)))


def export_to(done: FetchEvent, target: Path, wanted: Wanted) -> Path:
    """Hand what was fetched out into a directory."""
    from p2pmodel.store.adoption import is_somebodys  # noqa: PLC0415  # only with --to
    from p2pmodel.store.export import export  # noqa: PLC0415
    from p2pmodel.store.freshness import Freshness  # noqa: PLC0415
    from p2pmodel.store.tree import Leaf  # noqa: PLC0415

    snapshot = Path(done.path or "")
    found = [(file.relative_to(snapshot).as_posix(), file.resolve()) for file in sorted(snapshot.rglob("*")) if file.is_file()]
    leaves = [
        Leaf(path, sealed.name, sealed, Freshness(0), adopted=is_somebodys(sealed.stat()))
        for path, sealed in found
        if wanted.names(path)
    ]
    if len(leaves) != done.files:
        raise P2pmodelError(
            f"{snapshot} cannot be read by this user, as the daemon keeps private files to itself.",
            next_step="Let your client download them from the gateway: see `p2pmodel env`.",
        )
    export(leaves, target)
    return target.absolute()


def hub_token(hub: Hub) -> str | None:
    """This user's own token, where the hub's tools keep it."""
    if hub is Hub.MODELSCOPE:
        return os.environ.get("MODELSCOPE_API_TOKEN") or None
    if token := os.environ.get("HF_TOKEN"):
        return token
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    try:
        return Path(os.environ.get("HF_TOKEN_PATH") or home / "token").read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None  # most users have none; the hub says when one is wanted
