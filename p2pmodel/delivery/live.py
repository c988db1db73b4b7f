"""A download while it runs, as `p2pmodel status` and the status page show it: its swarm, and when it will be done."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import trio

from p2pmodel.content import NodeId
from p2pmodel.limits import CHUNK_BYTES
from p2pmodel.swarm import HUB

if TYPE_CHECKING:
    from p2pmodel.delivery.download import Download
    from p2pmodel.delivery.ports import Location, Neighbours, Surroundings

Json = dict[str, object]


def tell_download(download: Download, around: Surroundings) -> Json:
    """`eta_s` is None while nothing comes. Of a private file neither repo, path nor hash is told; nor that a public one lies in
    a private repo as well."""
    now = trio.current_time()
    swarm = download.swarm
    rate = download.arrivals.meter.total(now)
    return {
        "blob": "private" if download.stored.private else str(download.blob.id),
        "files": [] if download.stored.private else [_tell_file(each) for each in download.locations if _public(each, around)],
        "bytes": download.blob.size,
        "chunks": swarm.chunks,
        "chunks_here": len(download.stored.held),
        "bytes_peers": download.arrivals.received["peers"],
        "bytes_upstream": download.arrivals.received["upstream"],
        "holders": sum(bool(view.held) for view in swarm.availability.peers.values()),
        "vouchers": download.vouching.members,
        "vouched": download.vouching.agreed,
        "proven": download.proving.pieces is not None,
        "orders": len(swarm.ledger.flights),
        "rate": round(rate),
        "eta_s": _eta(swarm.chunks - len(download.stored.held), rate),
        "cluster": _tell_cluster(download, rate, now),
        "sources": _tell_sources(download, around.neighbours, now),
    }


def _public(location: Location, around: Surroundings) -> bool:
    known = around.store.snapshot(location.repo, location.commit)
    return known is not None and known.public


def _tell_file(location: Location) -> Json:
    repo = location.repo
    return {"hub": repo.hub, "type": repo.kind, "repo": repo.name, "path": location.path}


def _tell_cluster(download: Download, rate: float, now: float) -> Json:
    """All nodes that want the blob, this one included: how far the last is, and when it will be done."""
    chunks = download.swarm.chunks
    wanting = [(peer, view) for peer, view in download.swarm.availability.peers.items() if view.wanted]
    held = [len(download.stored.held), *(len(view.held) for _, view in wanting)]
    rates = [rate, *(download.intake.of(peer, now) for peer, _ in wanting)]
    etas = [_eta(chunks - count, pace) for count, pace in zip(held, rates, strict=True)]
    return {
        "nodes": len(held),
        "least": round(min(held) / chunks, 4) if chunks else 1.0,
        "eta_s": None if None in etas else max(eta for eta in etas if eta is not None),
    }


def _tell_sources(download: Download, neighbours: Neighbours, now: float) -> list[Json]:
    """Who is asked for something now."""
    orders = Counter(flight.source for flight in download.swarm.ledger.flights.values())
    return [
        {
            "kind": "hub" if source == HUB else "peer",
            "source": download.arrivals.upstream if source == HUB else source,
            "address": "" if source == HUB else neighbours.address(NodeId(source)),
            "orders": count,
            "rate": round(download.arrivals.meter.of(source, now)),
        }
        for source, count in orders.items()
    ]


def _eta(chunks_missing: int, rate: float) -> float | None:
    """Seconds; None where nothing moves."""
    if not chunks_missing:
        return 0.0
    return round(chunks_missing * CHUNK_BYTES / rate, 1) if rate else None
