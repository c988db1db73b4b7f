"""What the daemon tells of itself: the JSON behind `p2pmodel status`, `peers` and `list`, and behind the status page.

Private repos are left out: whoever may read this endpoint may not therefore know their names. The node's owner, to whom the
disk belongs on which they lie, is told of them as well, over the admin socket and nowhere else.
"""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Awaitable, Callable, Container, Mapping
from functools import partial
from math import inf
from typing import Final

import trio

from p2pmodel import __version__
from p2pmodel.content import Blob, FileEntry, Hub, NodeId, Repo, RepoKind, Snapshot, chunk_count, commit_of
from p2pmodel.delivery import Delivery
from p2pmodel.delivery.recorder import FlightRecord, Recorder
from p2pmodel.delivery.why import tell_file, tell_totals
from p2pmodel.errors import ConfigError, EntryNotFoundError, RepoNotFoundError
from p2pmodel.peering import LiveMembership, Peering
from p2pmodel.settings import GatewaySettings, Settings
from p2pmodel.store import Store
from p2pmodel.swarm import Ban
from p2pmodel.wire.packed import SEALED

Report = dict[str, object]
Asked = Mapping[str, str]

_MAIN_BRANCH: Final = {Hub.HUGGINGFACE: "main", Hub.MODELSCOPE: "master"}


class Reports:
    """Built by the daemon; each verb is one page of the API."""

    def __init__(
        self,
        settings: Settings,
        node: NodeId,
        *,
        store: Store,
        delivery: Delivery,
        peering: Peering | None,
        membership: LiveMembership | None,
        recorder: Recorder,
    ) -> None:
        self._settings = settings
        self._node = node
        self._store = store
        self._delivery = delivery
        self._peering = peering
        self._membership = membership
        self._recorder = recorder
        self.gateway = ""  # as bound
        self.peering_port = 0

    def pages(self) -> dict[str, Callable[[Asked], Awaitable[object]]]:
        return {"status": self.status, "peers": self.peers, "snapshots": self.snapshots, "why": self.why, "info": self.info}

    def owners_pages(self) -> dict[str, Callable[[Asked], Awaitable[object]]]:
        """Of the same names, with what is private."""
        return {"snapshots": partial(self.snapshots, to_owner=True), "info": partial(self.info, to_owner=True)}

    async def status(self, _asked: Asked) -> Report:
        """`/-/api/status`"""
        settings, held = self._settings, self._store.statistics
        return {
            "node_id": self._node,
            "name": settings.node.name or socket.gethostname(),
            "version": __version__,
            "state_dir": str(settings.node.state_dir),
            "mode": settings.cluster.mode,
            **self._belonging(),
            "offline": settings.node.offline,
            "gateway": self.gateway,
            "clients": _clients(settings.gateway),
            "peering": f"{settings.peering.listen.host}:{self.peering_port}",
            "peers": len(self._peering.linked()) if self._peering else 0,
            "banned": len(self._delivery.bans()),
            "other_versions": self._peering.other_versions.hosts if self._peering else [],
            "vouchers": settings.gateway.vouchers,
            "store": {"bytes": held.bytes_sealed + held.bytes_partial, "quota": settings.store.quota},
            **self._delivery.status(),
        }

    def _belonging(self) -> Report:
        """What is shared, how long our own certificate and a former key still hold (Unix time), how many are denied."""
        if self._membership is None:
            return {"private_sharing": "off"}
        now = self._membership.now
        return {
            "private_sharing": self._settings.cluster.private_sharing if now.current.keeps_strangers_out else "off",
            "former_key_until": now.former_until if now.former else None,
            "certificate_until": now.current.certificate.not_valid_after_utc.timestamp() if now.current.issued else None,
            "denied": len(now.denied.serials),
            "denied_itself": now.current.certificate.serial_number in now.denied.serials,
        }

    async def peers(self, _asked: Asked) -> Report:
        """`/-/api/peers`: the linked ones, and whom this node has banned."""
        reports = self._peering.peers() if self._peering else []
        bans = {ban.source: ban for ban in self._delivery.bans()}
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
                    "banned": bans[peer.node].why if peer.node in bans else None,
                }
                for peer in reports
                if peer.state == "linked"
            ],
            "bans": [_ban(ban) for ban in bans.values()],
        }

    async def snapshots(self, _asked: Asked, *, to_owner: bool = False) -> Report:
        """`/-/api/snapshots`: what is held here, whole or in part; `all` says whether private repos are among them."""
        held = [snapshot for repo, commit in self._store.snapshots() if (snapshot := self._store.snapshot(repo, commit))]
        pins = set(self._store.pins())
        return {
            "all": to_owner,
            "snapshots": [
                self._snapshot(snapshot, pins) | {"peers": len(self._at_peers(snapshot))}
                for snapshot in held
                if snapshot.public or to_owner
            ],
        }

    def _snapshot(self, snapshot: Snapshot, pins: Container[tuple[Repo, str]]) -> Report:
        states = [(entry, self._store.find(entry.blob.id)) for entry in snapshot.files if entry.blob]
        here = [entry for entry, state in states if state and state.sealed]
        return {
            "hub": snapshot.repo.hub,
            "type": snapshot.repo.kind,
            "repo": snapshot.repo.name,
            "commit": snapshot.commit,
            "private": not snapshot.public,
            "revisions": self._store.revisions(snapshot.repo, snapshot.commit),
            "files": len(snapshot.files),
            "files_here": len(here),
            "bytes": snapshot.size,
            "bytes_here": sum(entry.size for entry in here),
            "pinned": (snapshot.repo, snapshot.commit) in pins,
            "used": max((self._store.used(state.blob.id) or 0 for _, state in states if state), default=0),
        }

    async def info(self, asked: Asked, *, to_owner: bool = False) -> Report:
        """`/-/api/info?repo=…` (also hub, type, revision): what is held of a repo, here and at peers."""
        repo, revision = _repo_of(asked), asked.get("revision", "")
        commits = [commit for known, commit in self._store.snapshots() if known == repo]
        wanted = self._store.ref(repo, revision) or commit_of(revision, commits)
        snapshots = (self._store.snapshot(repo, commit) for commit in commits if wanted in {"", commit})
        found = [snapshot for snapshot in snapshots if snapshot and (snapshot.public or to_owner)]
        if not found:
            what = "Nothing" if to_owner else "Nothing public"
            raise RepoNotFoundError(f"{what} of {repo} is known here.", next_step="`p2pmodel list` shows what is.")
        pins = set(self._store.pins())
        return {
            "hub": repo.hub,
            "type": repo.kind,
            "repo": repo.name,
            "vouchers": self._settings.gateway.vouchers,
            "snapshots": [self._info(snapshot, pins) for snapshot in found],
        }

    def _info(self, snapshot: Snapshot, pins: Container[tuple[Repo, str]]) -> Report:
        entries = []
        for entry in snapshot.files:
            state = self._store.find(entry.blob.id) if entry.blob else None
            entries.append(
                {
                    "path": entry.path,
                    "bytes": entry.size,
                    "blob": str(entry.blob.id) if entry.blob else None,
                    "chunks": chunk_count(entry.size),
                    "chunks_here": state.held if state and not (state.private and snapshot.public) else 0,
                    "holders": len(self._holders(entry)),
                }
            )
        told = [
            {
                "node_id": peer,
                "address": self._peering.address(peer) if self._peering else "",
                "files": len(sizes),
                "bytes": sum(sizes),
            }
            for peer, sizes in self._at_peers(snapshot).items()
        ]
        return {**self._snapshot(snapshot, pins), "holders": told, "entries": entries}

    def _at_peers(self, snapshot: Snapshot) -> dict[NodeId, list[int]]:
        """By peer the sizes of the files that it holds whole."""
        peers: dict[NodeId, list[int]] = {}
        for entry in snapshot.files if self._peering and self._peering.linked() else ():
            for peer in self._holders(entry):
                peers.setdefault(peer, []).append(entry.size)
        return peers

    def _holders(self, entry: FileEntry) -> set[NodeId]:
        """Peers that hold the whole file, by either of its names."""
        if self._peering is None or entry.blob is None:
            return set()
        state = self._store.find(entry.blob.id)
        names = {entry.blob.id, state.blob.id} if state else {entry.blob.id}
        return {peer for name in names for peer, state in self._peering.holders(name).items() if state == SEALED}

    async def why(self, asked: Asked) -> Report:
        """`/-/api/why?repo=…&file=…` (also hub, type, revision): where each run of chunks came from, why a hub was asked."""
        snapshot = self._asked_for(asked)
        files = [(entry, entry.blob) for entry in snapshot.files if entry.blob and asked.get("file", "") in {"", entry.path}]
        if not files:
            raise EntryNotFoundError(f"{snapshot.repo} has no file {asked.get('file')!r}.", commit=snapshot.commit)
        held = {blob.id: (state.blob.id if (state := self._store.find(blob.id)) else blob.id) for _, blob in files}
        by_blob = defaultdict[str, list[FlightRecord]](list)
        for flight in await self._recorder.flights({*held, *held.values()}):
            by_blob[flight.blob].append(flight)
        names = {blob.id: {str(blob.id), str(held[blob.id])} for _, blob in files}  # a small file has two
        told = {blob: [flight for name in both for flight in by_blob[name]] for blob, both in names.items()}
        return {
            "hub": snapshot.repo.hub,
            "type": snapshot.repo.kind,
            "repo": snapshot.repo.name,
            "commit": snapshot.commit,
            "files": [self._why_file(entry, blob, told[blob.id]) for entry, blob in files],
            **tell_totals([flight for flights in told.values() for flight in flights]),
        }

    def _why_file(self, entry: FileEntry, blob: Blob, flights: list[FlightRecord]) -> Report:
        state = self._store.find(blob.id)
        return {
            "path": entry.path,
            "blob": str(blob.id),
            "bytes": blob.size,
            "chunks": chunk_count(blob.size),
            "chunks_here": state.held if state and not state.private else 0,
            **tell_file(flights),
        }

    def _asked_for(self, asked: Asked) -> Snapshot:
        """The snapshot that a query names, if it may be told of."""
        repo = _repo_of(asked)
        revision = asked.get("revision") or _MAIN_BRANCH[repo.hub]
        commits = [commit for known, commit in self._store.snapshots() if known == repo]
        newest = commits[-1] if commits and not asked.get("revision") else commit_of(revision, commits)
        commit = self._store.ref(repo, revision) or newest
        snapshot = self._store.snapshot(repo, commit)
        if snapshot is None or not snapshot.public:
            raise RepoNotFoundError(
                f"No public snapshot of {repo} at {revision} is known here.", next_step="`p2pmodel list` shows those that are."
            )
        return snapshot


def _clients(gateway: GatewaySettings) -> str:
    """Whom the gateway serves."""
    if gateway.token_file is not None:
        return "token"
    return "anyone" if gateway.serve_anyone else "here"


def _ban(ban: Ban) -> Report:
    for_good = ban.until == inf
    ends_in_s = None if for_good else ban.until - trio.current_time()
    return {"node_id": ban.source, "why": ban.why, "for_good": for_good, "ends_in_s": ends_in_s}


def _repo_of(asked: Asked) -> Repo:
    try:
        hub = Hub(asked.get("hub") or Hub.HUGGINGFACE)
        return Repo(hub, RepoKind(asked.get("type") or RepoKind.MODEL), asked.get("repo", ""))
    except ValueError as error:
        raise ConfigError(f"{error}.") from None
