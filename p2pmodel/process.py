"""A daemon as a process: what it asks of the kernel, the signals that it heeds, and what it tells systemd."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
import trio

from p2pmodel import __version__, config, log, sd
from p2pmodel.admin import LiveLimits
from p2pmodel.daemon import Running, house
from p2pmodel.errors import ConfigError, P2pmodelError, first_error
from p2pmodel.limits import DESCRIPTORS_MAX, DISCOVER_S
from p2pmodel.settings import Settings

T = TypeVar("T")
logger = structlog.get_logger()


def serve(settings: Settings) -> None:
    """Run a daemon until SIGTERM or SIGINT. Raises P2pmodelError for what the operator must mend."""
    log.configure(settings.log.level, settings.log.format)
    _keep_numpy_small()
    _allow_descriptors()
    _leave_no_core()
    _run(_serve, settings)


def _keep_numpy_small() -> None:
    """Its linear algebra, of which we need nothing, would start a thread for each processor when it is loaded."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


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
    _keep_numpy_small()
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


async def _serve(settings: Settings) -> None:
    async with house(settings) as running, trio.open_nursery() as nursery:  # so that the house leaves uncancelled
        nursery.start_soon(_watchdog)
        sd.notify(f"READY=1\nSTATUS=Serving {running.gateway}, peers on port {running.peering}")
        doors = {"gateway": str(running.gateway)} | ({"gateway_tls": str(running.gateway_tls)} if running.gateway_tls else {})
        logger.info("ready", node=running.node_id, **doors, peering=running.peering, version=__version__)
        await _told_to_stop(settings, running.limits)
        sd.notify("STOPPING=1")
        nursery.cancel_scope.cancel()
    logger.info("stopped")  # what was being sent has been, and the store is closed


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
