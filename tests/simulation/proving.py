"""Late nodes that prove what peers give by the hub's own root, while some of these lie: `--prove`.

As in vouching.py all are honest until they have the file. Then any number of them give false chunks, signed, or lists of
pieces with another root, and accuse the honest; open clusters are as good as closed ones.
"""

from random import Random

from simulation.plan import LINKED_S, Fault, Job, Plan
from simulation.vouching import LATE_S, SEALED_S, faults, reads

from p2pmodel.limits import CHUNK_BYTES, LARGE_BLOB_BYTES


def draw(seed):
    rnd = Random(f"prove {seed}")
    sealers, late = rnd.randint(1, 4), rnd.randint(1, 2)
    liars = rnd.randint(0, sealers)
    size = int(rnd.uniform(LARGE_BLOB_BYTES + 1, 5 * LARGE_BLOB_BYTES))
    fetches = tuple(Job(node, LINKED_S, 0) for node in range(sealers))
    frames = rnd.random() < 0.5  # then their lists are false as well
    lies = Fault("liar", SEALED_S, LATE_S + 40.0, tuple(range(liars)), rnd.choice((0.05, 0.2, 1.0)), frames=frames)
    return Plan(
        seed=seed,
        nodes=sealers + late,
        closed=rnd.random() < 0.5,
        trusted=True,
        hub_rate=rnd.choice((5, 40)) * CHUNK_BYTES,
        lan_rate=rnd.choice((5, 20, 400)) * CHUNK_BYTES,
        sizes={"weights": size},
        repos=(("weights",),),
        jobs=fetches + tuple(reads(rnd, range(sealers, sealers + late), size)),
        faults=(*([lies] if liars else []), *faults(rnd, sealers + late)),
        rooted=True,
    )
