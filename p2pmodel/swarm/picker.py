"""The policy: LAN first, hub as fallback, hub as hedge (DESIGN §6). Functions of plain values; no state of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from p2pmodel.swarm.rendezvous import run_length

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from p2pmodel.content import ChunkMap

_RARITY_LEVELS: Final = 4  # beyond so many holders a chunk is not rare
_WINDOW_CHUNKS_MIN: Final = 256
_WINDOW_ORDERS: Final = 16


def first_run(candidates: ChunkMap, limit: int, after: int = 0) -> tuple[int, int] | None:
    """The first contiguous run of candidates at or behind `after` (else from the start), cut to `limit` chunks."""
    head: tuple[int, int] | None = None
    for first, count in candidates.runs():
        if first + count > after:
            start = max(first, after)
            return start, min(limit, first + count - start)
        head = head or (first, min(limit, count))
    return head


def rarest_run(
    candidates: ChunkMap, offers: Sequence[ChunkMap], limit: int, window: range, rng: Random
) -> tuple[int, int] | None:
    """A run among the candidates that the fewest sources offer, from a place drawn by lot in the window, or the next larger
    one that has any."""
    rare = candidates.rarest(offers, _RARITY_LEVELS)
    if not rare:
        return None
    while not (within := rare & rare.span(rare.count, window)):
        window = range(window.start, min(rare.count, window.stop + len(window)))
    return first_run(within, limit, after=rng.choice(window))


def window_from(missing: ChunkMap, chunks_at_once: int) -> range:
    """Where to look for a run by lot: wide enough for nodes that start together to fetch different chunks, so that they have
    something to give each other, but not far behind the first missing chunk: the blob's own hash is computed in order, and
    what is far ahead of it must be read again. `chunks_at_once`: what all nodes ask for at a time."""
    start = next(iter(missing), 0)
    return range(start, min(missing.count, start + max(_WINDOW_CHUNKS_MIN, _WINDOW_ORDERS * chunks_at_once)))


def peer_order_limit(chunks: int, sources: int) -> int:
    """Chunks per order to a peer: several, to save round trips; few, where a small blob is shared by many sources."""
    return max(1, min(run_length(chunks), 4, chunks // max(1, 4 * sources)))
