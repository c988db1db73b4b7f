"""`p2pmodel doctor`: looks at what a node stands on, and says what to do about what is wrong."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import socket
import ssl
import struct
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

import blake3
import click

from p2pmodel.cli import local_daemon
from p2pmodel.cli.options import json_option, settings_options
from p2pmodel.cli.progress import amount, count
from p2pmodel.cli.report import of_another_version, print_json, print_table
from p2pmodel.errors import NoDaemonError, P2pmodelError, StoreError
from p2pmodel.limits import DESCRIPTORS_MAX, MIB
from p2pmodel.settings import HostPort, Settings, UpstreamSettings
from p2pmodel.store.layout import check_way

_HASHED_BYTES: Final = 32 * MIB
_SLOW: Final = 100 * MIB  # bytes/s: a 1 Gbit/s line would wait for the hash
_SKEW_MAX_S: Final = 60.0
_HUB_TIMEOUT_S: Final = 10.0
_ECHO_TIMEOUT_S: Final = 1.0
_GROUP: Final = ("224.0.0.251", 5353)
#: RFC 6762 §5: one question, PTR of our service.
_QUESTION: Final = bytes(5) + b"\x01" + bytes(6) + b"\x09_p2pmodel\x04_tcp\x05local\x00\x00\x0c\x00\x01"


@dataclass(frozen=True, slots=True)
class Finding:
    """`state` is "ok", "note" (works, but not as well as it could) or "bad"."""

    check: str
    state: str
    text: str
    next_step: str = ""


@click.command("doctor")
@json_option
@settings_options
def command(settings: Settings, *, as_json: bool) -> None:
    """Check daemon, ports, multicast, disk, hash speed, clock and hubs, and say what to do."""
    findings = [finding for check in _CHECKS for finding in check(settings)]
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    else:
        print_table(("CHECK", "STATE", "FOUND"), ((each.check, each.state, each.text) for each in findings))
        for finding in findings:
            if finding.next_step:
                click.echo(f"{finding.check}: {finding.next_step}")
    if bad := sum(finding.state == "bad" for finding in findings):
        raise P2pmodelError(f"{count(bad, 'check')} failed.")


def _daemon(settings: Settings) -> Iterator[Finding]:
    try:
        daemon = local_daemon.find(settings)
        status = daemon.get("/-/api/status")
    except NoDaemonError as error:
        yield Finding("daemon", "note", str(error), error.next_step)
        yield from _ports(settings)
        return
    yield Finding("daemon", "ok", f"version {status['version']} serves at {daemon.endpoint}")
    peers, strange = status["peers"], status.get("other_versions", [])
    if strange:
        yield Finding(
            "peers", "note", of_another_version(strange), "`p2pmodel --version` on each tells which are the older ones."
        )
    if peers or status["mode"] == "off":
        yield Finding("peers", "ok", f"{peers} linked")
    elif not strange:
        yield Finding(
            "peers",
            "note",
            "none is linked",
            "Start p2pmodel on another node, or name it in peering.peers; both need port 7277.",
        )


def _ports(settings: Settings) -> Iterator[Finding]:
    for key, where in (("gateway.listen", settings.gateway.listen), ("peering.listen", settings.peering.listen)):
        try:
            _bind(where)
        except OSError as error:
            reason = error.strerror or str(error)
            yield Finding(key, "bad", f"{where}: {reason}", f"Set {key} to another port, or stop what uses this one.")
        else:
            yield Finding(key, "ok", f"{where} is free")


def _bind(where: HostPort) -> None:
    hosts = ("127.0.0.1", "::1") if where.host == "localhost" else (where.host,)
    for host in hosts:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, where.port))


def _multicast(settings: Settings) -> Iterator[Finding]:
    if not settings.discovery.mdns:
        yield Finding("multicast", "note", "discovery.mdns is off: peers are found by peering.peers alone")
        return
    try:
        heard = _hears_itself()
    except OSError as error:
        heard, why = False, error.strerror or str(error)
    else:
        why = "our own question did not come back"
    if heard:
        yield Finding("multicast", "ok", "this node hears multicast DNS")
    else:
        yield Finding("multicast", "note", why, "Allow UDP port 5353, or name the other nodes in peering.peers.")


def _hears_itself() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("", _GROUP[1]))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack("4sl", socket.inet_aton(_GROUP[0]), 0))
        sock.settimeout(_ECHO_TIMEOUT_S)
        sock.sendto(_QUESTION, _GROUP)
        with contextlib.suppress(TimeoutError):
            end = time.monotonic() + _ECHO_TIMEOUT_S
            while time.monotonic() < end:
                if sock.recv(9000) == _QUESTION:
                    return True
    return False


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = settings.node.state_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_way(folder)
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            linked = _links(Path(file.name))
        room = os.statvfs(folder)
    except StoreError as error:  # the daemon would not start there
        yield Finding("disk", "bad", str(error), error.next_step)
        return
    except OSError as error:
        text = f"{folder}: {error.strerror or error}"
        yield Finding("disk", "bad", text, "Run this as the daemon's user, or set node.state_dir to a folder of your own.")
        return
    free = room.f_bavail * room.f_frsize
    if free <= settings.store.min_free:
        step = "Free some space, or lower store.min_free: nothing can be stored."
        yield Finding(
            "disk", "bad", f"{amount(free)} free at {folder}, store.min_free is {amount(settings.store.min_free)}", step
        )
    else:
        yield Finding("disk", "ok", f"{amount(free)} free at {folder}")
    if not linked:
        yield Finding("disk", "note", "no hard links there: files that are handed out are copied")


def _links(file: Path) -> bool:
    link = file.with_name(f"{file.name}.link")
    try:
        link.hardlink_to(file)
    except OSError:
        return False
    link.unlink()
    return True


def _hashes(_settings: Settings) -> Iterator[Finding]:
    data = bytes(_HASHED_BYTES)
    for name, new in (("sha256", hashlib.sha256), ("blake3", blake3.blake3)):
        began = time.perf_counter()
        new(data)
        rate = _HASHED_BYTES / (time.perf_counter() - began)
        slow = "A CPU with SHA extensions or AVX2 hashes several times faster." if rate < _SLOW else ""
        yield Finding(name, "note" if slow else "ok", f"{amount(rate)}/s on one core", slow)


def _descriptors(_settings: Settings) -> Iterator[Finding]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS_MAX:
        step = f"Allow {DESCRIPTORS_MAX} (LimitNOFILE= of the service) for clusters of more than some ten nodes."
        yield Finding("descriptors", "note", f"at most {hard} open files", step)
    else:
        yield Finding("descriptors", "ok", "enough open files are allowed")


def _hubs(settings: Settings) -> Iterator[Finding]:
    if settings.node.offline:
        yield Finding("hubs", "note", "node.offline is set: no hub is asked")
        return
    for upstream in settings.upstreams:
        yield from _hub(upstream)


def _hub(upstream: UpstreamSettings) -> Iterator[Finding]:
    """Without a token: whether the hub answers at all, how fast, and what time it thinks it is."""
    context = ssl.create_default_context(cafile=upstream.ca_file) if upstream.endpoint.startswith("https") else None
    began = time.perf_counter()
    try:
        request = urllib.request.Request(upstream.endpoint, method="HEAD")  # noqa: S310  # settings take http and https alone
        with urllib.request.urlopen(request, timeout=_HUB_TIMEOUT_S, context=context) as answer:  # noqa: S310
            date = answer.headers["Date"]
    except urllib.error.HTTPError as error:  # it answers
        date = error.headers["Date"]
        error.close()
    except OSError as error:
        reason = str(getattr(error, "reason", "") or error)
        step = (
            "Check the line, HTTPS_PROXY, and [[upstream]] endpoint and ca_file; what the cluster holds is served all the same."
        )
        yield Finding(upstream.name, "bad", f"{upstream.endpoint}: {reason}", step)
        return
    yield Finding(upstream.name, "ok", f"{upstream.endpoint} answers in {time.perf_counter() - began:.2f} s")
    yield from _clock(date)


def _clock(date: str | None) -> Iterator[Finding]:
    with contextlib.suppress(TypeError, ValueError):
        skew = time.time() - parsedate_to_datetime(date or "").timestamp()
        if abs(skew) > _SKEW_MAX_S:
            text = f"this node's clock differs from the hub's by {abs(skew):.0f} s"
            yield Finding("clock", "bad", text, "Set it (timedatectl set-ntp true): certificates are refused else.")
        else:
            yield Finding("clock", "ok", "agrees with the hub's")


_CHECKS: Final[tuple[Callable[[Settings], Iterator[Finding]], ...]] = (
    _daemon,
    _multicast,
    _disk,
    _descriptors,
    _hashes,
    _hubs,
)
