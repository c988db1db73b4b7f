"""`p2pmodel cluster`: membership of a closed cluster, which is one key that every node has."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pmodel.cli.options import json_option, settings_options
from p2pmodel.cli.report import print_json
from p2pmodel.errors import ConfigError
from p2pmodel.settings import Settings

if TYPE_CHECKING:
    from p2pmodel.peering.keyring import KeyRing

_STDIN = "-"
_key_file_option = click.option("--key-file", type=click.Path(path_type=Path), metavar="FILE", help="Where to keep the key.")


@click.group("cluster")
def command() -> None:
    """A closed cluster keeps strangers out: its nodes share a key, and without it nobody gets past the handshake.

    Make one with `cluster init` on one node, then run `cluster join TOKEN` with what it prints on the others.
    """


@command.command("init")
@_key_file_option
@json_option
def init(key_file: Path | None, *, as_json: bool) -> None:
    """Make a new cluster: write its key and print the token that lets other nodes join."""
    from p2pmodel.peering.membership import new_join_token  # noqa: PLC0415  # brings cryptography

    token = new_join_token()
    _tell({"token": token, "key_file": str(_write_key(key_file, token))}, as_json=as_json)
    click.echo("Whoever has this token is a member. On each other node: p2pmodel cluster join TOKEN", err=True)


@command.command("join")
@click.argument("token")
@_key_file_option
@json_option
def join(token: str, key_file: Path | None, *, as_json: bool) -> None:
    """Make this node a member of the cluster that printed TOKEN (- reads it from stdin, out of sight of `ps`)."""
    from p2pmodel.peering.membership import parse_join_token  # noqa: PLC0415  # brings cryptography

    given = sys.stdin.readline().strip() if token == _STDIN else token.strip()
    parse_join_token(given)
    _tell({"key_file": str(_write_key(key_file, given))}, as_json=as_json)


@command.command("token")
@json_option
@settings_options
def show(settings: Settings, *, as_json: bool) -> None:
    """Print this cluster's join token."""
    file = _key_of(settings)
    _tell({"token": _ring(file).token, "key_file": str(file)}, as_json=as_json)


@command.command("rotate")
@click.argument("token", required=False)
@click.option("--grace", default="24h", metavar="TIME", help="How long the former key lets nodes in as well (24h).")
@json_option
@settings_options
def rotate(settings: Settings, *, token: str | None, grace: str, as_json: bool) -> None:
    """Change the cluster's key: on one node without TOKEN, then on each other one with the TOKEN that it prints (- reads it
    from stdin).

    Nothing restarts and no fetch breaks: for the time of --grace both keys let nodes in, then a node that was not given the
    new one is out.
    """
    from p2pmodel.peering.membership import new_join_token, parse_join_token  # noqa: PLC0415  # brings cryptography
    from p2pmodel.settings import duration  # noqa: PLC0415  # for this command alone

    try:
        grace_s = duration(grace)
    except ValueError as error:
        raise ConfigError(f"--grace must be {error}.") from None
    file = _key_of(settings)
    given = sys.stdin.readline().strip() if token == _STDIN else token
    fresh = given or new_join_token()
    parse_join_token(fresh)
    ring = _ring(file)
    if ring.token != fresh:
        _replace(file, ring.rotated(fresh, now=time.time(), grace_s=grace_s).spell())
    told = {"token": fresh} if given is None else {}
    _tell(told | {"key_file": str(file)}, as_json=as_json)
    if given is None:
        click.echo(f"On each other node, within {grace}: p2pmodel cluster rotate TOKEN --grace {grace}", err=True)
    click.echo(f"{file} holds the new key; the daemon here takes it within seconds.", err=True)


def _tell(document: dict[str, str], *, as_json: bool) -> None:
    """The result on stdout: for people the token alone, where there is a new one."""
    if as_json:
        print_json(document)
    elif "token" in document:
        click.echo(document["token"])


def _key_of(settings: Settings) -> Path:
    if settings.cluster.key_file is None:
        raise ConfigError("This node has no cluster key.", next_step="Make one with `p2pmodel cluster init`.")
    return settings.cluster.key_file


def _ring(file: Path) -> KeyRing:
    from p2pmodel import config  # noqa: PLC0415  # `--help` does without
    from p2pmodel.peering.keyring import KeyRing  # noqa: PLC0415  # brings cryptography

    return KeyRing.parse(config.read_lines(file))


def _write_key(chosen: Path | None, token: str) -> Path:
    """Keep the key where nobody else can read it, and never over another one: its cluster would be lost to this node. Where
    that is."""
    from p2pmodel import config  # noqa: PLC0415  # `--help` does without

    file = chosen or config.key_file_to_write()
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        _create(file, token + "\n")
    elif _ring(file).token != token:
        raise ConfigError(f"{file} holds a cluster's key already.", next_step="Move it away to leave that cluster.")
    click.echo(f"The cluster's key is in {file}.", err=True)
    if chosen:
        click.echo(f'Set cluster.key_file = "{file}" in the config, so that the daemon finds it.', err=True)
    click.echo("Restart the daemon here; `p2pmodel status` then says that the cluster is closed.", err=True)
    return file


def _replace(file: Path, text: str) -> None:
    """In one step: a daemon that reads it meanwhile finds the old or the new. It stays its owner's."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        _create(fresh, text)
        owner = file.stat()
        os.chown(fresh, owner.st_uid, owner.st_gid)
        fresh.replace(file)
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written: {error.strerror}.", next_step="Change the file that it is a copy of, and restart."
        ) from None


def _create(file: Path, text: str) -> None:
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(fd)
