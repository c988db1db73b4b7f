"""A world from a plan: nodes, a hub, clients and faults, in virtual time.

Three phases: trouble; then the faults are over, and every job must end; then nobody wants anything, and everything that
was taken must be given back.
"""

import gc
import hashlib
import os
import random
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import structlog
import trio
import trio.testing
from fakes.hub import NOBODY, MemoryHub, blob_of
from fakes.neighbours import Lan
from simulation.direct import DirectNode
from simulation.faults import FAULTS
from simulation.network import SimulatedNetwork
from simulation.node import Node
from simulation.plan import content_of
from trio._core import _run as scheduler

from p2pmodel.content import Hub, Repo, RepoKind, chunk_count
from p2pmodel.content.cutting import Cutter
from p2pmodel.errors import P2pmodelError
from p2pmodel.limits import DATA_IDLE_S, REANNOUNCE_S

DELAY_S = 0.0005
RETRY_S = 2.0  # a user who got an error tries again after so long
PATIENCE_S = 120.0  # once the faults are over, every job ends within so long
SETTLE_S = 2 * DATA_IDLE_S + REANNOUNCE_S  # then links are mended and idle connections closed

scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # or MockClock and a seeded `_r` would not be enough
trio.testing.MockClock.current_time = lambda clock: clock._virtual_base  # it stands still but for jumps; asked all the time


class Trace:
    """What happened, as a hash; and as lines, if somebody wants to read them."""

    def __init__(self, show=None):
        self._hash = hashlib.sha256()
        self._show = show

    def __call__(self, *what):
        line = f"{trio.current_time():10.4f} " + " ".join(map(str, what))
        self._hash.update(line.encode())
        if self._show:
            self._show(line)

    def digest(self):
        return self._hash.hexdigest()[:16]


@dataclass
class Outcome:
    """What a checker may want to know of a job."""

    job: object
    began: float
    ended: float | None = None
    given_up: bool = False
    errors: Counter = field(default_factory=Counter)


class World:
    def __init__(self, plan, trace):
        self.plan = plan
        self.trace = trace
        self.network = SimulatedNetwork(delay=DELAY_S, trace=trace)
        self.hub = MemoryHub(rate=plan.hub_rate, trusted=plan.trusted)
        self.contents = {name: content_of(plan.seed, name, size) for name, size in plan.sizes.items()}
        if plan.rooted:
            self.hub.roots = {blob_of(content).id: _root(content) for content in self.contents.values()}
        self.repos = [Repo(Hub.HUGGINGFACE, RepoKind.MODEL, f"org/model-{number}") for number in range(len(plan.repos))]
        self.snapshots = [
            self.hub.publish({name: self.contents[name] for name in names}, repo=repo)
            for repo, names in zip(self.repos, plan.repos, strict=True)
        ]
        self.lan = Lan(DELAY_S, plan.lan_rate)
        self.nodes = [(DirectNode if plan.direct else Node)(number, self) for number in range(plan.nodes)]
        self.outcomes = {job: Outcome(job, job.at) for job in plan.jobs}
        self.wrong_reads = []
        self._done = trio.Event()
        self._falsehoods = {}

    # For faults

    def named(self, fault):
        return [self.nodes[number] for number in fault.nodes]

    def others(self, node):
        return [other for other in self.nodes if other is not node]

    def chunks_drawn(self, fault, count):
        """(blob, chunk) of this world, by the fault's own dice."""
        rnd = random.Random(f"{self.plan.seed} {fault}")
        blobs = [entry.blob for snapshot in self.snapshots for entry in snapshot.files if entry.size]
        drawn = [rnd.choice(blobs) for _ in range(count)] if blobs else []
        return [(blob.id, rnd.randrange(chunk_count(blob.size))) for blob in drawn]

    def falsehood(self, data):
        """A file with these bytes."""
        if data not in self._falsehoods:
            self._falsehoods[data] = os.memfd_create("false", os.MFD_CLOEXEC)
            os.write(self._falsehoods[data], data)
        return self._falsehoods[data]

    def wanted(self, jobs):
        """What these jobs ask for: size by blob."""
        entries = [entry for job in jobs for entry in self.snapshots[job.repo].files if job.path in {None, entry.path}]
        return {entry.blob.id: entry.size for entry in entries}

    # The phases

    async def run(self, checks):
        """Complaints of the checks."""
        async with trio.open_nursery() as nursery:
            for node in self.nodes:
                nursery.start_soon(node.run, self._serve)
            if not self.plan.direct:
                nursery.start_soon(self._announce)
            for fault in self.plan.faults:
                nursery.start_soon(self._fault, fault)
            with trio.move_on_at(self.plan.quiet_at + PATIENCE_S):
                await self._done.wait()
            if self.plan.lingers:
                await trio.sleep(max(0.0, self.plan.quiet_at - trio.current_time()) + SETTLE_S)
            complaints = [f"{check.__name__.rpartition('.')[2]}: {found}" for check in checks for found in check.check(self)]
            nursery.cancel_scope.cancel()
        self.trace("end")
        return complaints

    def close(self):
        for node in self.nodes:
            node.store.crash()
            node.store.close()
        for fd in self._falsehoods.values():
            os.close(fd)

    async def _announce(self):
        """Multicast DNS: where packets pass, nodes hear of each other."""
        while True:
            for node in self.nodes:
                for other in self.others(node):
                    path = self.network.path(other.host, node.host)
                    if other.up and not path.silent and not path.cut:
                        node.hear_of(other)
            await trio.sleep(REANNOUNCE_S if trio.current_time() > 1 else 0.5)

    async def _fault(self, fault):
        await trio.sleep_until(fault.at)
        self.trace("fault", fault.kind, *fault.nodes)
        async with FAULTS[fault.kind](self, fault):
            await trio.sleep_until(fault.until)
        self.trace("over", fault.kind, *fault.nodes)

    # Clients

    async def _serve(self, node):
        """What its clients have not got yet."""
        async with trio.open_nursery() as nursery:
            for job, outcome in self.outcomes.items():
                if self.nodes[job.node] is node and outcome.ended is None:
                    nursery.start_soon(self._job, node, outcome)

    async def _job(self, node, outcome):
        job = outcome.job
        await trio.sleep_until(job.at)
        with trio.move_on_at(job.at + job.patience_s if job.patience_s else float("inf")) as patience:
            while not await self._tried(node, outcome):  # noqa: ASYNC110  # a user who asks again, no poll
                await trio.sleep(RETRY_S)
        outcome.given_up = patience.cancelled_caught
        outcome.ended = trio.current_time()
        self.trace("given up" if outcome.given_up else "done", node, job)
        if all(each.ended is not None for each in self.outcomes.values()):
            self._done.set()

    async def _tried(self, node, outcome):
        job = outcome.job
        try:
            if job.path is None:
                await node.fetch(self.repos[job.repo], "main", NOBODY)
            else:
                data, _ = await node.read(job.path, job.start, job.stop, self.repos[job.repo], "main", NOBODY)
                if data != self.contents[job.path][job.start : job.stop]:
                    self.wrong_reads.append(job)
        except P2pmodelError as error:
            self.trace("failed", node, job, type(error).__name__, error)
            outcome.errors[type(error).__name__] += 1
            return False
        return True


@dataclass
class Result:
    seed: int
    trace: str
    complaints: list
    mean_finish_s: float  # of the jobs that were not given up
    hub_ratio: float  # bytes sent by the hub to distinct bytes
    virtual_s: float
    asked: dict  # files that honest nodes and liars had of the hub, by what for


def simulate(plan, checks, show=None):
    """One world from its beginning to its end."""
    trace = Trace(show)
    structlog.configure(processors=[_into(trace)], wrapper_class=structlog.make_filtering_bound_logger(20))
    scheduler._r.seed(plan.seed)
    before = _descriptors()
    world = None

    async def main():
        nonlocal world
        world = World(plan, trace)
        return await world.run(checks), trio.current_time()

    try:
        complaints, virtual_s = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    except Exception:  # noqa: BLE001  # whatever escapes is what the simulation is looking for
        return Result(plan.seed, trace.digest(), ["crashed: " + traceback.format_exc()], 0.0, 0.0, 0.0, {})
    world.close()
    gc.collect()
    if (left := _descriptors() - before) > 0:
        complaints.append(f"leaks: {left} file descriptors are still open")
    finished = [each.ended - each.job.at for each in world.outcomes.values() if each.ended and not each.given_up]
    distinct = sum(world.wanted(plan.jobs).values())
    return Result(
        plan.seed,
        trace.digest(),
        complaints,
        sum(finished) / max(1, len(finished)),
        world.hub.bytes_sent / max(1, distinct),
        virtual_s,
        {who: round(count / max(1, distinct), 3) for who, count in _asked(world)},
    )


def _root(content):
    cutter = Cutter()
    cutter.feed(content)
    return cutter.finish().root()


def _asked(world):
    """Bytes by who asked and why."""
    total = Counter()
    for node in world.nodes:
        for why, count in node.asked.bytes.items():
            total[f"{'liars' if node.number in world.plan.liars else 'honest'} {why}"] += count
    return sorted(total.items())


def _into(trace):
    def processor(_logger, _method, event):
        trace("log", *(f"{key}={value}" for key, value in event.items()))
        raise structlog.DropEvent

    return processor


def _descriptors():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
