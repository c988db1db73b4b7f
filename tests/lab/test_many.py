"""Fifty nodes that start cold together behind a slow line cost the hub one copy. P2PMODEL_MANY for another number.

Fifty Python daemons on a few cores are slow: bytes are judged, and how far the last is behind the first.
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from daemons import files_in
from lan import Lan

pytestmark = [pytest.mark.soak, pytest.mark.scorecard("S30"), pytest.mark.timeout(1800)]

NODES = int(os.environ.get("P2PMODEL_MANY", "50"))
MODEL_MIB = 64
COPIES_MAX, LAST_MAX = 1.05, 1.5
LINKED_S = 600.0


@pytest.fixture
def lan(tmp_path):
    with Lan(tmp_path, NODES, rate="1gbit", delay="0", origin_delay="0", origin_rate="100mbit") as lan:
        yield lan


def test_many_nodes_that_start_cold_cost_the_hub_one_copy(lan, new_model, figure):
    nodes, model = [lan.daemon(number) for number in range(1, NODES + 1)], new_model(lan, MODEL_MIB)
    for node in nodes:
        node.begin()
    for node in nodes:
        node.started(LINKED_S)
    for node in nodes:
        node.linked(NODES - 1, LINKED_S)
    lan.hub.reset()
    began = time.monotonic()

    def bring(node):
        *_, (at, last) = node.steps(model.name, LINKED_S)
        return at - began, last

    with ThreadPoolExecutor(NODES) as together:
        ends = list(together.map(bring, nodes))
    assert [last["event"] for _, last in ends] == ["done"] * NODES, ends
    assert all(files_in(last["path"]) == model.files for _, last in ends)
    times = sorted(at for at, _ in ends)
    figure(f"{NODES} nodes, {MODEL_MIB} MiB: hub bytes {lan.sent / model.size:.3f} x")
    figure(f"first {times[0]:.1f} s, last {times[-1]:.1f} s; the line alone takes {model.size * 8 / 100e6:.1f} s")
    assert lan.sent <= COPIES_MAX * model.size
    assert times[-1] <= LAST_MAX * times[0]
