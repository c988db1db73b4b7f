"""Rendezvous hashing: which of the nodes that want a cold blob reads which run of it from the hub.

Every node computes the same answer from what it knows, so no one is asked and no one decides. When a node comes or
goes, only the runs that it wins or held move.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from p2pmodel.limits import RUN_CHUNKS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from p2pmodel.content import BlobId

_RUNS_WANTED = 64  # a blob is cut into about so many runs: enough to share out, few enough requests


def run_length(chunks: int) -> int:
    """Chunks per run of a blob of `chunks` chunks: depends on nothing else, so that all nodes cut alike."""
    return max(1, min(RUN_CHUNKS_MAX, chunks // _RUNS_WANTED))


def run_owners(blob: BlobId, run: int, weights: Iterable[str], salt: str = "") -> list[str]:
    """The weights in the order in which their nodes are called upon for a run, first the owner. Another salt, another order."""
    key = f"{blob}/{run}/{salt}".encode()
    return sorted(weights, key=lambda weight: hashlib.blake2b(key + weight.encode(), digest_size=8).digest())
