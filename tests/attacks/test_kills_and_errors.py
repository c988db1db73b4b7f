"""A daemon that is killed at any moment, whose disk fails at any call or is full: nothing wrong is served, and it goes on.

So many kills, and every so many-th call, as fit a coffee break; all of them: P2PMODEL_KILLS=500, P2PMODEL_FAULTS_EVERY=1.
Each step of the store alone: tests/unit/store/test_crashes.py; power cuts: tests/lab/test_power_cuts.py.
"""

import errno
import http.client
import os
import random
import re
import shutil
import statistics
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from daemons import CHUNK, MIB, House, Site, files_in, until
from noise import noise

from p2pmodel.limits import COMMIT_CHUNKS, HUB_CONNECTIONS

KILLS = int(os.environ.get("P2PMODEL_KILLS", "24"))
EVERY = int(os.environ.get("P2PMODEL_FAULTS_EVERY", "12"))
CHUNKS, RATE = 64, 60e6
LATEST_S = 6.0  # after its start: most kills find it at work
START_MAX_S = 2.0
RESUMES_IN_S = 10.0
DISK_MIB, HELD_MIB, WANTED_MIB = 160, 9, 128
FAULTIO = Path(__file__).parents[1] / "lab" / "faultio.c"
NAMED = {"StoreFullError", "StoreError", "StoreDamagedError"}

pytestmark = [pytest.mark.attacks, pytest.mark.timeout(7200)]


@pytest.fixture
def site():
    with Site() as site:
        yield site


@pytest.fixture
def house(site, tmp_path):
    with House(tmp_path / "house", site) as house:
        yield house


# S1


class Life:
    """One run of a daemon, from its start to a kill that comes at some moment."""

    def __init__(self, node, name, dies_after_s):
        self.started_in = self.done = None
        began = time.monotonic()
        node.begin()
        killer = threading.Timer(dies_after_s, node.process.kill)
        killer.start()
        with suppress(
            AssertionError, OSError, http.client.HTTPException, IndexError, ValueError
        ):  # whatever a client sees of a kill
            node.started()
            self.started_in = time.monotonic() - began
            self.done = node.bring(name)
        killer.cancel()
        if self.done is None:
            killer.join()
            node.wait()


@pytest.mark.scorecard("S1")
def test_kills_at_random_moments_of_a_fetch_cost_little_and_no_byte(site, house, figure):
    dice, lives, again, models = random.Random(1), [], 0, 0
    site.hub.pace.rate = RATE
    while len(lives) < KILLS:
        name, files = (
            f"acme/killed{models}",
            {"model.safetensors": noise(2 * models, CHUNKS // 2 * CHUNK) + noise(2 * models + 1, CHUNKS // 2 * CHUNK)},
        )
        site.hub.add_repo("model", name, files)
        site.hub.reset()
        node, done = house.plan(f"node{models}"), None
        while done is None:
            lives.append(Life(node, name, dice.uniform(0.05, LATEST_S)))
            done = lives[-1].done
        assert done["event"] == "done", done
        assert files_in(done["path"]) == files
        again += site.sent - CHUNKS * CHUNK
        node.kill()
        shutil.rmtree(node.state)
        site.hub.remove_repo("model", name)  # its bytes lie in memory
        models += 1
    killed = len(lives) - models
    starts = [life.started_in for life in lives if life.started_in]
    figure(f"{killed} kills in {models} fetches of {CHUNKS} chunks; {again / CHUNK / killed:.1f} chunks read again for each")
    figure(f"it was up after {statistics.median(starts):.1f} s, {max(starts):.1f} s at most")
    assert again <= killed * (COMMIT_CHUNKS + HUB_CONNECTIONS) * CHUNK  # one group, and what was on its way
    assert statistics.median(starts) <= START_MAX_S


# S3


@pytest.fixture(scope="module")
def faultio(tmp_path_factory):
    """A library that lets the k-th call fail."""
    if shutil.which("gcc") is None:
        pytest.skip("apt-get install gcc libc6-dev")
    library = tmp_path_factory.mktemp("faultio") / "faultio.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, FAULTIO, "-ldl"], check=True)
    return lambda **how: {
        "LD_PRELOAD": str(library),
        "FAULTIO": ",".join(f"{key}={value}" for key, value in how.items()),
    }


FILES = {"config.json": b"{}", "model.safetensors": noise(5, 17 * MIB)}
WAYS = {
    "an-error-once": ("any", {"errno": errno.EIO}),
    "full-from-then-on": ("write", {"errno": errno.ENOSPC, "sticky": 1}),
    "half-a-write": ("write", {"short": 1}),
}


@pytest.mark.scorecard("S3")
@pytest.mark.parametrize("way", WAYS)
def test_whichever_call_fails_it_is_named_and_no_byte_is_wrong(site, house, faultio, figure, way):
    site.hub.add_repo("model", "acme/tiny", FILES)
    op, how = WAYS[way]
    calls = counted(house, faultio, op)
    told = {"done": 0, "named": 0, "no start": 0}
    for at in range(1, calls + 1, EVERY):
        told[one_fault(house, at, faultio(path=house.folder / f"at{at}" / "state", op=op, nth=at, **how), how)] += 1
    which = "each" if EVERY == 1 else f"every {EVERY}th"
    figure(f"{which} of {calls} calls: {', '.join(f'{count} {what}' for what, count in told.items())}")


def counted(house, faultio, op):
    """How many calls there are from start to stop."""
    node, count = house.plan("counted"), house.folder / "count"
    node.start(**faultio(path=node.state, op=op, nth=0, count=count))
    assert node.bring("acme/tiny")["event"] == "done"
    assert node.stop() == 0
    return int(count.read_text().split()[0])


def one_fault(house, at, environ, how):
    node = house.plan(f"at{at}")
    if not is_up(node.begin(**environ), node):
        outcome = "no start"
        assert node.process.returncode > 0, node.log  # it said what is amiss and ended
    else:
        done = [node.bring("acme/tiny") for _ in range(3)]
        if done[-1]["event"] != "done":
            done.append(node.bring("acme/tiny"))
        failed = [each for each in done if each["event"] != "done"]
        outcome = "named" if failed else "done"
        assert {each["kind"] for each in failed} <= NAMED, (at, failed)
        if not how.get("sticky"):
            assert len(failed) <= 1, (at, failed)  # it goes on by itself
            assert files_in(done[-1]["path"]) == FILES
        node.kill()
    done = node.start().bring("acme/tiny")
    assert done["event"] == "done", (at, done)
    assert files_in(done["path"]) == FILES
    assert node.ask("/acme/tiny/resolve/main/model.safetensors").body == FILES["model.safetensors"]
    assert node.stop() == 0
    shutil.rmtree(node.state)
    return outcome


def is_up(process, node):
    """By what it logs: `daemon.json` is a file that may have failed, too."""
    ready = re.compile(r'"gateway": "localhost:(\d+)".*"event": "ready"')
    until(lambda: ready.search(node.log) or process.poll() is not None, "it to be up, or to say why not")
    if up := ready.search(node.log):
        node.port = int(up[1])
    return up


# S4


@pytest.fixture
def small_disk(tmp_path):
    """So small that it can be filled."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "p2pmodel-test", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"no small disk can be mounted here (root?): {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.scorecard("S4")
def test_a_disk_that_is_full_half_way_serves_what_it_has_and_goes_on_when_there_is_room(site, small_disk, tmp_path, figure):
    held, wanted = {"model.safetensors": noise(1, HELD_MIB * MIB)}, {"model.safetensors": noise(2, WANTED_MIB * MIB)}
    site.hub.add_repo("model", "acme/held", held)
    site.hub.add_repo("model", "acme/wanted", wanted)
    with House(tmp_path / "house", site) as house:
        node = house.plan("node", node__state_dir=str(small_disk / "state"))
        node.state = small_disk / "state"
        node.start()
        assert node.bring("acme/held")["event"] == "done"
        assert node.command("pin", "acme/held").code == 0
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes((DISK_MIB - HELD_MIB - WANTED_MIB // 2) * MIB))
        done = node.bring("acme/wanted")
        assert (done["event"], done["kind"]) == ("error", "StoreFullError")
        try:
            answer = node.ask("/acme/wanted/resolve/main/model.safetensors")
        except (OSError, http.client.HTTPException) as cut:  # what a client's library goes on from
            figure(f"a client that asks meanwhile: {cut!r}")
        else:
            figure(f"a client that asks meanwhile is told {answer.status}")
            assert answer.status in {500, 507}
        assert node.ask("/acme/held/resolve/main/model.safetensors").body == held["model.safetensors"]
        assert node.command("gc").code == 0
        ballast.unlink()
        sent, began = site.sent, time.monotonic()
        while (done := node.bring("acme/wanted"))["event"] != "done":
            assert time.monotonic() - began < RESUMES_IN_S, done
        took = time.monotonic() - began
        figure(f"done {took:.1f} s after there was room, with {(site.sent - sent) / MIB:.0f} of {WANTED_MIB} MiB from the hub")
        assert files_in(done["path"]) == wanted
        assert site.sent - sent < WANTED_MIB * MIB  # what had been recorded is not read again
        assert node.ask("/acme/held/resolve/main/model.safetensors").body == held["model.safetensors"]
