"""What Prometheus reads, parsed by its own parser."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from p2pmodel import __version__
from p2pmodel.delivery.arrival import ArrivalStatistics
from p2pmodel.gateway.statistics import GatewayStatistics
from p2pmodel.metrics import Metrics, Sources
from p2pmodel.peering.statistics import PeeringStatistics
from p2pmodel.upstream.statistics import Statistics as UpstreamStatistics


@pytest.fixture
def sources():
    return Sources(
        arrivals=ArrivalStatistics(chunks={}, received={}),
        gateway=GatewayStatistics(),
        peering=PeeringStatistics(),
        upstream=UpstreamStatistics(),
        peers=lambda: {"linked": 2, "known": 3},
        downloads=lambda: 1,
        bans=lambda: 2,
        damaged=lambda: 4,
        store_bytes=lambda: {"sealed": 700, "partial": 50},
        store_quota_bytes=1000,
    )


def _samples(sources) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = Metrics(sources).render().decode()
    families = text_string_to_metric_families(text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value for family in families for sample in family.samples
    }


def _value(sources, name, **labels) -> float:
    return _samples(sources)[name, tuple(sorted(labels.items()))]


def test_every_promised_metric_is_there_before_anything_has_happened(sources):
    text = Metrics(sources).render().decode()
    promised = (
        "bytes_total chunks_total peers downloads_active upstream_requests_total upstream_latency_seconds "
        "gateway_requests_total gateway_gone_total gateway_seconds store_bytes store_quota_bytes verify_failures_total "
        "bans_total build_info"
    )
    for name in promised.split():
        assert f"# HELP p2pmodel_{name} " in text


def test_bytes_are_told_apart_by_direction_and_other_end(sources):
    sources.arrivals.received.update(peer=10, upstream=20, store=50)
    sources.peering.traffic.sent = 30
    sources.gateway.bytes_out = 40
    promised = {("in", "peer"): 10, ("in", "upstream"): 20, ("in", "store"): 50, ("out", "peer"): 30, ("out", "client"): 40}
    for (direction, source), count in promised.items():
        assert _value(sources, "p2pmodel_bytes_total", direction=direction, source=source) == count


def test_wrong_chunks_are_verification_failures_of_their_source(sources):
    sources.arrivals.count("peer", "ok")
    sources.arrivals.count("peer", "wrong")
    assert _value(sources, "p2pmodel_chunks_total", source="peer", result="ok") == 1
    assert _value(sources, "p2pmodel_verify_failures_total", kind="chunk", source="peer") == 1
    assert _value(sources, "p2pmodel_verify_failures_total", kind="chunk", source="store") == 4


def test_requests_are_counted_by_answer_and_timed_in_cumulative_buckets(sources):
    sources.upstream.answered("huggingface", 200, 0.2)
    sources.upstream.failed("huggingface")
    sources.gateway.answered("file", 206, 0.002)
    sources.gateway.answered("file", 206, 1000.0)
    assert _value(sources, "p2pmodel_upstream_requests_total", upstream="huggingface", status="200") == 1
    assert _value(sources, "p2pmodel_upstream_requests_total", upstream="huggingface", status="error") == 1
    assert _value(sources, "p2pmodel_gateway_requests_total", route="file", status="206") == 2
    assert _value(sources, "p2pmodel_gateway_seconds_bucket", le="0.0025") == 1
    assert _value(sources, "p2pmodel_gateway_seconds_bucket", le="+Inf") == 2
    assert _value(sources, "p2pmodel_gateway_seconds_sum") == 1000.002
    assert _value(sources, "p2pmodel_upstream_latency_seconds_count") == 1
    sources.gateway.gone += 1
    assert _value(sources, "p2pmodel_gateway_gone_total") == 1


def test_facts_are_asked_for_when_somebody_looks(sources):
    assert _value(sources, "p2pmodel_peers", state="linked") == 2
    assert _value(sources, "p2pmodel_downloads_active") == 1
    assert _value(sources, "p2pmodel_store_bytes", state="partial") == 50
    assert _value(sources, "p2pmodel_store_quota_bytes") == 1000
    assert _value(sources, "p2pmodel_build_info", version=__version__) == 1


@pytest.mark.parametrize("file", ["grafana.json", "alerts.yml", "monitoring.md"])
def test_what_operators_are_given_asks_for_metrics_that_there_are(sources, file):
    there = {name for name, _ in _samples(sources)}
    there |= {"p2pmodel_upstream_latency_seconds", "p2pmodel_gateway_seconds"}  # families of several
    text = (Path(__file__).parents[3] / "docs" / file).read_text()
    asked = set(re.findall(r"p2pmodel_[a-z_]+", text))
    after_an_event = {f"p2pmodel_{name}_total" for name in ("chunks", "upstream_requests", "gateway_requests")}
    assert asked
    assert asked <= there | after_an_event
