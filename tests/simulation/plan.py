"""What a seed means: how many nodes, which files, who wants what when, and what goes wrong.

Plain data, drawn before anything runs.
"""

from dataclasses import dataclass
from random import Random

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pmodel.limits import CHUNK_BYTES, SMALL_RANGE_BYTES

CALM_EVERY = 4  # every so many seeds nothing goes wrong
LINKED_S = 2.0  # nodes that start together are linked by then; whoever fetches earlier is alone
START_S = 10.0  # jobs and faults begin within so long
FAULT_S_MAX = 20.0
LIARS = ("flipper", "liar")
HUB_FAULTS = ("hub_down", "hub_busy", "hub_breaks", "hub_stalls", "hub_corrupts")
PAIR_FAULTS = ("cut", "silence")
NODE_FAULTS = ("crash", "alone", "asleep", "slow", "liar", "flipper", "rot", "disk_full", "no_hub", "shut")
LASTING = ("liar", "flipper", "hub_corrupts")  # from the first job on: they show only in what is asked for


def content_of(seed, name, size):
    return Random(f"{seed} {name}").randbytes(size)


def key_of(number):
    """A node's, in every world."""
    return Ed25519PrivateKey.from_private_bytes(Random(f"key {number}").randbytes(32))


@dataclass(frozen=True)
class Job:
    """A client's wish. Without a path: a fetch of the whole snapshot."""

    node: int
    at: float
    repo: int
    path: str | None = None
    start: int = 0
    stop: int = 0
    patience_s: float | None = None  # then it is cancelled

    def whole(self, plan):
        """Whether it takes files from their first byte to their last."""
        return self.path is None or self.stop - self.start == plan.sizes[self.path]


@dataclass(frozen=True)
class Fault:
    kind: str
    at: float
    until: float
    nodes: tuple[int, ...] = ()
    share: float = 1.0  # of the chunks that a liar gives, so many are false
    sly: bool = False  # and only of those for which nobody else signs
    frames: bool = False  # it accuses the honest as well


@dataclass(frozen=True)
class Plan:
    seed: int
    nodes: int
    closed: bool
    trusted: bool  # whether the hub's bytes are graded as our own read
    hub_rate: float  # bytes/s
    lan_rate: float
    sizes: dict[str, int]  # bytes of the files' contents, by name of the content
    repos: tuple[tuple[str, ...], ...]  # contents of each
    jobs: tuple[Job, ...]
    faults: tuple[Fault, ...]
    vouchers: int = 0  # how many members' word lets bytes leave
    rooted: bool = False  # whether the hub tells the roots of its files (Xet), and nodes prove by them what peers give
    direct: bool = False  # nodes hear each other without links and frames (direct.py)
    lingers: bool = True  # whether it goes on once all jobs are done, until everything was given back

    @property
    def calm(self):
        return not self.faults

    @property
    def quiet_at(self):
        """When the last fault is over and the last job has begun."""
        return max([fault.until for fault in self.faults] + [job.at for job in self.jobs])

    @property
    def liars(self):
        return {node for fault in self.faults if fault.kind in LIARS for node in fault.nodes}

    def has(self, *kinds):
        return any(fault.kind in kinds for fault in self.faults)


def draw(seed):
    rnd = Random(f"plan {seed}")
    nodes = rnd.choice((2, 3, 3, 4, 4, 6))
    sizes = {f"blob-{number}": _size(rnd, number) for number in range(rnd.randint(2, 5))}
    repos = tuple(_repo(rnd, sorted(sizes)) for _ in range(rnd.randint(1, 3)))
    trusted = rnd.random() < 0.7
    return Plan(
        seed=seed,
        nodes=nodes,
        closed=rnd.random() < 0.5,
        trusted=trusted,
        hub_rate=rnd.choice((5, 15, 40)) * CHUNK_BYTES,
        lan_rate=rnd.choice((100, 400, 400)) * CHUNK_BYTES,
        sizes=sizes,
        repos=repos,
        jobs=tuple(_jobs(rnd, nodes, repos, sizes)),
        faults=() if seed % CALM_EVERY == 0 else tuple(_faults(rnd, nodes, trusted=trusted)),
    )


def _size(rnd, number):
    """The first is a shard of weights, the others anything."""
    chunks = rnd.uniform(12, 50) if number == 0 else rnd.choice((0, 0.01, 0.5, 1, rnd.uniform(1, 4), rnd.uniform(4, 18)))
    return int(chunks * CHUNK_BYTES)


def _repo(rnd, contents):
    return tuple(rnd.sample(contents, rnd.randint(1, len(contents))))


def _jobs(rnd, nodes, repos, sizes):
    together = rnd.random() < 0.4
    for node in range(nodes):
        for number in range(rnd.choice((1, 1, 2, 3))):
            at = LINKED_S if together and not number else rnd.uniform(LINKED_S, START_S)
            repo = rnd.randrange(len(repos))
            patience_s = rnd.uniform(0.2, 8.0) if number and rnd.random() < 0.3 else None
            if rnd.random() < 0.6:
                yield Job(node, at, repo, patience_s=patience_s)
            else:
                path = rnd.choice(repos[repo])
                start, stop = _range(rnd, sizes[path])
                yield Job(node, at, repo, path, start, stop, patience_s)


def _range(rnd, size):
    kind = rnd.random()
    if kind < 0.5:
        return 0, size
    if kind < 0.7:
        return 0, min(size, rnd.randint(1, SMALL_RANGE_BYTES))
    start = rnd.randint(0, size)
    return start, rnd.randint(start, size)


def _faults(rnd, nodes, *, trusted):
    """What leaves by HTTP before the seal is what the hub said over TLS: only a mirror may corrupt."""
    kinds = [kind for kind in (*HUB_FAULTS, *PAIR_FAULTS, *NODE_FAULTS) if kind != "hub_corrupts" or not trusted]
    drawn = [(kind, _target(rnd, kind, nodes)) for kind in rnd.choices(kinds, k=rnd.randint(1, 6))]
    for kind, target in dict.fromkeys(drawn):
        at = LINKED_S if kind in LASTING else rnd.uniform(0.5, START_S + 5.0)
        yield Fault(kind, at, at + rnd.uniform(0.5, FAULT_S_MAX), target)


def _target(rnd, kind, nodes):
    if kind in HUB_FAULTS:
        return ()
    return tuple(rnd.sample(range(nodes), 2 if kind in PAIR_FAULTS else 1))
