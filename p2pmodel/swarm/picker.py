"""The policy: LAN first, hub as fallback, hub as hedge (DESIGN §6). Functions of plain values; no state of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from p2pmodel.swarm.rendezvous import run_length

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from p2pmodel.content import ChunkMap

_RARITY_LEVELS: Final = 4  # beyond so many holders a chunk is not rare
UNCLAIMED_S: Final = 3.0  # how long a run waits for its owner to claim it before the next in line may


@dataclass(frozen=True, slots=True)
class Turn:
    """Whose turn a run is: how many nodes stand before this one, and since when nobody has claimed it."""

    before: int
    waiting_since: float


def may_claim(turn: Turn, now: float) -> bool:
    """The owner at once; the next in line when nobody before it has taken the run for a while; and so on."""
    return now - turn.waiting_since >= turn.before * UNCLAIMED_S


def first_run(candidates: ChunkMap, limit: int, after: int = 0) -> tuple[int, int] | None:
    """The first contiguous run of candidates at or behind `after` (else from the start), cut to `limit` chunks."""
    head: tuple[int, int] | None = None
    for first, count in candidates.runs():
        if first + count > after:
            start = max(first, after)
            return start, min(limit, first + count - start)
        head = head or (first, min(limit, count))
    return head


def rarest_run(candidates: ChunkMap, offers: Sequence[ChunkMap], limit: int, rng: Random) -> tuple[int, int] | None:
    """A run among the candidates that the fewest sources offer, from a place drawn by lot, so that nodes that start
    together fetch different chunks and have something to give each other.

    Bitmaps are added up in unary (`at_least[k]`: offered by more than k sources), for a blob may have 36,000 chunks.
    """
    at_least = [candidates - candidates for _ in range(_RARITY_LEVELS)]
    for offer in offers:
        for level in range(_RARITY_LEVELS - 1, 0, -1):
            at_least[level] = at_least[level] | (at_least[level - 1] & offer)
        at_least[0] = at_least[0] | offer
    for level in range(_RARITY_LEVELS):
        more = at_least[level + 1] if level + 1 < _RARITY_LEVELS else None
        exactly = at_least[level] - more if more is not None else at_least[level]
        if rare := candidates & exactly:
            return first_run(rare, limit, after=rng.randrange(candidates.count))
    return None


def peer_order_limit(chunks: int, sources: int) -> int:
    """Chunks per order to a peer: several, to save round trips; few, where a small blob is shared by many sources."""
    return max(1, min(run_length(chunks), 4, chunks // max(1, 4 * sources)))
