"""The storage host behind a hub: anyone with a signed URL gets the bytes, for a while; a credential is a leak and refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final
from urllib.parse import urlencode
from weakref import WeakValueDictionary

import trio

from p2pmodel.demo.exchange import Answer, Request, Route, file_answer, json_answer, route
from p2pmodel.demo.repos import Content, HubFile


class Cdn:
    def __init__(self, clock: Callable[[], float] = trio.current_time) -> None:
        self.base_url: str | None = None  # where it listens
        self.lifetime_s = 120.0  # of a signed URL
        self._clock = clock
        self._contents: WeakValueDictionary[str, Content] = WeakValueDictionary()  # as long as a repo has them
        self.uploaded: dict[str, Content] = {}  # whole files that came, by sha256
        self._parts: dict[str, dict[str, bytes]] = {}  # by sha256, then by etag
        self._routes: Final = (
            Route.of("cdn blob", "GET HEAD", r"/blobs/(?P<sha256>[0-9a-f]{64})", self._blob),
            Route.of("cdn upload", "PUT", r"/uploads/(?P<sha256>[0-9a-f]{64})/(?P<number>[0-9]+)", self._upload),
        )

    def signed_url(self, label: str, file: HubFile) -> str | None:
        """A URL that works until its time is over; None while this host does not listen."""
        if self.base_url is None:
            return None
        sha256 = file.content.sha256
        self._contents[sha256] = file.content
        expires = str(int(self._clock() + self.lifetime_s))
        query = {"file": label, "expires": expires, "signature": _signature(sha256, label, expires)}
        return f"{self.base_url}/blobs/{sha256}?{urlencode(query)}"

    # Uploads

    def upload_url(self, sha256: str, number: int) -> str:
        """Where a part of a file goes; part 0 is the whole. Raises ValueError while this host does not listen."""
        if self.base_url is None:
            raise ValueError("the storage host does not listen")
        signature = _signature(sha256, f"upload {number}", "")
        return f"{self.base_url}/uploads/{sha256}/{number}?{urlencode({'signature': signature})}"

    def join(self, sha256: str, etags: list[str]) -> bool:
        """Make a file of its parts; whether they are its parts."""
        came = self._parts.pop(sha256, {})
        if not all(etag in came for etag in etags):
            return False
        return self._keep(sha256, b"".join(came[etag] for etag in etags))

    def forget_parts(self) -> None:
        """As storage does some day with those of which nobody makes a file."""
        self._parts.clear()

    def _upload(self, request: Request, parts: dict[str, str]) -> Answer:
        sha256, number = parts["sha256"], parts["number"]
        if "authorization" in request.headers:
            return json_answer(400, {"error": "Only one auth mechanism allowed"})
        if request.asked("signature") != _signature(sha256, f"upload {number}", ""):
            return json_answer(403, {"error": "the signed URL is wrong"})
        if "content-length" not in request.headers:
            return json_answer(411, {"error": "You must provide the Content-Length HTTP header."})
        etag = f'"{hashlib.md5(request.body, usedforsecurity=False).hexdigest()}"'
        if number != "0":
            self._parts.setdefault(sha256, {})[etag] = request.body
        elif not self._keep(sha256, request.body):
            return json_answer(400, {"error": "the bytes do not have that hash"})
        return Answer(200, {"ETag": etag})

    def _keep(self, sha256: str, body: bytes) -> bool:
        content = Content.of(body)
        if content.sha256 == sha256:
            self.uploaded[sha256] = content
        return content.sha256 == sha256

    def answer(self, request: Request) -> Answer:
        return route(self._routes, request)

    def _blob(self, request: Request, parts: dict[str, str]) -> Answer:
        if "authorization" in request.headers:
            return json_answer(400, {"error": "Only one auth mechanism allowed"})
        sha256, label, expires = parts["sha256"], request.asked("file"), request.asked("expires")
        if request.asked("signature") != _signature(sha256, label, expires) or self._clock() > int(expires):
            return json_answer(403, {"error": "the signed URL is wrong or too old"})
        content = self._contents.get(sha256)
        if content is None:
            return json_answer(404, {"error": "there is no such blob any more"})
        # Storage has an etag of its own kind: not the name by which the hub vouches for the bytes.
        etag = hashlib.md5(sha256.encode(), usedforsecurity=False).hexdigest()
        return file_answer(request, content, label, {"ETag": f'"{etag}"'})


def _signature(sha256: str, label: str, expires: str) -> str:
    return hashlib.sha256(f"demo {sha256} {label} {expires}".encode()).hexdigest()[:32]
