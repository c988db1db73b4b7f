"""URLs as data: parsed once, by one parser, and connected to from the parsed parts."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import quote, urljoin, urlsplit

_PORTS: Final = {"http": 80, "https": 443}
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_KEPT: Final = "".join(chr(code) for code in range(0x21, 0x7F))  # what a Location may carry as it is


@dataclass(frozen=True, slots=True)
class Url:
    scheme: str
    host: str  # lower case, IPv6 without brackets
    port: int
    target: str  # path and query, raw

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError unless it is plain http or https, without a user name."""
        parts = urlsplit(text)
        if parts.scheme not in _PORTS or not parts.hostname or not text.isascii() or "@" in parts.netloc:
            raise ValueError("not a plain http or https address")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme], target)

    def join(self, location: str) -> Self:
        """Where a Location or Link header on an answer of this URL leads. Raises ValueError as `parse`."""
        return self.parse(urljoin(str(self), quote(location.strip(), safe=_KEPT, encoding="latin-1")))

    @property
    def origin(self) -> tuple[str, str, int]:
        """Who is asked: a credential for one origin is none of another's business."""
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        """Host, and port where it is not the scheme's own: the Host header, and how we name a host to peers."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def is_global(address: str) -> bool:
    """Whether an IP address is one of the internet's, not of a machine, LAN or cloud's metadata service."""
    outer = ipaddress.ip_address(address)
    inner = _inner(outer) if isinstance(outer, ipaddress.IPv6Address) else None
    judged = inner or outer
    return judged.is_global and not judged.is_multicast


def _inner(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that packets to this one end up at, where a host or router translates."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def is_local_name(host: str) -> bool:
    """Whether a host that nobody has resolved yet is plainly none of the internet's."""
    name = host.rstrip(".")
    with suppress(ValueError):
        return not is_global(name)
    with suppress(OSError):  # 127.1, 2130706433, 0x7f.1: addresses to whoever resolves them
        return not is_global(socket.inet_ntoa(socket.inet_aton(name)))
    return "." not in name or name.endswith((".localhost", ".local", ".internal"))
