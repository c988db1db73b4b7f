"""`p2pmodel push`: uploads a folder to a hub and shares it with the cluster at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from p2pmodel import config
from p2pmodel.cli import fetch, local_daemon
from p2pmodel.cli.adopt import adopt
from p2pmodel.cli.options import exclude_option, include_option, json_option, settings_options
from p2pmodel.cli.repo_argument import repo_argument
from p2pmodel.cli.report import print_json
from p2pmodel.cli.uploading import Upload, upload
from p2pmodel.content.naming import LAN_OWNER, Hub, Repo, RepoKind
from p2pmodel.errors import ConfigError, NoDaemonError, NotAuthorisedError
from p2pmodel.settings import Settings, UpstreamSettings


@click.command("push")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, exists=True, file_okay=False))
@repo_argument()
@click.option("--lan", is_flag=True, help="To this cluster alone, as _lan/NAME; no hub is asked.")
@click.option("--lasts", default="7d", show_default=True, metavar="TIME", help="With --lan: how long it is there.")
@click.option("--private", is_flag=True, help="If the repo has to be made: a private one.")
@click.option("-m", "--message", default="Upload with p2pmodel", show_default=True, help="Of the commit.")
@include_option
@exclude_option
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@json_option
@settings_options
def command(
    settings: Settings,
    *,
    asked: Mapping[str, str],
    folder: Path,
    lan: bool,
    lasts: str,
    quiet: bool,
    as_json: bool,
    **options: Any,  # noqa: ANN401  # fields of Upload
) -> None:
    """Upload DIR to REPO, which is made if it does not exist, and share it with the cluster.

    Interrupted, the same command goes on: what the hub has is not sent again. The files are taken into the store where they
    lie, so that no node asks the hub for them. With --lan no hub is asked: for a time, clients on every node of this closed
    cluster find _lan/NAME like any repo.
    """
    if lan:
        _publish(settings, folder.resolve(), asked, lasts=lasts, quiet=quiet, as_json=as_json)
        return
    repo = _repo(asked)
    if repo.on_lan:
        raise ConfigError(f"No hub takes {repo}.", next_step="Publish it with --lan, or name it otherwise.")
    upstream = _upstream(settings, repo.hub)

    def token_now() -> str | None:
        return fetch.hub_token(repo.hub) or config.token_of(upstream)

    token = token_now()
    if not token:
        raise NotAuthorisedError("Uploading takes a token.", next_step="Set HF_TOKEN or MODELSCOPE_API_TOKEN.")
    revision = asked["revision"] or fetch.MAIN_BRANCH[repo.hub]
    given = {"folder": folder.resolve(), "repo": repo, "revision": revision, "quiet": quiet, **options}
    wanted = Upload(token=token, renewed=token_now, **given)
    commit = upload(wanted, upstream)
    shared = _share(settings, wanted, {**asked, "revision": commit})
    if as_json:
        print_json({"repo": repo.name, "hub": repo.hub, "type": repo.kind, "commit": commit, "shared": shared})
    else:
        click.echo(commit)


def _publish(settings: Settings, folder: Path, asked: Mapping[str, str], *, lasts: str, quiet: bool, as_json: bool) -> None:
    name = asked["repo"].removeprefix(f"{LAN_OWNER}/")
    if "/" in name or asked["revision"] or asked["hub"] != Hub.HUGGINGFACE:
        raise click.BadParameter("with --lan it is a plain name.", param_hint="REPO")
    repo = _repo({**asked, "repo": f"{LAN_OWNER}/{name}"})
    query = {**asked, "repo": repo.name, "dir": str(folder), "lasts": lasts}
    adopt(local_daemon.find(settings), query, quiet=quiet)
    if as_json:
        print_json({"repo": repo.name, "type": repo.kind, "lasts": lasts})
    else:
        click.echo(repo.name)


def _share(settings: Settings, wanted: Upload, asked: Mapping[str, str]) -> bool:
    """The upload is done whatever comes of this."""
    try:
        daemon = local_daemon.find(settings)
        report = adopt(daemon, {**asked, "dir": str(wanted.folder)}, quiet=wanted.quiet)
    except (NoDaemonError, NotAuthorisedError) as error:
        click.echo(f"It is uploaded, and not shared from here: {error} {error.next_step}".rstrip(), err=True)
        return False
    return not report.failed


def _repo(asked: Mapping[str, str]) -> Repo:
    try:
        return Repo(Hub(asked["hub"]), RepoKind(asked["type"]), asked["repo"])
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint="REPO") from None


def _upstream(settings: Settings, hub: Hub) -> UpstreamSettings:
    found = sorted((each for each in settings.upstreams if each.hub is hub), key=lambda each: each.priority)
    if not found:
        raise ConfigError(f"No [[upstream]] leads to {hub}.", next_step="Add one to the config file.")
    return found[0]
