"""`p2pmodel status`: this node in plain words: who can join, what is shared, what is under way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import click
import msgspec

from p2pmodel.cli import local_daemon
from p2pmodel.cli.options import json_option, settings_options
from p2pmodel.cli.progress import amount, count, seconds
from p2pmodel.cli.report import ClusterReport, DownloadReport, StatusReport, of_another_version, print_json
from p2pmodel.settings import Settings

_WHO: Final = {
    "open": "open: whoever runs p2pmodel on this machine's subnets can join; `p2pmodel cluster init` keeps strangers out.",
    "closed": "closed: only whoever has this cluster's key can join (`p2pmodel cluster token` prints it).",
    "hardened": "hardened: only whoever has a certificate of the cluster's authority can join, unless it denies it.",
    "off": "off: nobody can join; this node has no peers.",
}

_SHARED: Final = {
    "off": "public models, with every peer; private and gated ones stay here.",
    "prove": "public models, with every member; private and gated ones with members whose own users can read them at the hub.",
    "members": "public models, and private and gated ones as well, with every member.",
}

_CLIENTS: Final = {
    "here": "for users of this machine",
    "token": "for whoever shows the gateway's token",
    "anyone": "for anyone who reaches it (gateway.serve_anyone)",
}

_VOUCHED: Final = (
    "bytes of a file leave before this node has checked the whole of it, once {} other members that have vouch for it."
)


@click.command("status")
@json_option
@settings_options
def command(settings: Settings, *, as_json: bool) -> None:
    """Show this node: who can join and what is shared, what is held, what is under way."""
    document = local_daemon.find(settings).get("/-/api/status")
    if as_json:
        print_json(document)
        return
    status = msgspec.convert(document, StatusReport)
    quota = f" of {amount(status.store.quota)}" if status.store.quota else ""
    hubs = "not asked (offline)" if status.offline else "asked for what no peer has"
    for name, value in (
        ("Node", f"{status.name} ({status.node_id[:12]}), p2pmodel {status.version}"),
        ("Cluster", _WHO.get(status.mode, status.mode)),
        ("Shared", _SHARED.get(status.private_sharing, status.private_sharing) if status.mode != "off" else "nothing."),
        ("Peers", f"{status.peers} linked, listening on {status.peering}" if status.mode != "off" else "none"),
        ("Hubs", hubs),
        ("Clients", f"{status.gateway}, {_CLIENTS.get(status.clients, status.clients)}; `p2pmodel env` prints what they need"),
        ("Store", f"{amount(status.store.bytes)}{quota} in {status.state_dir}"),
    ):
        click.echo(f"{name + ':':<9} {value}")
    if status.vouchers:
        click.echo(f"{'Vouchers:':<9} {_VOUCHED.format(status.vouchers)}")
    for line in _ends(status):
        click.echo(line)
    for download in status.downloads:
        click.echo(_transfer(download))
    if not status.downloads:
        click.echo("Nothing is under way.")


def _ends(status: StatusReport) -> Iterator[str]:
    """What of our membership runs out, and when; who is kept out."""
    if status.former_key_until:
        yield f"The cluster changes its key: the former one lets nodes in until {_moment(status.former_key_until)}."
        yield "Until then give each other node the new one: `p2pmodel cluster rotate TOKEN`, with what `cluster token` prints."
    if status.certificate_until:
        over = status.certificate_until < time.time()
        yield f"This node's certificate {'ran out on' if over else 'is good until'} {_moment(status.certificate_until)}."
    if status.denied:
        yield f"{count(status.denied, 'certificate')} denied by the cluster's authority."
    if status.denied_itself:
        yield "This node's own certificate is among them: no member links with it until it has a new one."
    if status.banned:
        yield f"{count(status.banned, 'node')} banned by this one: `p2pmodel peers` says why."
    if status.other_versions:
        yield of_another_version(status.other_versions)


def _moment(unix: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix))


def _transfer(download: DownloadReport) -> str:
    share = download.chunks_here / download.chunks if download.chunks else 1.0
    name = f"{download.files[0].repo} {download.files[0].path}" if download.files else download.blob[:19]
    given = f"peers {amount(download.bytes_peers)}, hub {amount(download.bytes_upstream)}; {download.holders} peers hold some"
    lines = [
        f"{name}  {share:4.0%} of {amount(download.bytes)} ({given})",
        f"  {amount(download.rate)}/s, {_left(download.eta_s)} here{_elsewhere(download.cluster)}",
    ]
    if download.proven:
        lines.append("  proven by the hub's own root, piece by piece: its bytes leave as they come")
    if download.vouchers:
        lines.append(f"  vouched for by {download.vouchers}: {'its bytes leave' if download.vouched else 'not enough yet'}")
    for source in download.sources:
        who = f"hub {source.source}" if source.kind == "hub" else f"peer {source.source[:12]} {source.address}"
        lines.append(f"  {who.rstrip()}: {amount(source.rate)}/s, {count(source.orders, 'order')}")
    return "\n".join(lines)


def _elsewhere(cluster: ClusterReport) -> str:
    if cluster.nodes <= 1:
        return ""
    return f", {_left(cluster.eta_s)} in the cluster ({cluster.nodes} nodes; the last has {cluster.least:.0%})"


def _left(eta_s: float | None) -> str:
    return "no end in sight" if eta_s is None else f"{seconds(eta_s)} to go"
