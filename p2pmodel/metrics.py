"""The rooms' own counters as Prometheus text. Counts nothing itself, and names no repo: whoever may read metrics may not
therefore know which models a node holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from p2pmodel import __version__
from p2pmodel.delivery.arrival import ArrivalStatistics
from p2pmodel.gateway.statistics import SECONDS_BUCKETS, GatewayStatistics
from p2pmodel.peering.statistics import PeeringStatistics
from p2pmodel.upstream.statistics import LATENCY_BOUNDS_S
from p2pmodel.upstream.statistics import Statistics as UpstreamStatistics


@dataclass(frozen=True, slots=True)
class Sources:
    """What the rooms count, and facts that are asked for when somebody looks."""

    arrivals: ArrivalStatistics
    gateway: GatewayStatistics
    peering: PeeringStatistics
    upstream: UpstreamStatistics
    peers: Callable[[], Mapping[str, int]]  # by state: "linked", "known"
    downloads: Callable[[], int]  # active now
    bans: Callable[[], int]
    damaged: Callable[[], int]  # chunks on disk
    store_bytes: Callable[[], Mapping[str, int]]  # by state: "sealed", "partial"
    store_quota_bytes: int


class Metrics(Collector):
    """`render` is what `/metrics` answers."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def render(self) -> bytes:
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Nothing to compare names with: the registry is this collector's alone, and must not collect while it is built."""
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from self._traffic()
        yield from self._upstream()
        yield from self._gateway()
        yield from self._store()
        yield InfoMetricFamily("p2pmodel_build", "The running version.", {"version": __version__})

    def _traffic(self) -> Iterator[Metric]:
        rooms = self._sources
        yield _counter(
            "p2pmodel_bytes",
            "Bytes of files that were asked for, by where they came from (store: they were here), and that went out.",
            ("direction", "source"),
            {
                ("in", "store"): rooms.arrivals.received.get("store", 0),
                ("in", "peer"): rooms.arrivals.received.get("peer", 0),
                ("in", "upstream"): rooms.arrivals.received.get("upstream", 0),
                ("out", "peer"): rooms.peering.traffic.sent,
                ("out", "client"): rooms.gateway.bytes_out,
            },
        )
        chunks = rooms.arrivals.chunks
        yield _counter("p2pmodel_chunks", "Chunks received, by what became of them.", ("source", "result"), chunks)
        wrong = {("chunk", source): chunks.get((source, "wrong"), 0) for source in ("peer", "upstream")}
        wrong |= {("chunk", "store"): rooms.damaged(), ("blob", ""): rooms.arrivals.mismatches}
        yield _counter("p2pmodel_verify_failures", "Bytes that were not those of their digest.", ("kind", "source"), wrong)
        peers = {"linked": 0, **rooms.peers()}  # said when it is none, too: somebody waits for that
        yield _gauge("p2pmodel_peers", "Other daemons, by state.", "state", peers)
        yield GaugeMetricFamily("p2pmodel_downloads_active", "Blobs on their way in.", rooms.downloads())
        yield CounterMetricFamily(
            "p2pmodel_bans", "Bans of peers: for wrong bytes, or by proof of a false digest.", rooms.bans()
        )

    def _upstream(self) -> Iterator[Metric]:
        upstream = self._sources.upstream
        labels = ("upstream", "status")
        yield _counter("p2pmodel_upstream_requests", "Requests to hubs, by answer.", labels, upstream.requests)
        yield _histogram(
            "p2pmodel_upstream_latency_seconds",
            "From a request to a hub to the head of its answer.",
            LATENCY_BOUNDS_S,
            upstream.latency,
            upstream.latency_sum_s,
        )

    def _gateway(self) -> Iterator[Metric]:
        gateway = self._sources.gateway
        requests = {(route, str(status)): count for (route, status), count in gateway.requests.items()}
        yield _counter("p2pmodel_gateway_requests", "Clients' requests, by answer.", ("route", "status"), requests)
        yield CounterMetricFamily("p2pmodel_gateway_gone", "Clients that left before their answer began.", gateway.gone)
        yield _histogram(
            "p2pmodel_gateway_seconds",
            "From a client's request to the last byte of its answer.",
            SECONDS_BUCKETS,
            gateway.seconds,
            gateway.seconds_sum,
        )

    def _store(self) -> Iterator[Metric]:
        yield _gauge("p2pmodel_store_bytes", "Bytes of blobs on disk, by state.", "state", self._sources.store_bytes())
        quota = self._sources.store_quota_bytes
        yield GaugeMetricFamily("p2pmodel_store_quota_bytes", "What the store may hold; 0 is no limit.", quota)


def _counter(name: str, meaning: str, labels: Sequence[str], values: Mapping[tuple[str, str], int]) -> Metric:
    family = CounterMetricFamily(name, meaning, labels=labels)
    for label_values, value in sorted(values.items()):
        family.add_metric(label_values, value)
    return family


def _gauge(name: str, meaning: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=[label])
    for label_value, value in sorted(values.items()):
        family.add_metric([label_value], value)
    return family


def _histogram(name: str, meaning: str, bounds: Sequence[float], counts: Sequence[int], total_s: float) -> Metric:
    """`counts` has one more bucket than `bounds`, and is not cumulative; Prometheus wants it so."""
    edges = [*map(str, bounds), "+Inf"]
    buckets = list(zip(edges, map(float, accumulate(counts)), strict=True))
    return HistogramMetricFamily(name, meaning, buckets=buckets, sum_value=total_s)
