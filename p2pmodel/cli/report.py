"""What the daemon's JSON API reports, as far as commands show it; and how commands print tables. Unknown fields are passed
on with `--json` and otherwise ignored, so that a command of one version reads a daemon of the next.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
import msgspec

from p2pmodel.cli.progress import HashEvent
from p2pmodel.content.naming import LAN_OWNER


class StoreReport(msgspec.Struct, kw_only=True):
    bytes: int = 0
    quota: int = 0


class FileReport(msgspec.Struct, kw_only=True):
    repo: str
    path: str


class AtWorkReport(msgspec.Struct, kw_only=True):
    """A source that is asked for something now."""

    kind: str  # "peer" or "hub"
    source: str
    address: str = ""
    orders: int = 0
    rate: float = 0.0


class ClusterReport(msgspec.Struct, kw_only=True):
    """All nodes that want the same blob: how far the last one is, and when it will be done (None: unknown)."""

    nodes: int = 1
    least: float = 0.0
    eta_s: float | None = None


class DownloadReport(msgspec.Struct, kw_only=True):
    blob: str
    bytes: int
    chunks: int
    chunks_here: int = 0
    bytes_peers: int = 0
    bytes_upstream: int = 0
    holders: int = 0
    files: list[FileReport] = []
    vouchers: int = 0  # members that vouch for it
    vouched: bool = False  # and they are enough
    proven: bool = False  # by the hub's own root, as its chunks come
    rate: float = 0.0
    eta_s: float | None = None
    cluster: ClusterReport = msgspec.field(default_factory=ClusterReport)
    sources: list[AtWorkReport] = []


class StatusReport(msgspec.Struct, kw_only=True):
    """`/-/api/status`."""

    node_id: str
    name: str
    version: str
    state_dir: str
    gateway: str
    peering: str
    mode: str
    private_sharing: str = "off"
    former_key_until: float | None = None
    certificate_until: float | None = None
    denied: int = 0
    denied_itself: bool = False
    banned: int = 0
    other_versions: list[str] = []  # hosts of nodes with which no version of the protocol is shared
    clients: str = "here"
    offline: bool = False
    peers: int = 0
    vouchers: int = 0  # how many members must vouch for a file before it leaves ahead of the node's own check; 0: never
    store: StoreReport = msgspec.field(default_factory=StoreReport)
    downloads: list[DownloadReport] = []


class PeerReport(msgspec.Struct, kw_only=True):
    node_id: str
    address: str = ""
    linked_for_s: float | None = None
    rtt_s: float | None = None
    received: int = 0
    sent: int = 0
    blobs: int = 0
    banned: str | None = None  # why


class BanReport(msgspec.Struct, kw_only=True):
    node_id: str
    why: str
    for_good: bool = False
    ends_in_s: float | None = None  # None: never


class PeersReport(msgspec.Struct, kw_only=True):
    """`/-/api/peers`: the linked ones, and whom the node has banned."""

    peers: list[PeerReport] = []
    bans: list[BanReport] = []


class SnapshotReport(msgspec.Struct, kw_only=True):
    hub: str
    type: str
    repo: str
    commit: str
    private: bool = False
    revisions: list[str] = []
    files: int = 0
    files_here: int = 0
    bytes: int = 0
    bytes_here: int = 0
    pinned: bool = False
    used: int = 0  # unix time; 0 is never
    peers: int = 0  # that hold some of it


class SnapshotsReport(msgspec.Struct, kw_only=True):
    """`/-/api/snapshots`: what is held here; `all`: private repos among it, which the daemon's own user alone is told of."""

    all: bool = False
    snapshots: list[SnapshotReport] = []


class RunReport(msgspec.Struct, kw_only=True):
    """Chunks `first` to `last` of one file, from one source. `rate` is what an order got."""

    first: int
    last: int
    kind: str
    source: str
    address: str = ""
    began: float = 0.0
    bytes: int = 0
    rate: float = 0.0
    reason: str = ""


class FailureReport(msgspec.Struct, kw_only=True):
    kind: str
    source: str
    address: str = ""
    outcome: str
    orders: int = 1
    last: float = 0.0


class FalseVoucherReport(msgspec.Struct, kw_only=True):
    """A peer vouched for what the file was not; so many wrong chunks had left to clients by then."""

    kind: str
    source: str
    address: str = ""
    at: float = 0.0
    chunks_left: int = 0


class ProofReport(msgspec.Struct, kw_only=True):
    """A peer listed the file's pieces, as the hub's own root says they are: what peers gave left as it came."""

    kind: str
    source: str
    address: str = ""
    at: float = 0.0
    pieces: int = 0


class WhyFileReport(msgspec.Struct, kw_only=True):
    path: str
    blob: str
    bytes: int
    chunks: int
    chunks_here: int = 0
    recorded: int = 0  # chunks of which the record knows a source
    runs: list[RunReport] = []
    failures: list[FailureReport] = []
    false_vouchers: list[FalseVoucherReport] = []
    proofs: list[ProofReport] = []


class SourceReport(msgspec.Struct, kw_only=True):
    kind: str
    source: str
    address: str = ""
    bytes: int = 0
    orders: int = 0
    failed: int = 0
    rate: float = 0.0


class ReasonReport(msgspec.Struct, kw_only=True):
    reason: str
    bytes: int = 0


class WhyReport(msgspec.Struct, kw_only=True):
    """`/-/api/why`."""

    files: list[WhyFileReport] = []
    sources: list[SourceReport] = []
    reasons: list[ReasonReport] = []


class RemovedReport(msgspec.Struct, kw_only=True):
    """What `rm` and `gc` took away."""

    snapshots: list[str] = []
    blobs: int = 0
    bytes: int = 0
    busy: int = 0


class _HashingReport(msgspec.Struct, kw_only=True):
    event: str = ""
    files: int = 0
    files_done: int = 0
    bytes: int = 0
    bytes_done: int = 0
    rate: float = 0.0

    @property
    def progress(self) -> HashEvent:
        """As a fetch shows it."""
        return HashEvent(
            event=self.event,
            files=self.files,
            files_done=self.files_done,
            bytes=self.bytes,
            here=self.bytes_done,
            rate=self.rate,
        )


class VerifyReport(_HashingReport, kw_only=True):
    """A line of the daemon's `verify`."""

    damaged: int = 0
    mended: int = 0
    failures: list[str] = []


class AdoptReport(_HashingReport, kw_only=True):
    """A line of the daemon's `adopt`."""

    adopted: int = 0
    here: int = 0
    repos: int = 0
    repos_public: int = 0
    failed: int = 0
    failures: list[str] = []


class InfoFileReport(msgspec.Struct, kw_only=True):
    path: str
    bytes: int
    chunks: int = 0
    chunks_here: int = 0
    holders: int = 0


class HolderReport(msgspec.Struct, kw_only=True):
    """A peer, and what it holds whole of a snapshot."""

    node_id: str
    address: str = ""
    files: int = 0
    bytes: int = 0


class InfoSnapshotReport(msgspec.Struct, kw_only=True):
    commit: str
    private: bool = False
    revisions: list[str] = []
    pinned: bool = False
    used: int = 0
    files: int = 0
    files_here: int = 0
    bytes: int = 0
    bytes_here: int = 0
    holders: list[HolderReport] = []
    entries: list[InfoFileReport] = []


class InfoReport(msgspec.Struct, kw_only=True):
    """`/-/api/info`."""

    hub: str
    type: str
    repo: str
    vouchers: int = 0
    snapshots: list[InfoSnapshotReport] = []


class LimitReport(msgspec.Struct, kw_only=True):
    limit: float
    now: float = 0.0


class LimitsReport(msgspec.Struct, kw_only=True):
    """`/-/api/limits`, by key of [limits]: bytes/s or connections; a rate of 0 is no limit."""

    limits: dict[str, LimitReport]


def of_another_version(hosts: Sequence[str]) -> str:
    """What a person is told of nodes there."""
    who = f"A node at {hosts[0]} speaks" if len(hosts) == 1 else f"Nodes at {', '.join(hosts)} speak"
    return f"{who} another version of the protocol: nothing is shared until the older ones are upgraded."


def where(repo: str, hub: str) -> str:
    """Whose a repo is: what was pushed with --lan is no hub's."""
    return "this cluster" if repo.startswith(f"{LAN_OWNER}/") else hub


def day(unix: int) -> str:
    """A moment for people."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix)) if unix else "never"


def print_json(document: Mapping[str, Any]) -> None:
    click.echo(json.dumps(document, indent=2))


def print_table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as their widest cell."""
    table = [heading, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(heading))]
    for row in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
