"""A client's own request handed to a hub, and the answer handed back: what has to be changed in the headers on the way."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from p2pmodel.delivery.ports import HubRequest
from p2pmodel.upstream.client import Answer, Client, Headers

_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer"}
    | {"transfer-encoding", "upgrade"}
)
_CREDENTIALS: Final = frozenset({"authorization", "cookie"})
_REPLACED: Final = frozenset({"host", "accept-encoding", "expect", "content-length"})
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_OF_THAT_HOST: Final = frozenset({"alt-svc", "strict-transport-security"})  # true of the hub, not of a gateway
_BUCKET: Final = re.compile(r"/(?:api/)?buckets/")
_LINK: Final = re.compile(r"<([^>]*)>([^<]*?)(?:,\s*(?=<)|$)")


def carries_credential(request: HubRequest) -> bool:
    return any(name.lower() in _CREDENTIALS for name, _ in request.headers)


def request_headers(request: HubRequest, client: Client) -> Headers:
    """What the hub gets. A client's credential goes to the hub itself, to no mirror of it and to no storage host but the one
    that it is for; ours is not lent."""
    dropped = _HOP_BY_HOP | _REPLACED | _named_by_connection(request.headers)
    elsewhere = request.url and client.home_target(request.url) is None
    if (elsewhere or not client.upstream.vouches) and not request.own_credential:
        dropped |= _CREDENTIALS
    headers = [(name, value) for name, value in request.headers if name.lower() not in dropped]
    headers.append(("Accept-Encoding", "identity"))
    if request.body is not None:
        length = next((value for name, value in request.headers if name.lower() == "content-length"), None)
        headers.append(("Transfer-Encoding", "chunked") if length is None else ("Content-Length", length))
    elif request.method in _WITH_BODY:
        headers.append(("Content-Length", "0"))  # storage hosts want to hear it
    return headers


def answer_headers(answer: Answer, client: Client) -> Headers:
    """What the client gets: nothing that is between us and the hub, nothing that leads past us. To Xet it is led for buckets
    alone: their files can be had no other way, and we hold none."""
    dropped = _HOP_BY_HOP | _OF_THAT_HOST | _named_by_connection(answer.raw_headers)
    by_xet = _BUCKET.match(client.home_target(str(answer.url)) or "") is not None
    headers = []
    for name, value in answer.raw_headers:
        key = name.lower()
        if key in dropped or (key.startswith("x-xet-") and not by_xet):
            continue
        kept = value if by_xet or key != "link" else _without_xet(value)
        rewritten = _REWRITTEN[key](kept, client) if key in _REWRITTEN else kept
        if rewritten:
            headers.append((name, rewritten))
    return headers


def _named_by_connection(headers: Sequence[tuple[str, str]]) -> frozenset[str]:
    values = (value for name, value in headers if name.lower() == "connection")
    return frozenset(token.strip().lower() for value in values for token in value.split(","))


def _location(value: str, client: Client) -> str:
    target = client.home_target(value)
    return value if target is None else f"{{endpoint}}{target}"


def _link(value: str, client: Client) -> str:
    return ", ".join(f"<{_location(match[1], client)}>{match[2].strip()}" for match in _LINK.finditer(value))


def _without_xet(links: str) -> str:
    return ", ".join(match[0].strip(", ") for match in _LINK.finditer(links) if "xet-auth" not in match[2])


def _set_cookie(value: str, client: Client) -> str:
    """A cookie of the hub becomes one of the gateway, which is neither of that domain nor behind TLS."""
    pair, *attributes = [part.strip() for part in value.split(";")]
    named = {name.lower(): setting.strip() for name, _, setting in (attribute.partition("=") for attribute in attributes)}
    domain = named.get("domain", "").lstrip(".").lower()
    if domain and client.home.host != domain and not client.home.host.endswith(f".{domain}"):
        return ""
    kept = [attribute for attribute in attributes if attribute.partition("=")[0].lower() not in {"domain", "secure"}]
    return "; ".join([pair, *kept])


_REWRITTEN: Final = {
    "location": _location,
    "content-location": _location,
    "x-xet-refresh-route": _location,
    "link": _link,
    "set-cookie": _set_cookie,
}
