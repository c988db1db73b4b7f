"""Which addresses are this machine's own: a gateway must not be its own hub."""

from __future__ import annotations

import ipaddress
import socket


def is_own(host: str) -> bool:
    """Whether this machine answers at an IP address, by any of its interfaces; of names, localhost alone is known."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if isinstance(address, ipaddress.IPv4Address) else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((host, 0))
    except OSError:  # somebody else's
        return False
    return True
