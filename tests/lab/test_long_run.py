"""Model after model for a long time, with a node of bad memory, one that is cut off now and then, and one whose disk is full.

Two minutes; the long run: P2PMODEL_SOAK_S=3600.
"""

import os
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import pytest
from daemons import MIB, files_in
from lan import Lan
from noise import noise

pytestmark = [pytest.mark.soak, pytest.mark.scorecard("S31"), pytest.mark.timeout(7200)]

SECONDS = float(os.environ.get("P2PMODEL_SOAK_S", "120"))
GOOD, SICK, LOST, FULL = (1, 2, 3), 4, 5, 6
MODEL_MIB, DISK_MIB = 13, 48
FETCH_S = 60.0  # whatever goes wrong, none takes longer: it is stuck
MEMORY_MAX, DESCRIPTORS_MAX = 16 * MIB, 24
FLIPPER = Path(__file__).parents[1] / "attacks" / "flipping_peer.py"


@pytest.fixture
def lan(tmp_path):
    with Lan(tmp_path, 6, rate="1gbit", delay="0", origin_delay="0", origin_rate="400mbit") as lan:
        yield lan


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "p2pmodel-test", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def nodes(lan, small_disk):
    settings = {"store__quota": "200MB"}  # the long run would fill any disk
    made = {number: lan.daemon(number, **settings) for number in (*GOOD, SICK, LOST)}
    made[FULL] = lan.daemon(FULL, node__state_dir=str(small_disk / "state"))
    made[FULL].state = small_disk / "state"
    (made[SICK].folder / "flips").write_text("[1]")  # one chunk of each model
    for number, node in made.items():
        node.begin(before=(sys.executable, str(FLIPPER), str(node.folder)) if number == SICK else ())
    for node in made.values():
        node.started()
    for node in made.values():
        node.linked(len(made) - 1, 60)
    return made


class Weather(threading.Thread):
    """Cuts one host off, and lets it back."""

    def __init__(self, lan):
        super().__init__()
        self.lan, self.over, self.cuts = lan, threading.Event(), 0

    def run(self):
        dice = random.Random(1)
        while not self.over.wait(dice.uniform(1, 6)):
            self.lan.cut(LOST)
            self.cuts += 1
            self.over.wait(dice.uniform(0.5, 8))
            self.lan.heal(LOST)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()


def bring(node, name):
    began = time.monotonic()
    try:
        done = node.bring(name)
    except (OSError, HTTPException, ValueError, IndexError) as error:
        done = {"event": "error", "message": repr(error)}
    return done, time.monotonic() - began


def judge(number, done, took, files, tally):
    assert took <= FETCH_S, (number, done)
    if done["event"] == "done":
        with suppress(FileNotFoundError):  # a small store has let it go already
            assert files_in(done["path"]) == files, number
        tally[number] = tally.get(number, 0) + 1
    else:
        assert number not in GOOD, (number, done)


def test_a_cluster_with_a_sick_a_lost_and_a_full_node_goes_on_for_ever(lan, nodes, figure):
    tally, marks, rounds, ends = {}, [], 0, time.monotonic() + SECONDS
    with Weather(lan) as weather, ThreadPoolExecutor(len(nodes)) as together:
        while time.monotonic() < ends:
            name, files = f"acme/round{rounds}", {"model.safetensors": noise(rounds, MODEL_MIB * MIB)}
            lan.hub.add_repo("model", name, files)
            fetches = {number: together.submit(bring, node, name) for number, node in nodes.items()}
            for number, fetch in fetches.items():
                judge(number, *fetch.result(), files, tally)
            lan.hub.remove_repo("model", name)
            rounds += 1
            marks.append((time.monotonic(), [(nodes[number].memory, nodes[number].descriptors) for number in GOOD]))
    early, late = marks[len(marks) // 3], marks[-1]
    grown = [(after[0] - before[0], after[1] - before[1]) for before, after in zip(early[1], late[1], strict=True)]
    figure(f"{rounds} models, {weather.cuts} cuts; done: {', '.join(f'n{number} {tally.get(number, 0)}' for number in nodes)}")
    per_h = max(memory for memory, _ in grown) / MIB / (late[0] - early[0]) * 3600
    figure(f"memory {max(grown)[0] / MIB:+.1f} MiB in the last {late[0] - early[0]:.0f} s ({per_h:+.1f} MiB/h)")
    figure(f"descriptors {[more for _, more in grown]} more")
    assert all(tally[number] == rounds for number in GOOD)
    assert max(memory for memory, _ in grown) <= MEMORY_MAX
    assert max(more for _, more in grown) <= DESCRIPTORS_MAX
    honest = {nodes[number].ask("/-/api/status").json["node_id"] for number in nodes if number != SICK}
    banned = {ban["node_id"] for number in GOOD for ban in nodes[number].ask("/-/api/peers").json["bans"]}
    figure(f"banned: {len(banned)}")
    assert not banned & honest
