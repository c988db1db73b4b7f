"""Nodes come and go all the time; whoever stays gets the model, and the hub sends little more than one copy.

Two seconds between events; the hour-long run is the same test: P2PMODEL_CHURN_S=600 make lab.
"""

import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from daemons import files_in
from lan import Lan

pytestmark = [pytest.mark.lab, pytest.mark.scorecard("S26"), pytest.mark.timeout(1500)]

SEED = int(os.environ.get("P2PMODEL_CHURN_SEED", "1"))
SECONDS = float(os.environ.get("P2PMODEL_CHURN_S", "24"))
EVERY_S = 2.0
STAYERS, ALL = 3, 7
COPIES = 1.3
ORIGIN_BITS = 60e6


@pytest.fixture
def lan(tmp_path):
    with Lan(tmp_path, ALL, rate="1gbit", origin_rate=f"{ORIGIN_BITS:.0f}bit") as lan:
        yield lan


def handles(node):
    return len(list(Path(f"/proc/{node.process.pid}/fd").iterdir()))


def bring(node, name):
    """A fetch on a node that may be gone before it ends."""
    try:
        return node.bring(name)
    except (OSError, ValueError, IndexError) as error:
        return {"event": "error", "message": repr(error)}


class Churn:
    """Every two seconds a node leaves, by SIGKILL or SIGTERM, or comes back and wants the model too."""

    def __init__(self, lan, model, pool):
        self.lan = lan
        self.model = model
        self.pool = pool
        self.dice = random.Random(SEED)
        self.nodes = {number: lan.daemon(number) for number in range(STAYERS + 1, ALL + 1)}
        self.left = self.joined = 0
        self.leaving = set()
        self.fetches = {}

    def run(self, seconds):
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            began = time.monotonic()
            node = self.dice.choice(
                [node for node in self.nodes.values() if not (node.running and node.number in self.leaving)]
            )
            if node.running:
                self.leave(node)
            else:
                self.join(node)
            time.sleep(max(0.0, began + EVERY_S - time.monotonic()))

    def leave(self, node):
        self.left += 1
        self.leaving.add(node.number)
        node.process.send_signal(self.dice.choice((signal.SIGKILL, signal.SIGTERM)))

    def join(self, node):
        node.start()
        self.joined += 1
        self.leaving.discard(node.number)
        self.fetches[node.number] = self.pool.submit(bring, node, self.model.name)


def test_every_fetch_completes_while_nodes_come_and_go(lan, new_model, figure):
    mib = int(SECONDS * ORIGIN_BITS / 8 / (1 << 20) * 0.7)  # the model takes most of the time
    model = new_model(lan, min(mib, 512))
    stayers = lan.daemons(range(1, STAYERS + 1))
    open_before = [handles(node) for node in stayers]
    lan.hub.reset()
    began = time.monotonic()
    with ThreadPoolExecutor(ALL * 2) as pool:
        churn = Churn(lan, model, pool)
        fetches = [pool.submit(lambda node: (node.bring(model.name), time.monotonic() - began), node) for node in stayers]
        churn.run(SECONDS)
        ended = [fetch.result() for fetch in fetches]
        last = [fetch.result() for number, fetch in churn.fetches.items() if number not in churn.leaving]
    times = ", ".join(f"{at:.1f}" for _, at in ended)
    figure(f"seed {SEED}: {churn.left} left, {churn.joined} joined; hub bytes {lan.sent / model.size:.3f} x")
    figure(f"those who stayed done after {times} s, the line's own time is {model.size * 8 / ORIGIN_BITS:.1f} s")
    assert [end["event"] for end, _ in ended] == ["done"] * STAYERS, ended
    assert [end["event"] for end in last] == ["done"] * len(last), last
    assert all(files_in(end["path"]) == model.files for end, _ in ended)
    assert lan.sent <= COPIES * model.size
    grown = [handles(node) - before for node, before in zip(stayers, open_before, strict=True)]
    figure(f"file handles more than before: {grown}, of up to {ALL - 1} links")
    assert max(grown) <= 2 * ALL + 5
