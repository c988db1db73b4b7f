"""The listings that were asked for last, decoded: a client asks for each file of a snapshot by itself, and taking a listing
of 20,000 files out of the index costs 0.1 s."""

from __future__ import annotations

import threading
from collections import OrderedDict

from p2pmodel.content import Repo, Snapshot
from p2pmodel.limits import SNAPSHOT_FILES_DECODED_MAX


class RecentSnapshots:
    """At least the last one, and as many as have SNAPSHOT_FILES_DECODED_MAX files together. Safe to use from many threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Repo, str], Snapshot] = OrderedDict()  # last used last
        self._files = 0
        self._lock = threading.Lock()

    def find(self, repo: Repo, commit: str) -> Snapshot | None:
        with self._lock:
            snapshot = self._kept.get((repo, commit))
            if snapshot is not None:
                self._kept.move_to_end((repo, commit))
            return snapshot

    def forget(self, repo: Repo, commit: str) -> None:
        with self._lock:
            if (old := self._kept.pop((repo, commit), None)) is not None:
                self._files -= len(old.files)

    def keep(self, snapshot: Snapshot) -> None:
        """In place of what was known of it before."""
        key = snapshot.repo, snapshot.commit
        with self._lock:
            if (old := self._kept.pop(key, None)) is not None:
                self._files -= len(old.files)
            self._kept[key] = snapshot
            self._files += len(snapshot.files)
            while self._files > SNAPSHOT_FILES_DECODED_MAX and len(self._kept) > 1:
                self._files -= len(self._kept.popitem(last=False)[1].files)
