"""Rendezvous hashing: which of the nodes that want a cold blob reads which run of it from the hub.

Every node computes the same answer from what it knows, so no one is asked and no one decides. When a node comes or
goes, only the runs that it wins or held move.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from p2pmodel.limits import RUN_CHUNKS_MAX

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from p2pmodel.content import BlobId

_RINGS = 4
_RUNS_WANTED = 64  # a blob is cut into about so many runs: enough to share out, few enough requests


def run_length(chunks: int) -> int:
    """Chunks per run of a blob of `chunks` chunks: depends on nothing else, so that all nodes cut alike."""
    return max(1, min(RUN_CHUNKS_MAX, chunks // _RUNS_WANTED))


def line_for(blob: BlobId, weights: Iterable[str]) -> list[str]:
    """The weights in the order in which their nodes are called upon for a blob."""
    return _ranked(f"{blob}/", weights)


def run_owners(blob: BlobId, run: int, weights: Iterable[str], salt: str = "") -> list[str]:
    """The weights in the order in which their nodes are called upon for a run, first the owner. Another salt, another order."""
    return _ranked(f"{blob}/{run}/{salt}", weights)


def _ranked(key: str, weights: Iterable[str]) -> list[str]:
    return sorted(weights, key=lambda weight: _place(key, weight))


def _place(key: str, weight: str) -> bytes:
    return hashlib.blake2b(f"{key}{weight}".encode(), digest_size=8).digest()


class Rings:
    """On each of a few rings all nodes stand in another order, and each follows the two beside it. Everybody is beside as
    many as anybody else, all are a few steps from each other, and whoever comes or goes concerns few."""

    def __init__(self, blob: BlobId, own: str) -> None:
        self._keys = [f"{blob}/ring {number}/" for number in range(_RINGS)]
        self._own = own
        self._places: dict[str, list[bytes]] = {}  # of each weight, by ring

    def beside(self, others: Collection[str]) -> set[str]:
        """The weights of those beside us."""
        found: set[str] = set()
        own = self._places_of(self._own)
        for ring, here in enumerate(own):
            places = [(self._places_of(other)[ring], other) for other in others if other != self._own]
            after = [place for place in places if place[0] > here]
            before = [place for place in places if place[0] <= here]
            found |= {min(after or before)[1], max(before or after)[1]} if places else set()
        return found

    def _places_of(self, weight: str) -> list[bytes]:
        if weight not in self._places:
            self._places[weight] = [_place(key, weight) for key in self._keys]
        return self._places[weight]
