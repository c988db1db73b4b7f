"""Late nodes that believe members (`gateway.vouchers`), of which fewer than are asked for lie: `--vouch`.

Some nodes bring the file in while everybody is honest. Then the liars among them begin to vouch for false digests, cover each
other and give false bytes, and the late ones read, while links break, nodes die and disks rot.
"""

from random import Random

from simulation.plan import LINKED_S, Fault, Job, Plan

from p2pmodel.limits import CHUNK_BYTES

SEALED_S = 20.0  # by then those who begin together have it
LATE_S = 25.0
READS = 3  # of each late node
KINDS = ("crash", "rot", "cut", "silence", "slow", "no_hub", "hub_down", "alone")


def draw(seed):
    rnd = Random(f"vouch {seed}")
    vouchers = rnd.choice((1, 2, 2, 3))
    liars, honest, late = rnd.randint(0, vouchers - 1), rnd.randint(1, 3), rnd.randint(1, 2)
    sealers = liars + honest
    size = int(rnd.uniform(6, 40) * CHUNK_BYTES)
    fetches = tuple(Job(node, LINKED_S, 0) for node in range(sealers))
    lies = Fault("liar", SEALED_S, 60.0, tuple(range(liars)), rnd.choice((0.2, 1.0)), frames=True)
    return Plan(
        seed=seed,
        nodes=sealers + late,
        closed=True,
        trusted=rnd.random() < 0.8,
        hub_rate=rnd.choice((5, 40)) * CHUNK_BYTES,
        lan_rate=rnd.choice((20, 400)) * CHUNK_BYTES,
        sizes={"weights": size},
        repos=(("weights",),),
        jobs=fetches + tuple(reads(rnd, range(sealers, sealers + late), size)),
        faults=(*([lies] if liars else []), *faults(rnd, sealers + late)),
        vouchers=vouchers,
    )


def reads(rnd, nodes, size):
    for node in nodes:
        for _ in range(READS):
            start = rnd.choice((0, 0, rnd.randrange(size)))
            stop = rnd.choice((size, size, rnd.randint(start, size)))
            yield Job(node, LATE_S + rnd.uniform(0.0, 3.0), 0, "weights", start, stop)


def faults(rnd, nodes):
    for kind in rnd.sample(KINDS, rnd.choice((0, 0, 1, 2))):
        at = LATE_S + rnd.uniform(0.0, 4.0)
        target = () if kind == "hub_down" else tuple(rnd.sample(range(nodes), 2 if kind in {"cut", "silence"} else 1))
        yield Fault(kind, at, at + rnd.uniform(0.5, 15.0), target)
