"""Which hosts are on the subnets of this machine: the reach of an open cluster."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Final

import ifaddr
import trio

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network

_REREAD_S: Final = 10.0  # interfaces come and go; a flood of foreign hosts must not make us list them each time


def interface_subnets() -> list[Subnet]:
    """The subnets of all interfaces that are up."""
    subnets: list[Subnet] = []
    for adapter in ifaddr.get_adapters():
        for address in adapter.ips:
            host = address.ip if isinstance(address.ip, str) else address.ip[0]
            subnets.append(ipaddress.ip_network(f"{host}/{address.network_prefix}", strict=False))
    return subnets


def on_this_machine(host: str) -> bool:
    """Whether only processes of this machine can have this address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class OwnSubnets:
    """A predicate on IP addresses that follows the interfaces."""

    def __init__(self, read: Callable[[], Sequence[Subnet]] = interface_subnets) -> None:
        self._read = read
        self._subnets: Sequence[Subnet] = ()
        self._read_at = float("-inf")

    def __call__(self, host: str) -> bool:
        try:
            ip = ipaddress.ip_address(host)
        except ValueError:
            return False
        if self._includes(ip):
            return True
        now = trio.current_time()
        if now - self._read_at < _REREAD_S:
            return False
        self._subnets, self._read_at = self._read(), now
        return self._includes(ip)

    def _includes(self, ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        return any(ip in subnet for subnet in self._subnets)
