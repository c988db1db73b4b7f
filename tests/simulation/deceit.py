"""Nodes that begin one file together, and some of them lie: `--deceit one` is a single liar that signs 1, 5 or 100 % false
digests (S6), `--deceit half` half of the nodes, who cover each other and accuse the honest
(S8), `--deceit flips` one whose memory flips bits (S5). `--of 20` are twenty."""

from random import Random

from simulation.plan import LINKED_S, Fault, Job, Plan

from p2pmodel.limits import CHUNK_BYTES

CHUNKS_PER_NODE = 6  # what each node finds out for itself costs the hub a chunk: small beside the file
SHARES = (0.01, 0.05, 1.0)
FILES_MAX = {"one": 2.1, "half": 6.0, "flips": 2.1}  # hub bytes of the whole swarm, in files; whoever is banned reads its own

FAULTS = {"one": "liar", "half": "conspiracy", "flips": "flipper"}


def draw(kind, nodes, seed):
    rnd = Random(f"deceit {kind} {seed}")
    liars = tuple(sorted(rnd.sample(range(nodes), nodes // 2 if kind == "half" else 1)))
    share = rnd.choice((0.2, 1.0)) if kind == "half" else SHARES[seed % len(SHARES)]
    return Plan(
        seed=seed,
        nodes=nodes,
        closed=True,
        trusted=True,
        hub_rate=40 * CHUNK_BYTES,
        lan_rate=400 * CHUNK_BYTES,
        sizes={"weights": CHUNKS_PER_NODE * nodes * CHUNK_BYTES},
        repos=(("weights",),),
        jobs=tuple(Job(node, LINKED_S + rnd.uniform(0.0, 1.0), 0) for node in range(nodes)),
        faults=(Fault(FAULTS[kind], 0.0, 60.0, liars, share),),
        lingers=False,
    )
