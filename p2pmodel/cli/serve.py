"""`p2pmodel serve`: the daemon in the foreground."""

from __future__ import annotations

import click

from p2pmodel.cli.options import setting_option, settings_options
from p2pmodel.settings import Settings


@click.command("serve")
@settings_options
@setting_option("--gateway", "gateway.listen", "Where clients connect (gateway.listen).")
@setting_option("--peering", "peering.listen", "Where other daemons connect (peering.listen).")
def command(settings: Settings) -> None:
    """Run the daemon in the foreground. SIGTERM lets it finish what it is sending."""
    from p2pmodel.process import serve  # noqa: PLC0415  # the whole house

    serve(settings)
