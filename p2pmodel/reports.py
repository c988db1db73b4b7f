"""What the daemon tells of itself: the JSON behind `p2pmodel status`, `peers` and `list`, and behind the status page.

Private repos are left out: whoever may read this endpoint may not therefore know their names.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from p2pmodel import __version__
from p2pmodel.content import NodeId, Snapshot
from p2pmodel.delivery import Delivery
from p2pmodel.peering import Peering
from p2pmodel.settings import Settings
from p2pmodel.store import Store

Report = dict[str, object]


class Reports:
    """Built by the daemon; each verb is one page of the API."""

    def __init__(self, settings: Settings, node: NodeId, *, store: Store, delivery: Delivery, peering: Peering | None) -> None:
        self._settings = settings
        self._node = node
        self._store = store
        self._delivery = delivery
        self._peering = peering
        self.gateway = ""  # as bound
        self.peering_port = 0

    def pages(self) -> dict[str, Callable[[], object]]:
        return {"status": self.status, "peers": self.peers, "snapshots": self.snapshots}

    def status(self) -> Report:
        """`/-/api/status`"""
        settings, held = self._settings, self._store.statistics
        return {
            "node_id": self._node,
            "name": settings.node.name or socket.gethostname(),
            "version": __version__,
            "state_dir": str(settings.node.state_dir),
            "mode": settings.cluster.mode,
            "offline": settings.node.offline,
            "gateway": self.gateway,
            "peering": f"{settings.peering.listen.host}:{self.peering_port}",
            "peers": len(self._peering.linked()) if self._peering else 0,
            "store": {"bytes": held.bytes_sealed + held.bytes_partial, "quota": settings.store.quota},
            **self._delivery.status(),
        }

    def peers(self) -> Report:
        """`/-/api/peers`: the linked ones."""
        reports = self._peering.peers() if self._peering else []
        return {
            "peers": [
                {
                    "node_id": peer.node,
                    "address": peer.address,
                    "linked_for_s": peer.linked_for_s,
                    "rtt_s": peer.rtt_s,
                    "received": peer.bytes_in,
                    "sent": peer.bytes_out,
                    "blobs": peer.blobs,
                    "resting": peer.node is not None and self._delivery.rests(peer.node),
                }
                for peer in reports
                if peer.state == "linked"
            ]
        }

    def snapshots(self) -> Report:
        """`/-/api/snapshots`: what is held here, whole or in part."""
        held = [snapshot for repo, commit in self._store.snapshots() if (snapshot := self._store.snapshot(repo, commit))]
        return {"snapshots": [self._snapshot(snapshot) for snapshot in held if snapshot.public]}

    def _snapshot(self, snapshot: Snapshot) -> Report:
        here = [entry for entry in snapshot.files if entry.blob and (state := self._store.find(entry.blob.id)) and state.sealed]
        return {
            "hub": snapshot.repo.hub,
            "type": snapshot.repo.kind,
            "repo": snapshot.repo.name,
            "commit": snapshot.commit,
            "revisions": self._store.revisions(snapshot.repo, snapshot.commit),
            "files": len(snapshot.files),
            "files_here": len(here),
            "bytes": snapshot.size,
            "bytes_here": sum(entry.size for entry in here),
        }
