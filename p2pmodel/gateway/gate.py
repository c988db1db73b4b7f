"""Who may ask at all: checks on a request's head before it is routed.

The gateway listens where every program of this machine can reach it, web pages in a browser included. What Chromium sends
from a hostile page is told apart by three headers; each check has a shape that only it catches:

* Host: a name that an attacker pointed at 127.0.0.1 (DNS rebinding); such requests carry no other mark
* Origin: fetch with CORS, POST, forms, preflight, and WebSocket, which has no Sec-Fetch header
* Sec-Fetch-Site: img, script, iframe and no-cors GET, which have no Origin

No CORS header is ever sent.

An address of ours is as good a Host as a configured name, if it is the very one at which the connection came in: rebinding
needs a name in Host, and a page that has our address there is one that we served. But browsers send Sec-Fetch-Site to https
and to loopback alone (so says its specification, so does Chromium 156): at http://ADDRESS the last four shapes bear no mark at
all. So whoever names an address must show a mark or be no browser. Those begin User-Agent with Mozilla; a page cannot change
that in these four, and where it can there is an Origin. A configured name is meant for browsers too: by it such a request may
see what changes nothing, which a hostile page can ask for and not read; but have nothing brought here.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import socket
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Final

from p2pmodel.gateway.request import Request
from p2pmodel.gateway.response import Header, Response, refusal

TOKEN_HEADER: Final = "x-p2pmodel-token"  # noqa: S105  # its name

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
_OWN_PORTS: Final = {"http": 80, "https": 443}  # clients leave them out

#: On every answer: no sniffing, no use as another page's resource, nothing shown in place.
SAFETY_HEADERS: Final[tuple[Header, ...]] = (
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)

#: What load balancers and orchestrators ask, who are given no token: whether this node is there, and of use.
_NO_SECRET: Final = frozenset({"/healthz", "/readyz"})


@dataclass(frozen=True, slots=True)
class Gate:
    """`hosts` are the values of Host that name us, in lower case; `token`, if any, is what every client must show. Links below
    `self_proving` paths were given to somebody who had shown it, and prove that themselves: who follows them has no place
    for a token of ours. Asking for one of the `harmless` paths changes nothing."""

    hosts: frozenset[str]
    token: str | None = field(default=None, repr=False)
    self_proving: tuple[str, ...] = ()
    harmless: frozenset[str] = frozenset()

    def check(self, request: Request) -> Response | None:
        """The refusal, or None for a request that may pass."""
        host = (request.header("host") or "").lower()
        if host not in self.hosts and (host not in request.reached or _unmarked_page(request)):
            return refusal(421, "This is not a name of this gateway; gateway.allowed_hosts can add it.")
        origin = request.header("origin")
        if origin is not None and origin.lower() != f"{request.scheme}://{host}":
            return refusal(403, "Web pages may not ask this gateway.")
        if request.header("sec-fetch-site") not in {None, "none", "same-origin"}:
            return refusal(403, "Web pages may not use what this gateway serves.")
        if origin is None and _unmarked_page(request) and not _is_loopback(host) and request.path not in self.harmless:
            return refusal(403, "A browser does not say here which page asks: use localhost, https, or another program.")
        if self._asks(request) and not any(_equal(shown, self.token or "") for shown in _shown_tokens(request)):
            asked = ("WWW-Authenticate", 'Basic realm="p2pmodel"')
            return refusal(401, "This gateway wants its token: as X-P2pmodel-Token, or as the password in its URL.", asked)
        return None

    def _asks(self, request: Request) -> bool:
        """Whether our token must be shown for it."""
        if self.token is None or request.path in _NO_SECRET:
            return False
        return not (self.self_proving and request.path.startswith(self.self_proving))

    def without_token(self, request: Request) -> Request:
        """The request as the routes may see it: our own token must not travel to a hub."""
        if self.token is None:
            return request
        kept = [(name, value) for name, value in request.headers if name != TOKEN_HEADER]
        if any(_equal(shown, self.token) for shown in _authorization_tokens(request)):
            kept = [(name, value) for name, value in kept if name != "authorization"]
        return replace(request, headers=kept)


def names_of(sock: socket.socket, scheme: str) -> frozenset[str]:
    """Values of Host that name the address at which this client reached us."""
    try:
        address, port, *_ = sock.getsockname()
        ip = ipaddress.ip_address(address.partition("%")[0])
    except (OSError, ValueError):  # it has left; a socket without addresses
        return frozenset()
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip
    name = str(ip) if isinstance(ip, ipaddress.IPv4Address) else f"[{ip}]"
    return frozenset({f"{name}:{port}", *([name] if port == _OWN_PORTS[scheme] else [])})


def _is_loopback(host: str) -> bool:
    return host.rpartition(":")[0] in _LOOPBACK or host in _LOOPBACK


def _unmarked_page(request: Request) -> bool:
    """Whether a browser asks, and does not say for whom."""
    browser = (request.header("user-agent") or "").lower().startswith("mozilla/")
    return browser and request.header("sec-fetch-site") is None


def hosts_of(port: int, allowed: Collection[str] = (), *, scheme: str = "http") -> frozenset[str]:
    """Values of Host for a listener on `port`: its loopback names, and the configured ones with and without the port."""
    configured = {name.lower() for name in allowed}
    hosts = {f"{name}:{port}" for name in _LOOPBACK | configured} | configured
    return frozenset(hosts | _LOOPBACK if port == _OWN_PORTS[scheme] else hosts)


def _shown_tokens(request: Request) -> list[str]:
    """Every place where a client can show our own token. Authorization is also where the hub's token goes, so a client
    that needs both uses the header of our own."""
    own = request.header(TOKEN_HEADER)
    return [*([own] if own else []), *_authorization_tokens(request)]


def _authorization_tokens(request: Request) -> list[str]:
    scheme, _, value = (request.header("authorization") or "").partition(" ")
    if scheme.lower() == "bearer":
        return [value.strip()]
    if scheme.lower() != "basic":
        return []
    try:
        return [base64.b64decode(value, validate=True).decode().partition(":")[2]]
    except (binascii.Error, UnicodeDecodeError):
        return []


def _equal(shown: str, token: str) -> bool:
    return hmac.compare_digest(shown.encode(), token.encode())
