"""`p2pmodel why`: where each run of chunks came from, and why a hub was asked."""

from __future__ import annotations

import time
from typing import Final

import click
import msgspec

from p2pmodel.cli import local_daemon
from p2pmodel.cli.options import json_option, settings_options
from p2pmodel.cli.progress import amount, count
from p2pmodel.cli.repo_argument import hub_option, model_or_dataset_option
from p2pmodel.cli.report import (
    FailureReport,
    FalseVoucherReport,
    RunReport,
    SourceReport,
    WhyFileReport,
    WhyReport,
    print_json,
    print_table,
)
from p2pmodel.settings import Settings

_RUNS_SHOWN: Final = 20  # of each file of a repo; of a file that was named, all

#: Why a hub was asked (p2pmodel.swarm's HubReason).
REASONS: Final = {
    "own_read": "a client waited for it, and only this node's own read may leave unconfirmed",
    "distrust": "the file's hash was wrong: what others gave was read again",
    "no_peers": "no peer was linked",
    "nobody_holds": "no peer held it or wanted it",
    "my_turn": "no peer held it; of the nodes that wanted it this one's turn came",
    "passed_on": "no peer held it, and the node whose turn it was did not take it",
    "stalled": "a peer held it, was asked, and sent nothing",
    "slow": "the peers that held it were slower than the hub",
    "refused": "each peer that held it had failed to give it",
}


@click.command("why")
@click.argument("repo", metavar="REPO[@REV]")
@click.argument("file", metavar="[FILE]", required=False)
@hub_option
@model_or_dataset_option
@json_option
@settings_options
def command(settings: Settings, *, repo: str, file: str | None, hub: str, kind: str, as_json: bool) -> None:
    """Show where each run of chunks of a public model came from, and why a hub was asked.

    The record goes back over the last orders only (some 60,000); what came before, or was adopted, has no source.
    """
    name, _, revision = repo.partition("@")
    query = {"repo": name, "revision": revision, "file": file or "", "hub": hub, "type": kind}
    document = local_daemon.find(settings).get("/-/api/why", query)
    if as_json:
        print_json(document)
        return
    report = msgspec.convert(document, WhyReport)
    for each in report.files:
        if each.runs or each.failures or each.false_vouchers or file:
            _print_file(each, runs_shown=None if file else _RUNS_SHOWN)
    _print_totals(report)


def _print_file(file: WhyFileReport, *, runs_shown: int | None) -> None:
    click.echo(f"{file.path}  {amount(file.bytes)} in {count(file.chunks, 'chunk')}  {file.blob[:19]}")
    shown = file.runs[:runs_shown]
    if shown:
        print_table(("  CHUNKS", "FROM", "WHEN", "RATE", "WHY"), map(_row, shown))
    if len(shown) < len(file.runs):
        click.echo(f"  and {count(len(file.runs) - len(shown), 'more run')}: name the file to see them all")
    for failure in file.failures:
        click.echo(f"  failed: {_failure(failure)}")
    for false in file.false_vouchers:
        click.echo(f"  {_false(false)}")
    for proof in file.proofs:
        who = _who(proof.kind, proof.source, proof.address)
        click.echo(f"  from {_when(proof.at)} proven by the hub's own root, piece by piece, as {who} listed them")
    if file.recorded < file.chunks_here:
        click.echo(f"  {count(file.chunks_here - file.recorded, 'chunk')} came before the record begins, or from this machine")
    click.echo()


def _row(run: RunReport) -> tuple[str, ...]:
    chunks = f"{run.first}" if run.first == run.last else f"{run.first}-{run.last}"
    why = REASONS.get(run.reason, run.reason) or "a peer held it"
    return f"  {chunks}", _who(run.kind, run.source, run.address), _when(run.began), f"{amount(run.rate)}/s", why


def _failure(failure: FailureReport) -> str:
    who = _who(failure.kind, failure.source, failure.address)
    return f"{count(failure.orders, 'order')} of {who}, {failure.outcome}, last {_when(failure.last)}"


def _false(voucher: FalseVoucherReport) -> str:
    left = count(voucher.chunks_left, "wrong chunk") if voucher.chunks_left else "nothing wrong"
    who = _who(voucher.kind, voucher.source, voucher.address)
    return f"{who} vouched falsely for it, found {_when(voucher.at)}: {left} had left to clients"


def _print_totals(report: WhyReport) -> None:
    if not report.sources:
        click.echo("Nothing is recorded of it: it was here before, or no order for it is over yet.", err=True)
        return
    whole = sum(source.bytes for source in report.sources) or 1
    print_table(
        ("FROM", "BYTES", "SHARE", "ORDERS", "FAILED", "RATE OF AN ORDER"),
        (_total(source, whole) for source in report.sources),
    )
    for reason in report.reasons:
        click.echo(f"A hub gave {amount(reason.bytes)}: {REASONS.get(reason.reason, reason.reason)}.")


def _total(source: SourceReport, whole: int) -> tuple[str, ...]:
    return (
        _who(source.kind, source.source, source.address),
        amount(source.bytes),
        f"{source.bytes / whole:.0%}",
        f"{source.orders}",
        f"{source.failed}",
        f"{amount(source.rate)}/s",
    )


def _who(kind: str, source: str, address: str) -> str:
    return f"hub {source}".rstrip() if kind == "hub" else f"peer {source[:12]} {address}".rstrip()


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
