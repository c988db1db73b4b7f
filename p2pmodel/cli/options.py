"""Options that commands share: which settings are in force."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

R = TypeVar("R")

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
include_option = click.option("--include", multiple=True, metavar="GLOB", help="Only files that match; may be repeated.")
exclude_option = click.option("--exclude", multiple=True, metavar="GLOB", help="Not the files that match; may be repeated.")


def settings_options(command: Callable[..., R]) -> Callable[..., R]:
    """Gives a command `--config`, `--state-dir` and `--set`, and as its first argument the settings that they lead to."""

    @click.option("--config", "config_file", type=click.Path(path_type=Path), metavar="FILE", help="Config file to read.")
    @click.option("--state-dir", metavar="DIR", help="Where the daemon keeps everything (node.state_dir).")
    @click.option("--set", "assignments", multiple=True, metavar="SECTION.KEY=VALUE", help="Any setting; may be repeated.")
    @wraps(command)
    def with_settings(
        config_file: Path | None,
        state_dir: str | None,
        assignments: Sequence[str],
        **rest: Any,  # noqa: ANN401  # whatever the command's own options are
    ) -> R:
        from p2pmodel import config  # noqa: PLC0415  # `--help` does without

        flags = dict(_assignment(text) for text in assignments)
        if state_dir is not None:
            flags["node.state_dir"] = state_dir
        return command(config.load(file=config_file, flags=flags | _short_flags(rest)), **rest)

    return with_settings


def setting_option(flag: str, key: str, meaning: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """A flag of its own for a setting, for a command that has `settings_options` above it."""
    return click.option(flag, _SHORT + key.replace(".", "__"), metavar="VALUE", help=meaning)


_SHORT = "setting__"


def _short_flags(parameters: dict[str, Any]) -> dict[str, str]:
    """Takes what `setting_option` put among the parameters out of them."""
    names = [name for name in parameters if name.startswith(_SHORT)]
    given = {name.removeprefix(_SHORT).replace("__", "."): parameters.pop(name) for name in names}
    return {key: value for key, value in given.items() if value is not None}


def _assignment(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not SECTION.KEY=VALUE.", param_hint="--set")
    return key.strip(), value
