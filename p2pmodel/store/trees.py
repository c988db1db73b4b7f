"""The cache trees of all hubs: each has one that everybody may read, and one that is this uid's alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from p2pmodel.content import Hub, Repo, Snapshot
from p2pmodel.store.disk import Disk
from p2pmodel.store.layout import Layout
from p2pmodel.store.tree import CacheTree, Leaf


class Trees:
    def __init__(self, layout: Layout, disk: Disk) -> None:
        self._trees = {
            (hub, shelf.private): CacheTree(shelf.tree(hub), shelf.partials, mode=shelf.directory_mode, disk=disk)
            for hub in Hub
            for shelf in layout.shelves()
        }

    def materialise(self, snapshot: Snapshot, revisions: Iterable[str], leaves: Sequence[Leaf], *, private: bool) -> Path:
        """The snapshot's directory. Raises StoreError."""
        return self._trees[snapshot.repo.hub, private].materialise(snapshot.repo, snapshot.commit, revisions, leaves)

    def forget(self, etags: Iterable[str]) -> None:
        """Take the links of a damaged or removed blob away, whichever names it has."""
        names = list(etags)
        for tree in self._trees.values():
            tree.forget(names)

    def remove(self, repo: Repo, commit: str) -> None:
        for hub, private in self._trees:
            if hub is repo.hub:
                self._trees[hub, private].remove(repo, commit)
