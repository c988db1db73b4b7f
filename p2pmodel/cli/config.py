"""`p2pmodel config show`: the settings in force, as a config file would spell them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from p2pmodel.cli.options import json_option, settings_options
from p2pmodel.settings import SECTIONS, Settings, UpstreamSettings, keys_of, spell


@click.group("config")
def command() -> None:
    """Settings: defaults, config file, environment P2PMODEL_SECTION__KEY, flags; later beats earlier."""


@command.command("show")
@click.option("--defaults", is_flag=True, help="The defaults instead, each with its meaning.")
@json_option
@settings_options
def show(settings: Settings, *, defaults: bool, as_json: bool) -> None:
    """Print every setting and where it came from. Tokens are not shown, only whether there is one."""
    from p2pmodel import config  # noqa: PLC0415  # `--help` does without

    if defaults:
        settings = config.defaults()
    if as_json:
        click.echo(json.dumps(_document(settings), indent=2))
        return
    for line in _toml(settings, meanings=defaults):
        click.echo(line)


def _document(settings: Settings) -> dict[str, Any]:
    document: dict[str, Any] = {
        section: {
            key: {"value": value, "origin": settings.origins[f"{section}.{key}"]}
            for key, value, _ in _spelled(getattr(settings, section))
        }
        for section in SECTIONS
    }
    document["upstream"] = [
        {key: value for key, value, _ in _spelled(upstream)}
        | {"token": _token(upstream), "origin": settings.origins[f"upstream.{upstream.name}"]}
        for upstream in settings.upstreams
    ]
    document["alias"] = [{key: value for key, value, _ in _spelled(alias)} for alias in settings.aliases]
    return document


def _toml(settings: Settings, *, meanings: bool) -> Iterator[str]:
    for section in SECTIONS:
        yield f"[{section}]"
        for key, value, meaning in _spelled(getattr(settings, section)):
            if meanings:
                yield f"# {meaning}"
            origin = "" if meanings else f"  # {settings.origins[f'{section}.{key}']}"
            yield f"{key} = {json.dumps(value)}{origin}"
        yield ""
    for upstream in settings.upstreams:
        yield f"[[upstream]]  # {settings.origins[f'upstream.{upstream.name}']}"
        for key, value, meaning in _spelled(upstream):
            if meanings:
                yield f"# {meaning}"
            yield f"{key} = {json.dumps(value)}"
        yield f"# token {_token(upstream)}"
        yield ""
    for alias in settings.aliases:
        yield "[[alias]]"
        for key, value, _ in _spelled(alias):
            yield f"{key} = {json.dumps(value)}"
        yield ""


def _spelled(section: object) -> Iterator[tuple[str, Any, str]]:
    """Key, value as a user would write it, meaning."""
    for key, each in keys_of(type(section)).items():
        yield key, spell(getattr(section, key), each.metadata["read"]), each.metadata["meaning"]


def _token(upstream: UpstreamSettings) -> str:
    return "(set)" if upstream.token or upstream.token_file else "(not set)"
