"""`p2pmodel limits`: how fast and how much at once, now and from now on."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec

from p2pmodel.cli import local_daemon
from p2pmodel.cli.options import json_option, settings_options
from p2pmodel.cli.progress import amount
from p2pmodel.cli.report import LimitReport, LimitsReport, print_json, print_table
from p2pmodel.settings import KEYS, Settings, rate, spell


@click.command("limits")
@click.argument("changes", metavar="[KEY=VALUE]...", nargs=-1)
@json_option
@settings_options
def command(settings: Settings, *, changes: Sequence[str], as_json: bool) -> None:
    """Show the daemon's limits and what is used of them, or change some: `p2pmodel limits upstream=50MB/s clients=64`.

    A change holds until the daemon restarts or is told to reload; [limits] in the config file holds for good.
    """
    daemon = local_daemon.find(settings)
    assigned = dict(map(_assignment, changes))
    document = daemon.change("limits", assigned) if assigned else daemon.get("/-/api/limits")
    if as_json:
        print_json(document)
        return
    limits = msgspec.convert(document, LimitsReport).limits
    print_table(
        ("LIMIT", "VALUE", "NOW"),
        ((key, _value(key, limit), _now(key, limit)) for key, limit in limits.items()),
    )


def _assignment(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key.strip() and equals and value.strip()):
        raise click.BadParameter(f"{text!r} is not KEY=VALUE.", param_hint="KEY=VALUE")
    return key.strip().removeprefix("limits."), value.strip()


def _is_rate(key: str) -> bool:
    return KEYS.get(f"limits.{key}") is rate


def _value(key: str, limit: LimitReport) -> str:
    if not _is_rate(key):
        return f"{limit.limit:.0f}"
    return str(spell(int(limit.limit), rate)) if limit.limit else "none"


def _now(key: str, limit: LimitReport) -> str:
    return f"{amount(limit.now)}/s" if _is_rate(key) else f"{limit.now:.0f}"
