"""A machine that gives the daemon 256 MB, a file of 70 GB, twenty peers and fifty clients: nothing is killed, nothing is wrong.

One node holds all of the file, which is sparse, so all of its digests go over the wire; of its bytes there go as many as a
minute allows. Needs root, for a memory cgroup.
"""

import os
import random
import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from daemons import House, Site, until

from p2pmodel.content import Blob, BlobId, Manifest, Seal, chunk_count, chunk_digest
from p2pmodel.demo.repos import Content
from p2pmodel.peering import Identity
from p2pmodel.store import Store

SIZE, CHUNK = 70 * 10**9, 4 << 20
KINDS = 16  # of chunks: each begins with the number of its kind and is zeros else
BLOB = Blob(BlobId("sha256", "70" * 32), SIZE)  # nobody gets as far as to hash it
MEMORY, RSS_MAX = 256 * 10**6, 200 * 10**6
PEERS, CLIENTS, SECONDS = 20, 50, 60
ASKED = 1 << 20
CONTROL = Path("/sys/fs/cgroup")
V1, V2 = CONTROL / "memory", CONTROL

pytestmark = [pytest.mark.attacks, pytest.mark.scorecard("S24"), pytest.mark.timeout(1800)]


class Cap:
    """A memory cgroup, of either version, and words that put a command into it."""

    def __init__(self, name, limit):
        v1 = (V1 / "memory.limit_in_bytes").exists()
        self._group = (V1 if v1 else V2) / f"p2pmodel-test-{os.getpid()}-{name}"
        self._kills = self._group / ("memory.oom_control" if v1 else "memory.events")
        try:
            self._group.mkdir()
            (self._group / ("memory.limit_in_bytes" if v1 else "memory.max")).write_text(str(limit))
        except OSError as error:
            pytest.skip(f"no memory cgroup can be made here (root?): {error}")

    @property
    def before(self):
        return "sh", "-c", f'echo $$ > {self._group}/cgroup.procs && exec "$@"', "sh"

    @property
    def kills(self):
        return int(dict(line.split() for line in self._kills.read_text().splitlines())["oom_kill"])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        until(lambda: not (self._group / "cgroup.procs").read_text(), "its processes to end")
        self._group.rmdir()


class Watch(threading.Thread):
    """The most memory that daemons had resident, file pages that they map included."""

    def __init__(self, nodes):
        super().__init__()
        self.most = dict.fromkeys((node.folder.name for node in nodes), 0)
        self.pids = {node.folder.name: node.process.pid for node in nodes}
        self.over = threading.Event()

    def run(self):
        while not self.over.wait(0.05):
            for name, pid in self.pids.items():
                rows = Path(f"/proc/{pid}/status").read_text().splitlines()
                rss = next((int(row.split()[1]) * 1024 for row in rows if row.startswith("VmRSS")), 0)
                self.most[name] = max(self.most[name], rss)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()


class Client(threading.Thread):
    """Asks for a mebibyte here and there in the file, until it is told to stop."""

    def __init__(self, node, seed, over):
        super().__init__()
        self.node, self.dice, self.over = node, random.Random(seed), over
        self.right, self.wrong = 0, []

    def run(self):
        while not self.over.is_set():
            chunk = self.dice.randrange(SIZE // CHUNK)
            start = chunk * CHUNK
            try:
                answer = self.node.ask(PATH, patience_s=120.0, Range=f"bytes={start}-{start + ASKED - 1}")
            except OSError as error:
                self.wrong.append(repr(error))
                continue
            if (answer.status, answer.body) == (206, kind(chunk) + bytes(ASKED - 8)):
                self.right += 1
            else:
                self.wrong.append(f"{answer.status}, {len(answer.body)} bytes: {answer.body[:200]}")


PATH = "/acme/huge/resolve/main/model.safetensors"


def kind(chunk):
    return (chunk % KINDS).to_bytes(8, "big")


@pytest.fixture
def weights(tmp_path):
    file = tmp_path / "weights"
    with file.open("wb") as out:
        out.truncate(SIZE)
        for chunk in range(chunk_count(SIZE)):
            os.pwrite(out.fileno(), kind(chunk), chunk * CHUNK)
    return file


@pytest.fixture
def site(weights):
    with Site() as site:
        site.hub.add_repo("model", "acme/huge", {"model.safetensors": Content(weights, SIZE, BLOB.id.hex)})
        yield site


def hold(state, weights):
    """A state directory as it is when all of the file has been fetched."""
    of_kind = [chunk_digest(kind(chunk) + bytes(CHUNK - 8)) for chunk in range(KINDS)]
    last = chunk_count(SIZE) - 1
    digests = [of_kind[chunk % KINDS] for chunk in range(last)] + [chunk_digest(kind(last) + bytes(SIZE - last * CHUNK - 8))]
    store = Store(state)
    manifest = Manifest(BLOB, b"".join(digests))
    store._index.put_blob(BLOB, manifest.digests, Seal.sign(manifest, Identity.load(state).key), None, used=int(time.time()))
    file = store.layout.public.sealed(BLOB.id)
    store.close()
    file.parent.mkdir(parents=True, exist_ok=True)
    weights.chmod(0o444)
    os.link(weights, file)


def test_seventy_gigabytes_fit_into_256_megabytes(site, weights, tmp_path, figure):
    with Cap("holder", MEMORY) as large, Cap("reader", MEMORY) as small, House(tmp_path / "house", site) as house:
        assert house.user.run("cluster", "init", "--key-file", tmp_path / "key").code == 0
        house.settings = {"cluster.key_file": str(tmp_path / "key")}  # an open one lets few in from one address
        holder = house.plan("holder")
        hold(holder.state, weights)
        holder.start(before=large.before)
        # By a voucher its bytes may leave before all of the file has been hashed, for which a minute is not enough.
        reader = house.plan("reader", [holder], limits__peer_download=100 * 10**6, gateway__vouchers=1)
        reader.start(before=small.before).linked(1)
        others = [house.plan(f"peer{number}", [holder, reader], limits__peer_download=2 * 10**6) for number in range(PEERS - 1)]
        for node in others:
            node.begin()
        for node in others:
            node.started(120)
        reader.linked(PEERS, 300)
        fetches = [node.begin_command("fetch", "acme/huge") for node in (reader, *others)]
        over = threading.Event()
        clients = [Client(node, seed, over) for node in (holder, reader) for seed in range(CLIENTS)]
        with Watch([holder, reader]) as watch, ExitStack() as ending:
            ending.callback(over.set)
            for client in clients:
                client.start()
            time.sleep(SECONDS)
            over.set()
            for client in clients:
                client.join()
        told = ", ".join(f"{name} {most / 1e6:.0f} MB" for name, most in watch.most.items())
        moved = reader.received("peer") + reader.received("upstream")
        right = [sum(client.right for client in clients if client.node is node) for node in (holder, reader)]
        figure(f"resident at most: {told}; {moved / 1e9:.1f} GB came in; {right[0]} and {right[1]} ranges answered")
        for fetch in fetches:
            fetch.send_signal(signal.SIGINT)
            fetch.communicate()
        assert [wrong for client in clients for wrong in client.wrong] == []
        assert all(client.right for client in clients)
        assert large.kills == small.kills == 0
        assert holder.running
        assert reader.running
        assert max(watch.most.values()) <= RSS_MAX
