"""A peer with bad memory among real daemons: it gives wrong bits and means no harm. Nobody else gets them."""

import hashlib
import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest
from daemons import House, Site, until

NODES, CHUNKS = 8, 256
MIB, CHUNK = 1 << 20, 4 << 20
PROGRAM = Path(__file__).with_name("flipping_peer.py")
PERCENT = range(7, CHUNKS, 100)  # of the chunks
THIRD = range(0, CHUNKS, 3)
BAD_MAX, BAN_MAX_S = 3, 2.0
SLOWER_MAX = 1.2

pytestmark = [pytest.mark.attacks, pytest.mark.scorecard("S5"), pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Noise of which no two chunks are alike, and its hash."""
    file = tmp_path_factory.mktemp("model") / "model.safetensors"
    noise, sha256 = os.urandom(CHUNK), hashlib.sha256()
    with file.open("wb") as out:
        for index in range(CHUNKS):
            chunk = index.to_bytes(8, "big") + noise[8:]
            out.write(chunk)
            sha256.update(chunk)
    return file, sha256.hexdigest()


@pytest.fixture(scope="module")
def site(weights):
    with Site() as site:
        site.hub.add_repo("model", "acme/big", {"model.safetensors": weights[0]})
        yield site


@pytest.fixture(scope="module")
def cache(site, weights, tmp_path_factory):
    """The model as huggingface_hub leaves it: whoever adopts it holds it without a second copy."""
    commit = site.hub.repo("model", "acme/big").head.id
    home = tmp_path_factory.mktemp("cache") / "hub" / "models--acme--big"
    for folder in (home / "blobs", home / "refs", home / "snapshots" / commit):
        folder.mkdir(parents=True)
    weights[0].rename(home / "blobs" / weights[1])
    weights[0].symlink_to(home / "blobs" / weights[1])
    (home / "snapshots" / commit / "model.safetensors").symlink_to(f"../../blobs/{weights[1]}")
    (home / "refs" / "main").write_text(commit)
    return home.parents[1]


@pytest.fixture(scope="module")
def house(site, tmp_path_factory):
    with House(tmp_path_factory.mktemp("house"), site) as house:
        yield house


@pytest.fixture(scope="module")
def holders(house, cache):
    """All honest, but for the flipper, which comes last."""
    return [
        *(adopting(house.daemon(f"holder{number}"), cache) for number in range(NODES - 2)),
        flipping(house, "flipper", cache),
    ]


def flipping(house, name, cache):
    node = house.plan(name)
    say(node, [])
    node.start(before=(sys.executable, str(PROGRAM), str(node.folder)))
    return adopting(node, cache)


def adopting(node, cache):
    done = node.command("adopt", cache, "--json")
    assert done.json[str(cache)]["adopted"] == 1, done
    return node


def say(flipper, chunks):
    (flipper.folder / "flips").write_text(json.dumps(list(chunks)))
    (flipper.folder / "told").write_text("")


def told(flipper):
    """When each wrong chunk left it."""
    return [float(line.split()[0]) for line in (flipper.folder / "told").read_text().splitlines()]


class Watch(threading.Thread):
    """When a node banned somebody, by the clock on the wall."""

    def __init__(self, node):
        super().__init__()
        self.node, self.at, self.over = node, None, threading.Event()

    def run(self):
        while self.at is None and not self.over.wait(0.02):
            if self.node.ask("/-/api/peers").json["bans"]:
                self.at = time.time()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()


class Reader:
    """A new node, its one fetch, and what came of it."""

    def __init__(self, house, site, name, peers, digest):
        node = house.daemon(name, peers)
        sent = site.sent
        began = time.monotonic()
        with Watch(node) as watch:
            done = node.bring("acme/big")
        self.took = time.monotonic() - began
        assert done["event"] == "done", done
        with (Path(done["path"]) / "model.safetensors").open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == digest
        self.sent = site.sent - sent
        self.bans = node.ask("/-/api/peers").json["bans"]
        self.banned_at = watch.at
        node.stop()
        shutil.rmtree(node.state)


def test_one_per_cent_of_wrong_chunks_costs_a_fetch_from_many_next_to_nothing(house, site, holders, weights, figure):
    flipper, quiet, burdened, wrong = holders[-1], [], [], 0
    for turn in range(3):
        say(flipper, [])
        quiet.append(Reader(house, site, f"quiet{turn}", holders, weights[1]))
        say(flipper, PERCENT)
        burdened.append(Reader(house, site, f"burdened{turn}", holders, weights[1]))
        wrong += len(told(flipper))
    took = [min(reader.took for reader in readers) for readers in (quiet, burdened)]
    figure(f"{wrong} wrong chunks in three fetches; the fastest takes {took[1]:.1f} s, in peace {took[0]:.1f} s")
    assert took[1] <= SLOWER_MAX * took[0]
    assert all(reader.sent == 0 for reader in quiet + burdened)


def test_who_gives_one_wrong_chunk_in_three_is_banned_at_once_and_the_others_give_the_rest(
    house, site, holders, weights, figure
):
    flipper = holders[-1]
    say(flipper, THIRD)
    reader = Reader(house, site, "warned", holders, weights[1])
    wrong = told(flipper)
    figure(f"banned after {len(wrong)} wrong chunks, {reader.banned_at - wrong[-1]:.2f} s after the last was sent")
    assert [ban["node_id"] for ban in reader.bans] == [flipper.ask("/-/api/status").json["node_id"]]
    assert len(wrong) <= BAD_MAX or reader.banned_at - wrong[0] <= BAN_MAX_S
    assert reader.sent == 0


def test_where_it_is_the_only_one_to_ask_the_hub_gives_the_rest(house, site, cache, weights, figure):
    flipper = flipping(house, "only", cache)  # none of the others knows of it
    say(flipper, PERCENT)
    reader = Reader(house, site, "alone", [flipper], weights[1])
    wrong = told(flipper)
    figure(f"{len(wrong)} wrong chunks of {CHUNKS}; the hub sent {reader.sent / MIB:.0f} MiB of {CHUNKS * CHUNK // MIB}")
    assert len(wrong) <= BAD_MAX or until(lambda: reader.banned_at, "the ban") - wrong[0] <= BAN_MAX_S
