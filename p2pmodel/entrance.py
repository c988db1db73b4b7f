"""The sockets that clients connect to: those that systemd holds for us across restarts, else our own."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from p2pmodel import config, sd
from p2pmodel.gateway import Certificate, bind, load_certificate
from p2pmodel.settings import GatewaySettings, HostPort, Settings

_SOCKET_NAME: Final = "gateway"  # FileDescriptorName= in systemd/p2pmodel.socket
_TLS_SOCKET_NAME: Final = "gateway-tls"


@dataclass(frozen=True, slots=True)
class Entrance:
    plain: list[socket.socket]
    secured: list[socket.socket]
    certificate: Certificate | None

    @classmethod
    def open(cls, settings: Settings) -> Entrance:
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


def _inherited(sockets: Mapping[str, list[int]], name: str, gateway: GatewaySettings) -> list[socket.socket]:
    """Raises ConfigError for one that other machines reach: a unit file may say what the config would be refused for."""
    held = [socket.socket(fileno=fd) for fd in sockets.get(name, [])]
    for sock in held:
        config.check_door(HostPort(*sock.getsockname()[:2]), gateway)
    return held
