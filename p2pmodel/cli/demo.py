"""`p2pmodel demo`: a whole cluster on this machine."""

from __future__ import annotations

import click


@click.command("demo")
def command() -> int:
    """Show a whole cluster on this machine: a hub, three daemons, one fetch each; ends with the bytes by source."""
    from p2pmodel.demo.cluster import run  # noqa: PLC0415  # the whole house

    return run()
