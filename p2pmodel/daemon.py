"""The house: the only place that knows every room. Builds them bottom up, runs them, takes leave in order.

Leaving is the shutdown: withdraw from discovery → take no more clients and links → drain within the grace deadline →
cancel → close the store. An unexpected exception ends the house; systemd starts it again.
"""

from __future__ import annotations

import json
import os
import random
import resource
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import structlog
import trio

from p2pmodel import __version__, admin, belonging, config, log, sd
from p2pmodel.admin import AdminDoor, Dial, LiveLimits, Verbs
from p2pmodel.content import Hub, NodeId, Repo, RepoKind
from p2pmodel.content.blob_filter import BlobFilter
from p2pmodel.delivery import Buffers, Delivery
from p2pmodel.delivery.adopting import Adopting
from p2pmodel.delivery.pace import Pace
from p2pmodel.delivery.ports import Neighbours, Surroundings
from p2pmodel.delivery.recorder import Recorder
from p2pmodel.delivery.upkeep import Upkeep
from p2pmodel.discovery import Announcement, Mdns
from p2pmodel.errors import ConfigError, P2pmodelError, first_error
from p2pmodel.gateway import Certificate, Gateway, TlsDoor, bind, load_certificate
from p2pmodel.limits import ANNOUNCE_GAP_MIN_S, DESCRIPTORS_MAX, DISCOVER_S, GRACE_S, HUB_PLAIN_BYTES_MAX
from p2pmodel.metrics import Metrics, Sources
from p2pmodel.peering import Alone, LiveMembership, Memberships, Peering, PeeringStatistics, TcpNetwork, TlsSecure
from p2pmodel.quiet import QuietThread
from p2pmodel.reports import Reports
from p2pmodel.settings import AliasSettings, GatewaySettings, HostPort, Settings, UpstreamSettings
from p2pmodel.store import FlightFiles, Store
from p2pmodel.swarm import Standing
from p2pmodel.upstream import Router, Upstream

T = TypeVar("T")
logger = structlog.get_logger()

_SOCKET_NAME: Final = "gateway"  # FileDescriptorName= in systemd/p2pmodel.socket
_TLS_SOCKET_NAME: Final = "gateway-tls"
_XET_ABOVE: Final = {"large": HUB_PLAIN_BYTES_MAX, "all": 0, "off": None}  # gateway.xet


def serve(settings: Settings) -> None:
    """Run a daemon until SIGTERM or SIGINT. Raises P2pmodelError for what the operator must mend."""
    log.configure(settings.log.level, settings.log.format)
    _allow_descriptors()
    _leave_no_core()
    _run(_serve, settings)


def _allow_descriptors() -> None:
    """Links, their data connections, clients and open blobs together outgrow the 1,024 that a shell gives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(DESCRIPTORS_MAX, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _leave_no_core() -> None:
    """Clients' tokens are in memory: no crash may put them on a disk."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run_for(settings: Settings, job: Callable[[Running], T]) -> T:
    """Be a daemon for as long as `job` takes (in a thread of its own) and return what it returns."""
    log.configure("warning", settings.log.format)
    answer: T = _run(_run_job, settings, job)
    return answer


def _run(main: Callable[..., Awaitable[T]], *args: object) -> T:
    try:
        answer: T = trio.run(main, *args)
    except BaseExceptionGroup as group:
        known, unknown = group.split(P2pmodelError)
        if known is None or unknown is not None:
            raise
        raise first_error(known) from None
    return answer


@dataclass(frozen=True, slots=True)
class Running:
    """A daemon that is up: what `daemon.json` says, and what may be changed of it."""

    node_id: NodeId
    gateway: HostPort
    peering: int
    limits: LiveLimits
    gateway_tls: HostPort | None = None
    ca_bundle: Path | None = None


async def _serve(settings: Settings) -> None:
    async with house(settings) as running, trio.open_nursery() as nursery:  # so that the house leaves uncancelled
        nursery.start_soon(_watchdog)
        sd.notify(f"READY=1\nSTATUS=Serving {running.gateway}, peers on port {running.peering}")
        doors = {"gateway": str(running.gateway)} | ({"gateway_tls": str(running.gateway_tls)} if running.gateway_tls else {})
        logger.info("ready", node=running.node_id, **doors, peering=running.peering, version=__version__)
        await _told_to_stop(settings, running.limits)
        sd.notify("STOPPING=1")
        nursery.cancel_scope.cancel()


async def _run_job(settings: Settings, job: Callable[[Running], T]) -> T:
    async with house(settings, patience_s=DISCOVER_S) as running:
        return await trio.to_thread.run_sync(job, running, abandon_on_cancel=True)


async def _told_to_stop(settings: Settings, limits: LiveLimits) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for number in signals:
            if number != signal.SIGHUP:
                logger.info("stopping", signal=signal.Signals(number).name)
                return
            await _reload(settings, limits)


async def _reload(settings: Settings, limits: LiveLimits) -> None:
    """Limits are taken from the settings as they stand now; of the others it is said that they wait."""
    if settings.reread is None:
        return
    try:
        fresh = await trio.to_thread.run_sync(settings.reread)
    except ConfigError as error:
        logger.warning("not_reloaded", why=str(error), next_step=error.next_step)
        return
    limits.follow(fresh.limits)
    waiting = [key for key in config.changed(settings, fresh) if not key.startswith("limits.")]
    logger.info("reloaded", needs_a_restart=waiting)


async def _watchdog() -> None:
    """The event loop is alive as long as it comes round here."""
    interval_s = sd.watchdog_interval_s()
    while interval_s is not None:
        sd.notify("WATCHDOG=1")
        await trio.sleep(interval_s)


@asynccontextmanager
async def house(settings: Settings, *, patience_s: float = 0.0) -> AsyncIterator[Running]:
    """A whole daemon, up when the context is entered, gone when it is left. `patience_s`: wait so long for a first peer."""
    config.check_possible(settings)
    store = await trio.to_thread.run_sync(
        lambda: Store(
            settings.node.state_dir,
            fsync=settings.store.fsync,
            quota_bytes=settings.store.quota,
            min_free_bytes=settings.store.min_free,
        )
    )
    try:
        doors = await trio.to_thread.run_sync(_Doors.open, settings)
        rooms = _Rooms(settings, store, own_ports=doors.ports)
        async with rooms.router, rooms.recorder, trio.open_nursery() as nursery:
            try:
                running = await rooms.start(nursery, doors)
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
        self._identity, self._membership = belonging.who_we_are(settings)
        closed = self._membership is not None and self._membership.now.current.keeps_strangers_out
        self._boot = secrets.token_bytes(8)
        self._trust = Standing()
        upload, download = Pace(settings.limits.peer_upload), Pace(settings.limits.peer_download)
        hub_pace = Pace(settings.limits.upstream)
        self._peering: Peering | None = None
        neighbours: Neighbours = Alone(self._identity.node)
        if self._membership is not None:
            self._secure = TlsSecure(self._membership.now.current)
            self._secure.renew(self._membership.now)
            neighbours = self._peering = Peering(
                settings.peering,
                node=self._identity.node,
                boot=self._boot,
                closed=closed,
                network=TcpNetwork(),
                secure=self._secure,
                inventory=store.inventory,
                blocking=_in_thread,
                dice=self._dice,
                state_dir=settings.node.state_dir,
                upload=upload,
                discovery_s=DISCOVER_S if settings.discovery.mdns else 0.0,
                abilities=belonging.abilities(self._membership, settings),
            )
        self.router = Router(
            [_upstream(each) for each in settings.upstreams],
            rng=self._dice,
            offline=settings.node.offline,
            aliases=[_alias(each) for each in settings.aliases],
            connections=settings.limits.upstream_connections,
            environment=os.environ,
            own_ports=own_ports,
            on_busy=self._hub_busy,
        )
        self.recorder = Recorder(FlightFiles(settings.node.state_dir / "flights"), blocking=_in_thread, clock=time.time)
        around = Surroundings(
            store=store,
            upstreams=self.router,
            neighbours=neighbours,
            blocking=_in_thread,
            buffers=Buffers(),
            standing=self._trust,
            rng=self._dice,
            key=self._identity.key,
            closed=closed,
            sharing=belonging.sharing(self._identity.node, self._membership, settings),
            circle=belonging.Circles(self._membership).now,
            vouchers=settings.gateway.vouchers,
            recorder=self.recorder,
            wall=time.time,
            peer_pace=download,
            hub_pace=hub_pace,
        )
        self._delivery = Delivery(
            around, boot=self._boot, access_allow_s=settings.access.cache, offline_grace_s=settings.access.offline_grace
        )
        self._reports = Reports(
            settings,
            self._identity.node,
            store=store,
            delivery=self._delivery,
            peering=self._peering,
            membership=self._membership,
            recorder=self.recorder,
        )
        token_file = settings.gateway.token_file
        self._discovery = trio.CancelScope()
        self._gateway_closed = trio.Event()
        self._gateway = Gateway(
            self._delivery,
            self.router,
            ready=lambda: None,
            render_metrics=self._render_metrics,
            report={**self._reports.pages(), "limits": self._tell_limits},
            allowed_hosts=settings.gateway.allowed_hosts,
            token=config.read_secret(token_file) if token_file else None,
            clients_max=settings.limits.clients,
            xet_above=_XET_ABOVE[settings.gateway.xet],
        )
        self._quiet = QuietThread()
        self._adopting = Adopting(
            self._delivery,
            store,
            store,
            key=self._identity.key,
            quiet=self._quiet.run,
            publications=self._delivery.publications,
        )
        self._upkeep = Upkeep(
            self._delivery,
            store,
            let_go=self._delivery.let_go,
            blocking=_in_thread,
            quiet=self._quiet.run,
            publications=self._delivery.publications,
            clock=time.time,
        )
        self._limits = LiveLimits(
            settings.limits,
            {
                "peer_upload": Dial(upload.change, lambda: upload.flow),
                "peer_download": Dial(download.change, lambda: download.flow),
                "upstream": Dial(hub_pace.change, lambda: hub_pace.flow),
                "upstream_connections": Dial(self.router.resize, lambda: self.router.connections),
                "clients": Dial(self._gateway.resize, lambda: self._gateway.statistics.clients),
            },
        )
        self._metrics = Metrics(self._sources())

    def _render_metrics(self) -> bytes:
        return self._metrics.render()

    async def _tell_limits(self, _asked: object) -> object:
        """`/-/api/limits`"""
        return {"limits": self._limits.tell()}

    def _hub_busy(self, host: str, seconds: float) -> None:
        self._delivery.hub_busy(host, seconds)

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
            store_bytes=lambda: {"sealed": held.bytes_sealed, "partial": held.bytes_partial},
            store_quota_bytes=self._settings.store.quota,
        )

    async def start(self, nursery: trio.Nursery, doors: _Doors) -> Running:
        nursery.start_soon(self.recorder.run)
        await nursery.start(self._delivery.run)
        port = 0
        if self._peering is not None and self._membership is not None:
            port = await nursery.start(self._peering.run, self._delivery.seeding)
            nursery.start_soon(self._membership.run, partial(self._renew, self._peering))
            if self._settings.discovery.mdns:
                nursery.start_soon(self._discover, self._peering, self._membership)
        owners = await trio.to_thread.run_sync(admin.bind, self._settings.node.state_dir / "run")
        verbs = Verbs(limits=self._limits, adopting=self._adopting, upkeep=self._upkeep)
        await nursery.start(self._adopting.run)
        await nursery.start(AdminDoor(verbs.table()).serve, owners)
        await nursery.start(self._serve_clients, doors)
        gateway, gateway_tls = doors.addresses(self._settings)
        self._reports.gateway, self._reports.peering_port = f"http://{gateway}", port
        bundle = doors.certificate.bundle if doors.certificate else None
        return Running(self._identity.node, gateway, port, self._limits, gateway_tls, bundle)

    async def first_peer(self, patience_s: float) -> None:
        """A daemon that lives for one command only should not ask the hub for what the next room has."""
        if self._peering is not None:
            with trio.move_on_after(patience_s):
                await self._delivery.seeding.first_link.wait()

    async def leave(self) -> None:
        """Take leave in order; whoever is still being served then has GRACE_S."""
        self._discovery.cancel()
        if self._peering is not None:
            self._peering.close_doors()
        self._gateway.drain()
        with trio.move_on_after(GRACE_S):
            await self._gateway_closed.wait()

    async def _serve_clients(self, doors: _Doors, task_status: trio.TaskStatus[None]) -> None:
        tls = TlsDoor(doors.secured, doors.certificate.context) if doors.certificate else None
        try:
            await self._gateway.serve(doors.plain, tls=tls, task_status=task_status)
        finally:
            self._gateway_closed.set()

    def _renew(self, peering: Peering, memberships: Memberships) -> None:
        """Looked at every few seconds: keys change, certificates run out, nodes are denied."""
        if memberships is not self._secure.memberships:
            self._secure.renew(memberships)
        peering.cut_untrusted(self._secure.trusts)

    async def _discover(self, peering: Peering, membership: LiveMembership) -> None:
        """Until `leave`: be found by multicast DNS, and hear of others."""
        settings = self._settings
        standing = _Standing(self._store, lambda: membership.now.current.filter_key)

        def announcement() -> Announcement:
            sequence, digest = self._store.inventory()
            return Announcement(
                node=self._identity.node,
                tag=membership.now.current.tag,
                port=settings.peering.advertise.port if settings.peering.advertise else peering.port,
                boot=self._boot,
                sequence=sequence,
                digest=digest,
                filter=standing.filter(sequence),
            )

        mdns = Mdns(
            announcement,
            peering.heard,
            interfaces=settings.discovery.interfaces,
            advertise=settings.peering.advertise.host if settings.peering.advertise else None,
            tags=lambda: membership.tags,
        )
        with self._discovery:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(mdns.run)
                await standing.follow(mdns.changed)


class _Standing:
    """Where the store's inventory stands, as an announcement tells it."""

    def __init__(self, store: Store, filter_key: Callable[[], bytes | None]) -> None:
        self._store = store
        self._filter_key = filter_key
        self._filtered: tuple[tuple[int, bytes], BlobFilter] | None = None

    def filter(self, sequence: int) -> BlobFilter | None:
        """The keyed filter of what is held sealed at this sequence; None without a key that strangers lack."""
        key = self._filter_key()
        if key is None:
            return None
        if self._filtered is None or self._filtered[0] != (sequence, key):
            held = [state.blob.id for state in self._store.blobs() if state.sealed and not state.private]
            self._filtered = (sequence, key), BlobFilter.of(held, key)
        return self._filtered[1]

    async def follow(self, changed: Callable[[], None]) -> None:
        """Call `changed` when the inventory has moved; at most once a second, as nobody may announce faster."""
        last = self._store.inventory()
        while True:
            await trio.sleep(ANNOUNCE_GAP_MIN_S)
            now = self._store.inventory()
            if now != last:
                last = now
                changed()


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
    fresh.write_text(json.dumps(content))
    fresh.replace(file)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


async def _in_thread(function: Callable[..., T], *args: object) -> T:
    return await trio.to_thread.run_sync(function, *args)


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


@dataclass(frozen=True, slots=True)
class _Doors:
    """The sockets that clients connect to: those that systemd holds for us across restarts, else our own."""

    plain: list[socket.socket]
    secured: list[socket.socket]
    certificate: Certificate | None

    @classmethod
    def open(cls, settings: Settings) -> _Doors:
        """Raises ConfigError."""
        gateway, inherited = settings.gateway, sd.listen_fds()
        plain = _inherited(inherited, _SOCKET_NAME, gateway) or bind(*gateway.listen)
        if gateway.tls_listen is None:
            return cls(plain, [], None)
        certificate = load_certificate(settings.node.state_dir / "tls", gateway.allowed_hosts)
        secured = _inherited(inherited, _TLS_SOCKET_NAME, gateway) or bind(*gateway.tls_listen, setting="gateway.tls_listen")
        return cls(plain, secured, certificate)

    @property
    def ports(self) -> set[int]:
        return {sock.getsockname()[1] for sock in (*self.plain, *self.secured)}

    def addresses(self, settings: Settings) -> tuple[HostPort, HostPort | None]:
        """Where the gateway is now, plain and over TLS: the settings' hosts with the ports that were had."""
        plain = settings.gateway.listen._replace(port=self.plain[0].getsockname()[1])
        if settings.gateway.tls_listen is None:
            return plain, None
        return plain, settings.gateway.tls_listen._replace(port=self.secured[0].getsockname()[1])


def _alias(settings: AliasSettings) -> tuple[Repo, Repo]:
    kind = RepoKind(settings.type)
    return Repo(Hub.HUGGINGFACE, kind, settings.huggingface), Repo(Hub.MODELSCOPE, kind, settings.modelscope)


def _inherited(sockets: Mapping[str, list[int]], name: str, gateway: GatewaySettings) -> list[socket.socket]:
    """Raises ConfigError for one that other machines reach: a unit file may say what the config would be refused for."""
    held = [socket.socket(fileno=fd) for fd in sockets.get(name, [])]
    for sock in held:
        config.check_door(HostPort(*sock.getsockname()[:2]), gateway)
    return held
