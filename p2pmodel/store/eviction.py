"""Which blobs make room when the quota is used up: sealed, unpinned, not in use; the longest unused first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from p2pmodel.content import Blob


@dataclass(frozen=True, slots=True)
class Idle:
    blob: Blob
    used: int  # unix seconds


def victims(candidates: Iterable[Idle], needed: int) -> list[Blob]:
    """Enough of them for `needed` bytes, or none at all: a file that does not fit anyway shall not cost the others."""
    chosen: list[Blob] = []
    for candidate in sorted(candidates, key=lambda candidate: (candidate.used, candidate.blob)):
        if needed <= 0:
            break
        chosen.append(candidate.blob)
        needed -= candidate.blob.size
    return chosen if needed <= 0 else []
