"""REPO[@REV] with --hub and --type, as commands that speak of what is held here take it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from p2pmodel.content.naming import Hub, RepoKind

R = TypeVar("R")

hub_option = click.option(
    "--hub", type=click.Choice([hub.value for hub in Hub]), default=Hub.HUGGINGFACE.value, show_default=True
)
type_option = click.option(
    "--type", "kind", type=click.Choice([kind.value for kind in RepoKind]), default=RepoKind.MODEL.value, show_default=True
)

model_or_dataset_option = click.option(
    "--type", "kind", type=click.Choice(["model", "dataset"]), default="model", show_default=True
)


def repo_argument(*, required: bool = True) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Gives a command `asked`: the query that names the repo, empty if none was given."""

    def decorate(command: Callable[..., R]) -> Callable[..., R]:
        @click.argument("repo", metavar="REPO[@REV]", required=required, default=None if required else "")
        @hub_option
        @type_option
        @wraps(command)
        def with_repo(
            *args: Any,  # noqa: ANN401  # whatever the command gets besides
            repo: str,
            hub: str,
            kind: str,
            **rest: Any,  # noqa: ANN401
        ) -> R:
            name, _, revision = repo.partition("@")
            asked = {"repo": name, "revision": revision, "hub": hub, "type": kind} if name else {}
            return command(*args, asked=asked, **rest)

        return with_repo

    return decorate
