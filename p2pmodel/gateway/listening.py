"""The sockets that clients connect to."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Sequence
from typing import Final

import structlog

from p2pmodel.errors import ConfigError
from p2pmodel.limits import LISTEN_BACKLOG

log = structlog.get_logger()

_NO_IPV6: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
_PORT_TRIES: Final = 16


def bind(host: str, port: int, setting: str = "gateway.listen") -> list[socket.socket]:
    """Listening sockets at an address; `localhost` is 127.0.0.1 and ::1 on one port, as clients may take either and nobody
    else should have the other. Port 0 takes a free one. Raises ConfigError, which names the `setting` to change."""
    if host != "localhost":
        return [_listen(_family(host, setting), host, port, setting)]
    for tries_left in reversed(range(_PORT_TRIES)):
        first = _listen(socket.AF_INET, "127.0.0.1", port, setting)
        try:
            second = _listen(socket.AF_INET6, "::1", first.getsockname()[1], setting)
        except _NoIPv6Error:
            log.warning("gateway.no_ipv6", listening="127.0.0.1 only")
            return [first]
        except ConfigError:
            first.close()
            if port or not tries_left:
                raise
        else:
            return [first, second]
    raise AssertionError("the last try returns or raises")


class _NoIPv6Error(ConfigError):
    pass


def _listen(family: socket.AddressFamily, host: str, port: int, setting: str) -> socket.socket:
    sock = None
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host == "::1"))
        sock.bind((host, port))
        sock.listen(LISTEN_BACKLOG)
    except OSError as error:
        if sock is not None:
            sock.close()
        kind = _NoIPv6Error if host == "::1" and error.errno in _NO_IPV6 else ConfigError
        raise kind(
            f"The gateway cannot listen on {host} port {port}: {error.strerror}.",
            next_step=f"Set {setting} to another address, or stop what uses this one.",
        ) from error
    return sock


def _family(host: str, setting: str) -> socket.AddressFamily:
    try:
        return socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET  # noqa: PLR2004  # IPv6
    except ValueError:
        raise ConfigError(f"{setting} needs an IP address or localhost, not {host!r}.") from None


def check_loopback(listeners: Sequence[socket.socket]) -> None:
    """Raises ConfigError if other machines can reach one of these."""
    for listener in listeners:
        host = listener.getsockname()[0]
        if not ipaddress.ip_address(host).is_loopback:
            raise ConfigError(
                f"The gateway would listen on {host}, open to other machines.",
                next_step="Set gateway.token_file to the token that clients must show.",
            )
