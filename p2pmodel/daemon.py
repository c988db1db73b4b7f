"""The house: the only place that knows every room. Builds them bottom up, runs them, takes leave in order.

Leaving is the shutdown: withdraw from discovery → take no more clients and links → drain within the grace deadline →
cancel → close the store. An unexpected exception ends the house; systemd starts it again.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import structlog
import trio

from p2pmodel import admin, belonging, config
from p2pmodel.admin import AdminDoor, Dial, LiveLimits, Verbs
from p2pmodel.announcing import Announcing
from p2pmodel.content import Hub, NodeId, Repo, RepoKind
from p2pmodel.delivery import Buffers, Delivery
from p2pmodel.delivery.adopting import Adopting
from p2pmodel.delivery.blocking import in_thread
from p2pmodel.delivery.pace import Pace
from p2pmodel.delivery.ports import Surroundings
from p2pmodel.delivery.recorder import Recorder
from p2pmodel.delivery.upkeep import Upkeep
from p2pmodel.entrance import Entrance
from p2pmodel.errors import StoreError
from p2pmodel.gateway import Gateway, TlsDoor
from p2pmodel.limits import DISCOVER_S, GRACE_S, HUB_PLAIN_BYTES_MAX
from p2pmodel.metrics import Metrics, Sources
from p2pmodel.peering import Alone, LiveMembership, Memberships, Peering, PeeringStatistics, TcpNetwork, TlsSecure
from p2pmodel.quiet import QuietThread
from p2pmodel.reports import Reports
from p2pmodel.settings import AliasSettings, HostPort, Settings, UpstreamSettings
from p2pmodel.store import FlightFiles, Store
from p2pmodel.swarm import Standing
from p2pmodel.upstream import Router, Upstream

logger = structlog.get_logger()

_XET_ABOVE: Final = {"large": HUB_PLAIN_BYTES_MAX, "all": 0, "off": None}  # gateway.xet


@dataclass(frozen=True, slots=True)
class Running:
    """A daemon that is up: what `daemon.json` says, and what may be changed of it."""

    node_id: NodeId
    gateway: HostPort
    peering: int
    limits: LiveLimits
    gateway_tls: HostPort | None = None
    ca_bundle: Path | None = None


@asynccontextmanager
async def house(settings: Settings, *, patience_s: float = 0.0) -> AsyncIterator[Running]:
    """A whole daemon, up when the context is entered, gone when it is left. `patience_s`: wait so long for a first peer."""
    store = await trio.to_thread.run_sync(
        lambda: Store(
            settings.node.state_dir,
            fsync=settings.store.fsync,
            quota_bytes=settings.store.quota,
            min_free_bytes=settings.store.min_free,
        )
    )
    try:
        entrance = await trio.to_thread.run_sync(Entrance.open, settings)
        rooms = _Rooms(settings, store, own_ports=entrance.ports)
        async with rooms.router, rooms.recorder, trio.open_nursery() as nursery:
            try:
                running = await rooms.start(nursery, entrance)
                with _announced(settings.node.state_dir, running):
                    await rooms.first_peer(patience_s)
                    yield running
                    await rooms.leave()
            finally:
                nursery.cancel_scope.cancel()
    finally:
        store.close()


class _Rooms:
    """The rooms of one daemon, wired. Constructing it opens nothing but the store that it is given."""

    def __init__(self, settings: Settings, store: Store, own_ports: set[int]) -> None:
        self._settings = settings
        self._store = store
        self._dice = random.SystemRandom()
        self._boot = secrets.token_bytes(8)
        self._trust = Standing()
        self._upload = Pace(settings.limits.peer_upload)
        self._download = Pace(settings.limits.peer_download)
        self._hub_pace = Pace(settings.limits.upstream)
        self._quiet = QuietThread()
        self._gateway_closed = trio.Event()
        self._leaving = False

        self._identity, self._membership = belonging.who_we_are(settings)
        self._peering = self._build_peering(self._membership) if self._membership else None
        self._announcing = self._build_announcing()
        self.router = self._build_router(own_ports)
        self.recorder = Recorder(FlightFiles(settings.node.state_dir / "flights"), blocking=in_thread, clock=time.time)
        self._delivery = self._build_delivery()
        self._adopting, self._upkeep = self._build_adopting(), self._build_upkeep()
        self._reports = self._build_reports()
        self._gateway = self._build_gateway()
        self._limits = self._build_limits()
        self._metrics = Metrics(self._sources())

    # The rooms, bottom up

    def _build_peering(self, membership: LiveMembership) -> Peering:
        settings = self._settings
        self._secure = TlsSecure(membership.now.current)
        self._secure.renew(membership.now)
        return Peering(
            settings.peering,
            node=self._identity.node,
            boot=self._boot,
            closed=membership.now.current.keeps_strangers_out,
            network=TcpNetwork(),
            secure=self._secure,
            inventory=self._store.inventory,
            blocking=in_thread,
            dice=self._dice,
            state_dir=settings.node.state_dir,
            upload=self._upload,
            discovery_s=DISCOVER_S if settings.discovery.mdns else 0.0,
            abilities=belonging.abilities(membership, settings),
            judge=belonging.judge(membership),
        )

    def _build_announcing(self) -> Announcing | None:
        if self._peering is None or self._membership is None or not self._settings.discovery.mdns:
            return None
        return Announcing(
            self._settings, self._store, self._peering, self._membership, node=self._identity.node, boot=self._boot
        )

    def _build_router(self, own_ports: set[int]) -> Router:
        settings = self._settings
        return Router(
            [_upstream(each) for each in settings.upstreams],
            rng=self._dice,
            offline=settings.node.offline,
            aliases=[_alias(each) for each in settings.aliases],
            connections=settings.limits.upstream_connections,
            environment=os.environ,
            own_ports=own_ports,
            on_busy=self._hub_busy,
        )

    def _build_delivery(self) -> Delivery:
        settings, node = self._settings, self._identity.node
        around = Surroundings(
            store=self._store,
            upstreams=self.router,
            neighbours=self._peering or Alone(node),
            blocking=in_thread,
            buffers=Buffers(),
            standing=self._trust,
            rng=self._dice,
            key=self._identity.key,
            closed=self._membership is not None and self._membership.now.current.keeps_strangers_out,
            sharing=belonging.sharing(node, self._membership, settings),
            circle=belonging.Circles(self._membership).now,
            vouchers=settings.gateway.vouchers,
            recorder=self.recorder,
            wall=time.time,
            peer_pace=self._download,
            hub_pace=self._hub_pace,
        )
        access = settings.access
        return Delivery(around, boot=self._boot, access_allow_s=access.cache, offline_grace_s=access.offline_grace)

    def _build_adopting(self) -> Adopting:
        return Adopting(
            self._delivery,
            self._store,
            self._store,
            key=self._identity.key,
            quiet=self._quiet.run,
            publications=self._delivery.publications,
        )

    def _build_upkeep(self) -> Upkeep:
        return Upkeep(
            self._delivery,
            self._store,
            blocking=in_thread,
            quiet=self._quiet.run,
            publications=self._delivery.publications,
            clock=time.time,
        )

    def _build_reports(self) -> Reports:
        return Reports(
            self._settings,
            self._identity.node,
            store=self._store,
            delivery=self._delivery,
            peering=self._peering,
            membership=self._membership,
            recorder=self.recorder,
        )

    def _build_gateway(self) -> Gateway:
        settings = self._settings.gateway
        return Gateway(
            self._delivery,
            self.router,
            ready=self._why_not_ready,
            render_metrics=self._render_metrics,
            report={**self._reports.pages(), "limits": self._tell_limits},
            allowed_hosts=settings.allowed_hosts,
            token=config.read_secret(settings.token_file) if settings.token_file else None,
            serve_anyone=settings.serve_anyone,
            clients_max=self._settings.limits.clients,
            xet_above=_XET_ABOVE[settings.xet],
            seal_key=self._identity.secret(b"p2pmodel gateway seals v1"),
        )

    def _build_limits(self) -> LiveLimits:
        dials = {
            "peer_upload": Dial(self._upload.change, lambda: self._upload.flow),
            "peer_download": Dial(self._download.change, lambda: self._download.flow),
            "upstream": Dial(self._hub_pace.change, lambda: self._hub_pace.flow),
            "upstream_connections": Dial(self.router.resize, lambda: self.router.connections),
            "clients": Dial(self._gateway.resize, lambda: self._gateway.statistics.clients),
        }
        return LiveLimits(self._settings.limits, dials)

    def _sources(self) -> Sources:
        peering, held = self._peering, self._store.statistics
        return Sources(
            arrivals=self._delivery.downloads.statistics,
            gateway=self._gateway.statistics,
            peering=peering.statistics if peering else PeeringStatistics(),
            upstream=self.router.statistics,
            peers=peering.peers_by_state if peering else dict,
            downloads=lambda: len(self._delivery.downloads.active),
            bans=lambda: self._trust.banned,
            damaged=lambda: held.chunks_damaged,
            store_bytes=lambda: {"sealed": held.bytes_sealed, "partial": held.bytes_partial},
            store_quota_bytes=self._settings.store.quota,
        )

    # What one room asks of another that is built after it

    def _hub_busy(self, host: str, seconds: float) -> None:
        self._delivery.hub_busy(host, seconds)

    def _render_metrics(self) -> bytes:
        return self._metrics.render()

    async def _tell_limits(self, _asked: object) -> object:
        """`/-/api/limits`"""
        return {"limits": self._limits.tell()}

    # Life

    async def start(self, nursery: trio.Nursery, entrance: Entrance) -> Running:
        nursery.start_soon(self.recorder.run)
        await nursery.start(self._delivery.run)
        port = 0
        if self._peering is not None and self._membership is not None:
            port = await nursery.start(self._peering.run, self._delivery.seeding)
            nursery.start_soon(self._membership.run, partial(self._renew, self._peering))
        if self._announcing is not None:
            nursery.start_soon(self._announcing.run)
        owners = await trio.to_thread.run_sync(admin.bind, self._settings.node.state_dir / "run")
        verbs = Verbs(
            limits=self._limits,
            adopting=self._adopting,
            upkeep=self._upkeep,
            forgive=self._delivery.forgive,
            report=self._reports.owners_pages(),
        )
        await nursery.start(self._adopting.run)
        await nursery.start(AdminDoor(verbs.table()).serve, owners)
        await nursery.start(self._serve_clients, entrance)
        gateway, gateway_tls = entrance.addresses(self._settings)
        self._reports.gateway, self._reports.peering_port = f"http://{gateway}", port
        bundle = entrance.certificate.bundle if entrance.certificate else None
        return Running(self._identity.node, gateway, port, self._limits, gateway_tls, bundle)

    async def first_peer(self, patience_s: float) -> None:
        """A daemon that lives for one command only should not ask the hub for what the next room has, if it may hear of one."""
        if self._peering is not None and (self._announcing is not None or self._peering.peers()):
            with trio.move_on_after(patience_s):
                await self._delivery.seeding.first_link.wait()

    async def leave(self) -> None:
        """Take leave in order; whoever is still being served then has GRACE_S."""
        self._leaving = True
        if self._announcing is not None:
            self._announcing.leave()
        if self._peering is not None:
            self._peering.close_doors()
        self._gateway.drain()
        with trio.move_on_after(GRACE_S):
            await self._gateway_closed.wait()

    async def _why_not_ready(self) -> str | None:
        """What `/readyz` says: whether a model may be asked of us that is not here yet."""
        if self._leaving:
            return "The daemon is stopping."
        try:
            await in_thread(self._store.check_room, 0, ())
        except StoreError as error:
            return str(error)
        return None

    async def _serve_clients(self, entrance: Entrance, task_status: trio.TaskStatus[None]) -> None:
        tls = TlsDoor(entrance.secured, entrance.certificate.context) if entrance.certificate else None
        try:
            await self._gateway.serve(entrance.plain, tls=tls, task_status=task_status)
        finally:
            self._gateway_closed.set()

    def _renew(self, peering: Peering, memberships: Memberships) -> None:
        """Looked at every few seconds: keys change, certificates run out, nodes are denied."""
        if memberships is not self._secure.memberships:
            self._secure.renew(memberships)
        peering.cut_untrusted(self._secure.trusts)


@contextmanager
def _announced(state_dir: Path, running: Running) -> Iterator[None]:
    """`daemon.json`, by which commands on this machine find us, for as long as we run."""
    folder = state_dir / "run"
    folder.mkdir(mode=0o755, exist_ok=True)
    file = folder / "daemon.json"
    content = {"pid": os.getpid(), "node_id": running.node_id, "gateway": str(running.gateway), "peering": running.peering}
    if running.gateway_tls:
        content |= {"gateway_tls": str(running.gateway_tls), "ca_bundle": str(running.ca_bundle)}
    fresh = folder / f".daemon.json.{os.getpid()}"
    try:
        fresh.write_text(json.dumps(content))
        fresh.replace(file)
    except OSError as error:  # a full device: what is held is served all the same, only commands do not find us
        fresh.unlink(missing_ok=True)
        logger.warning("unannounced", file=str(file), why=error.strerror, next_step="Free some space, and restart.")
        yield
        return
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _upstream(settings: UpstreamSettings) -> Upstream:
    return Upstream(
        name=settings.name,
        hub=settings.hub,
        endpoint=settings.endpoint,
        priority=settings.priority,
        token=config.token_of(settings),
        ca_file=settings.ca_file,
        trusted=settings.trusted,
    )


def _alias(settings: AliasSettings) -> tuple[Repo, Repo]:
    kind = RepoKind(settings.type)
    return Repo(Hub.HUGGINGFACE, kind, settings.huggingface), Repo(Hub.MODELSCOPE, kind, settings.modelscope)
