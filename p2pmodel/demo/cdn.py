"""The storage host behind a hub: anyone with a signed URL gets the bytes, for a while; a credential is a leak and refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final
from urllib.parse import urlencode

import trio

from p2pmodel.demo.exchange import Answer, Request, Route, file_answer, json_answer, route
from p2pmodel.demo.repos import Content, HubFile


class Cdn:
    def __init__(self, clock: Callable[[], float] = trio.current_time) -> None:
        self.base_url: str | None = None  # where it listens
        self.lifetime_s = 120.0  # of a signed URL
        self._clock = clock
        self._contents: dict[str, Content] = {}
        self._routes: Final = (Route.of("cdn blob", "GET HEAD", r"/blobs/(?P<sha256>[0-9a-f]{64})", self._blob),)

    def signed_url(self, label: str, file: HubFile) -> str | None:
        """A URL that works until its time is over; None while this host does not listen."""
        if self.base_url is None:
            return None
        sha256 = file.content.sha256
        self._contents[sha256] = file.content
        expires = str(int(self._clock() + self.lifetime_s))
        query = {"file": label, "expires": expires, "signature": _signature(sha256, label, expires)}
        return f"{self.base_url}/blobs/{sha256}?{urlencode(query)}"

    def answer(self, request: Request) -> Answer:
        return route(self._routes, request)

    def _blob(self, request: Request, parts: dict[str, str]) -> Answer:
        if "authorization" in request.headers:
            return json_answer(400, {"error": "Only one auth mechanism allowed"})
        sha256, label, expires = parts["sha256"], request.asked("file"), request.asked("expires")
        if request.asked("signature") != _signature(sha256, label, expires) or self._clock() > int(expires):
            return json_answer(403, {"error": "the signed URL is wrong or too old"})
        # Storage has an etag of its own kind: not the name by which the hub vouches for the bytes.
        etag = hashlib.md5(sha256.encode(), usedforsecurity=False).hexdigest()
        return file_answer(request, self._contents[sha256], label, {"ETag": f'"{etag}"'})


def _signature(sha256: str, label: str, expires: str) -> str:
    return hashlib.sha256(f"demo {sha256} {label} {expires}".encode()).hexdigest()[:32]
