"""Who listens at a port of this machine. While no daemon runs anybody may, and whoever answers there must get no token."""

from __future__ import annotations

import ipaddress
import struct
from pathlib import Path
from typing import Final

_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))  # proc(5)
_LISTEN: Final = "0A"
_STATE, _UID = 3, 7  # columns

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


def listeners(host: str, port: int) -> set[int]:
    """Users whose sockets a connection to that address of ours may reach; empty where the kernel does not tell."""
    wanted = ipaddress.ip_address(host)
    exact, any_address = set(), set()
    for table in _TABLES:
        try:
            rows = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            columns = row.split()
            if columns[_STATE] != _LISTEN:
                continue
            ip, listening = _address(columns[1])
            if listening == port and ip == wanted:
                exact.add(int(columns[_UID]))
            elif listening == port and ip.is_unspecified:
                any_address.add(int(columns[_UID]))
    return exact or any_address  # the kernel, too, takes the one that names the address


def _address(text: str) -> tuple[Ip, int]:
    """As the kernel prints it: words of 32 bits in this machine's order, then the port."""
    words, _, port = text.partition(":")
    packed = b"".join(struct.pack("=I", int(words[at : at + 8], 16)) for at in range(0, len(words), 8))
    ip = ipaddress.ip_address(packed)
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped or ip, int(port, 16)
