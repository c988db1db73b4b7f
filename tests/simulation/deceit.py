"""Nodes that begin one file together, and some of them lie: `--deceit one` is a single liar that signs 1, 5 or 100 % false
digests (S6), `--deceit half` half of the nodes, who cover each other
(S8), `--deceit blind` the same where no audit finds anything, `--deceit flips` one whose memory flips bits (S5). `--of 20`
are twenty.

Every other world has sly liars: they lie only of what they read from the hub before anybody else had it, so that nothing
contradicts them before the file's own hash is wrong; a single one is among those who read it. In two worlds of
four they accuse the honest as well.
"""

from contextlib import contextmanager
from random import Random
from unittest.mock import patch

from fakes.hub import blob_of
from simulation.plan import LINKED_S, Fault, Job, Plan, content_of, key_of

from p2pmodel.content import ChunkMap
from p2pmodel.content.naming import node_id_of
from p2pmodel.delivery.audit import Audit
from p2pmodel.limits import CHUNK_BYTES
from p2pmodel.swarm.rendezvous import line_for
from p2pmodel.swarm.turns import READERS

FILE = "weights"

CHUNKS_PER_NODE = {
    "one": 6,
    "half": 3,
    "blind": 3,
    "flips": 6,
}  # the fewer, the more a chunk weighs that each node reads for itself
SHARES = (0.01, 0.05, 1.0)
# Hub bytes of the whole swarm, in files; whoever is banned reads its own.
FILES_MAX = {"one": 2.1, "half": 6.0, "blind": 6.0, "flips": 2.1}


def draw(kind, nodes, seed):
    rnd = Random(f"deceit {kind} {seed}")
    sly = kind != "flips" and seed % 2 == 1
    frames = kind != "flips" and seed % 4 > 1
    size = CHUNKS_PER_NODE[kind] * nodes * CHUNK_BYTES
    among = _readers(seed, nodes, size) if sly and kind == "one" else range(nodes)
    many = kind in {"half", "blind"}
    liars = tuple(sorted(rnd.sample(among, nodes // 2 if many else 1)))
    share = rnd.choice((0.2, 1.0)) if many else SHARES[seed % len(SHARES)]
    return Plan(
        seed=seed,
        nodes=nodes,
        closed=True,
        trusted=True,
        hub_rate=40 * CHUNK_BYTES,
        lan_rate=400 * CHUNK_BYTES,
        sizes={FILE: size},
        repos=((FILE,),),
        jobs=tuple(Job(node, LINKED_S + rnd.uniform(0.0, 1.0), 0) for node in range(nodes)),
        faults=(Fault("flipper" if kind == "flips" else "liar", 0.0, 60.0, liars, share, sly, frames),),
        direct=True,
        lingers=False,
    )


@contextmanager
def unlucky(kind):
    """In all audits of a `blind` world colluders are the ones who are called upon, and clear it all."""
    if kind != "blind":
        yield
        return
    with patch.object(Audit, "_turns", lambda self, waited_s: (ChunkMap(self._swarm.chunks), ChunkMap(self._swarm.chunks))):
        yield


def summary(ratios):
    """Of the hub's bytes in these worlds."""
    return (
        f"the hub sent {max(ratios):.2f} files at most, {sum(ratios) / len(ratios):.2f} on average, liars' own reads included"
    )


def _readers(seed, nodes, size):
    """Those whose turn it is to read the hub."""
    numbers = {node_id_of(key_of(number).public_key().public_bytes_raw()): number for number in range(nodes)}
    line = line_for(blob_of(content_of(seed, FILE, size)).id, numbers)
    return [numbers[weight] for weight in line[:READERS]]
