"""`p2pmodel demo`: a whole cluster on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import click

from p2pmodel.cli.options import json_option


@click.command("demo")
@json_option
def command(*, as_json: bool) -> int:
    """Show a whole cluster on this machine: a hub, three daemons, one fetch each; ends with the bytes by source.

    The model comes out of a PyPI package once and is kept in the user's cache directory; without a network a synthetic one
    stands in. Ends with 1 if a promise was broken.
    """
    from p2pmodel.demo.cluster import run  # noqa: PLC0415  # the whole house

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "p2pmodel"
    return run(cache_dir=cache, as_json=as_json)
