"""Uploads through us, for both hubs: bytes stream on to the hub's storage, and delivery keeps a copy on their way.

There is one way of doing it. A hub answers the LFS batch of an upload with the places where it wants a file's bytes, of
its own or of a storage host; `PartLinks` turns each into a link to us that carries the place along, sealed so that nobody
can make us send anything anywhere else; `PartRoutes` answers these links. Nothing is buffered: a piece is read from the
client when the hub has taken the one before. The ModelScope dialect uses the same links.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, unquote

import msgspec

from p2pmodel.content import Blob, BlobId, Hub
from p2pmodel.delivery.ports import Delivery, Part, Upstreams
from p2pmodel.gateway.failures import plain_failure
from p2pmodel.gateway.passing import collect, pass_on
from p2pmodel.gateway.request import BadRequestError
from p2pmodel.gateway.response import Call, Response
from p2pmodel.gateway.routing import Route, route
from p2pmodel.limits import LISTING_BYTES_MAX

PARTS_PATH: Final = "/-/parts/"
_CREDENTIALS: Final = frozenset({"authorization", "cookie"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes of a file from `start` on are wanted."""

    hub: Hub
    blob: Blob
    start: int
    url: str = field(repr=False)  # it is signed: whoever has it may upload

    @property
    def words(self) -> str:
        return f"{self.hub}/{self.blob.id.algorithm}/{self.blob.id.hex}/{self.blob.size}/{self.start}"

    @property
    def sealed(self) -> str:
        return f"{self.words} {self.url}"


class Seals:
    """What we say to clients and believe when it comes back."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def seal(self, text: str) -> str:
        return hashlib.blake2b(text.encode(), key=self._secret, digest_size=20).hexdigest()

    def check(self, text: str, seal: str) -> None:
        """Raises BadRequestError for what is none of ours."""
        if not hmac.compare_digest(seal, self.seal(text)):
            raise BadRequestError("This link for an upload is none of this node's.")


class PartLinks:
    """Links to us that stand for places at a hub."""

    def __init__(self, seals: Seals) -> None:
        self._seals = seals

    def link(self, endpoint: str, place: Place) -> str:
        return f"{endpoint}{PARTS_PATH}{place.words}/{self._seals.seal(place.sealed)}?{quote(place.url, safe='')}"

    def place(self, call: Call) -> Place:
        """Raises BadRequestError for a link that is none of ours."""
        values = call.values
        try:
            blob = Blob(BlobId.parse(f"{values['algorithm']}:{values['hex']}"), int(values["size"]))
            place = Place(Hub(values["hub"]), blob, int(values["start"]), unquote(call.request.raw_query, errors="strict"))
        except ValueError:
            raise BadRequestError("This is no link for an upload.") from None
        self._seals.check(place.sealed, values["seal"])
        return place


class PartRoutes:
    def __init__(self, delivery: Delivery, upstreams: Upstreams, links: PartLinks) -> None:
        self._delivery = delivery
        self._upstreams = upstreams
        self._links = links

    def table(self) -> tuple[Route, ...]:
        template = (
            re.escape(PARTS_PATH) + r"(?P<hub>[a-z]+)/(?P<algorithm>[a-z0-9-]+)/(?P<hex>[0-9a-f]+)"
            r"/(?P<size>[0-9]{1,15})/(?P<start>[0-9]{1,15})/(?P<seal>[0-9a-f]{40})"
        )
        return (route("part", frozenset({"PUT", "POST"}), template, self._part, plain_failure, takes_body=True),)

    async def _part(self, call: Call) -> Response:
        place = self._links.place(call)
        async with self._delivery.part(place.blob, place.start) as part:
            return await send_and_keep(self._upstreams, place.hub, call, part, url=place.url)


def succeeded(status: int, _body: bytes) -> bool:
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


async def send_and_keep(
    upstreams: Upstreams,
    hub: Hub,
    call: Call,
    part: Part,
    *,
    url: str,
    own_credential: bool = False,
    taken: Callable[[int, bytes], bool] = succeeded,
) -> Response:
    """A request's body goes to the hub's storage at `url` and stays here as well, if it is `taken` there: what its answer
    says."""
    body = None if call.body is None else _kept(call.body, part)
    response = await pass_on(upstreams, hub, replace(call, body=body), url=url, own_credential=own_credential)
    answer, told = await collect(response, LISTING_BYTES_MAX)
    if taken(answer.status, told):
        part.accept()
    return answer


async def _kept(pieces: AsyncIterator[bytes], part: Part) -> AsyncIterator[bytes]:
    """The same pieces, of which a copy stays here."""
    async for piece in pieces:
        await part.put(piece)
        yield piece


class _Object(msgspec.Struct):
    oid: str
    size: int


def lead_here(batch: Any, links: PartLinks, endpoint: str, hub: Hub, home: str) -> Any:  # noqa: ANN401  # JSON
    """The answer to an LFS batch, its places to upload to replaced by links to us. What does not look as it should (or wants
    a credential of the storage host's own, which we would not hand on) stays: the client then goes there itself."""
    objects = batch.get("objects") if isinstance(batch, dict) else None
    for entry in objects if isinstance(objects, list) else []:
        try:
            asked = msgspec.convert(entry, _Object)
            blob = Blob(BlobId("sha256", asked.oid), asked.size)
            actions = msgspec.convert(entry.get("actions") or {}, dict[str, dict[str, Any]])
        except (msgspec.ValidationError, ValueError):
            continue
        for name, action in actions.items():
            _lead_action_here(name, action, places=_Places(hub, blob, home, endpoint, links))
        if actions:
            entry["actions"] = actions
    return batch


@dataclass(frozen=True, slots=True)
class _Places:
    hub: Hub
    blob: Blob
    home: str
    endpoint: str
    links: PartLinks

    def at_home(self, url: object) -> str | None:
        """A link of the hub itself, as one of ours; None for another host's."""
        inside = isinstance(url, str) and bool(self.home) and url.startswith(f"{self.home}/")
        return self.endpoint + str(url)[len(self.home) :] if inside else None

    def part(self, url: str, start: int) -> str:
        return self.links.link(self.endpoint, Place(self.hub, self.blob, start, url))


def _lead_action_here(name: str, action: dict[str, Any], *, places: _Places) -> None:
    header = action.get("header") or {}
    size = str(header.get("chunk_size", ""))
    if name == "upload" and not _CREDENTIALS & {key.lower() for key in header}:
        for key, url in header.items():
            if size.isdecimal() and key.isdecimal() and isinstance(url, str):
                header[key] = places.part(url, (int(key) - 1) * int(size))
        if not size and isinstance(action.get("href"), str):
            action["href"] = places.part(action["href"], 0)
            return
    action["href"] = places.at_home(action.get("href")) or action.get("href")
