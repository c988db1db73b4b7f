"""Proxies as the environment names them: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, in either case of letters."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

import httpcore2

from p2pmodel.errors import ConfigError
from p2pmodel.upstream.url import Url


class Proxies:
    """Raises ConfigError for a proxy that cannot be used."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._direct = [name.strip().lower() for name in _setting(environment, "no_proxy").split(",") if name.strip()]
        every = _setting(environment, "all_proxy")
        self._by_scheme = {
            scheme: _parse(named)
            for scheme in ("http", "https")
            if (named := _setting(environment, f"{scheme}_proxy") or every)
        }

    def towards(self, url: Url) -> httpcore2.Proxy | None:
        """The proxy for a request, None for a direct connection."""
        proxy = self._by_scheme.get(url.scheme)
        return None if proxy is None or any(_covers(name, url) for name in self._direct) else proxy


def _setting(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name) or environment.get(name.upper()) or ""


def _parse(named: str) -> httpcore2.Proxy:
    try:
        parts = urlsplit(named if "://" in named else f"http://{named}")
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(
            "A proxy in the environment is not of the form http://host:port.",
            next_step="Mend HTTP_PROXY, HTTPS_PROXY or ALL_PROXY (SOCKS is not spoken).",
        )
    auth = (unquote(parts.username).encode(), unquote(parts.password or "").encode()) if parts.username else None
    return httpcore2.Proxy(httpcore2.URL(scheme=parts.scheme, host=parts.hostname, port=port, target="/"), auth=auth)


def _covers(name: str, url: Url) -> bool:
    """Whether an item of NO_PROXY means this host: *, a domain and what is below it, an address, a network, host:port."""
    if name in {"*", url.host, url.authority}:
        return True
    try:
        return ipaddress.ip_address(url.host) in ipaddress.ip_network(name, strict=False)
    except ValueError:
        return url.host.endswith("." + name.lstrip("*."))
