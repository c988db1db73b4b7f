"""Xet's storage, write side: xorbs come in, a shard says how files are made of them (huggingface.co/docs/xet).

Hashes of chunks, xorbs and files are taken as stated; that a file is right shows when a commit names its sha256.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Final

from p2pmodel.content.xet import XorbReader, unpack, xet_text
from p2pmodel.demo.cdn import Cdn
from p2pmodel.demo.counters import XET_TOKEN
from p2pmodel.demo.exchange import Answer, Request, Route, json_answer
from p2pmodel.demo.repos import Content

_HEAD_BYTES: Final = 48  # of a shard, and of each of its entries
_BOOKEND: Final = b"\xff" * 32
_WITH_VERIFICATION: Final = 1 << 31
_WITH_METADATA: Final = 1 << 30
_HASH: Final = "(?P<hash>[0-9a-f]{64})"


class XetStorage:
    """Below /cas of the storage host. Its tokens are its own, and the only credentials that it takes."""

    def __init__(self, storage: Cdn) -> None:
        self.grants = True  # xorbs come to signed places, from clients that know of them (hf_xet since 1.8)
        self.received = 0  # bytes of xorbs, as they were packed
        self._storage = storage
        self._xorbs: dict[str, list[bytes]] = {}  # their chunks, unpacked
        self._came: dict[str, bytes] = {}  # to a signed place, not yet committed
        self.routes: Final = (
            Route.of("xet grant", "POST", rf"/cas/v1/xorb-grants/default/{_HASH}", _with_token(self._grant)),
            Route.of("xet granted", "PUT", rf"/cas/granted/{_HASH}", self._take_granted),
            Route.of("xet commit", "POST", rf"/cas/v1/xorb-commits/default/{_HASH}/grant/g-1", _with_token(self._commit)),
            Route.of("xet xorb", "POST", rf"/cas(?:/v1)?/xorbs?/default/{_HASH}", _with_token(self._take_xorb)),
            Route.of("xet shard", "POST", r"/cas(?:/v(?P<version>[12]))?/shards?(?:/.*)?", _with_token(self._take_shard)),
        )

    def token(self, request: Request, user: str) -> Answer:
        """Where to upload, for Python in headers, for others in the body."""
        url, token, expires = f"{self._storage.base_url or request.base_url}/cas", f"{XET_TOKEN}{user}", 4_000_000_000
        headers = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": token, "X-Xet-Token-Expiration": str(expires)}
        return json_answer(200, {"casUrl": url, "accessToken": token, "exp": expires}, headers)

    def _grant(self, request: Request, parts: dict[str, str]) -> Answer:
        """A signed place; nothing to send where the xorb is here."""
        if not self.grants:
            return json_answer(404, {"error": "no such thing here"})
        if parts["hash"] in self._xorbs:
            return json_answer(200, {})
        url = f"{self._storage.base_url or request.base_url}/cas/granted/{parts['hash']}?X-Amz-Signature={_signature(parts)}"
        headers = {"x-amz-checksum-crc64nvme": "asked", "if-none-match": "*"}
        return json_answer(201, {"id": "g-1", "method": "PUT", "url": url, "headers": headers})

    def _take_granted(self, request: Request, parts: dict[str, str]) -> Answer:
        signed = request.asked("X-Amz-Signature") == _signature(parts)
        if not signed or request.headers.get("x-amz-checksum-crc64nvme") != "asked" or "authorization" in request.headers:
            return json_answer(403, {"error": "the signed URL is wrong"})
        self._came[parts["hash"]] = request.body
        return Answer(200)

    def _commit(self, _request: Request, parts: dict[str, str]) -> Answer:
        if parts["hash"] not in self._came:
            return json_answer(404, {"error": "nothing came"})
        return self._take(parts["hash"], self._came.pop(parts["hash"]))

    def _take_xorb(self, request: Request, parts: dict[str, str]) -> Answer:
        return self._take(parts["hash"], request.body)

    def _take(self, name: str, data: bytes) -> Answer:
        try:
            chunks = list(_chunks(data))
        except ValueError as error:
            return json_answer(400, {"error": f"this is no xorb: {error}"})
        self.received += len(data)
        inserted = name not in self._xorbs
        self._xorbs[name] = chunks
        return json_answer(200, {"was_inserted": inserted})

    def _take_shard(self, request: Request, parts: dict[str, str]) -> Answer:
        try:
            for root, terms in _files(request.body):
                whole = b"".join(b"".join(self._xorbs[xorb][first:stop]) for xorb, first, stop in terms)
                content = replace(Content.of(whole), xet_root=root)
                self._storage.uploaded[content.sha256] = content
        except (KeyError, struct.error):
            return json_answer(400, {"error": "a shard that cannot be read, or of xorbs that did not come"})
        if parts["version"] == "2":  # how far it is, line by line
            lines = (
                {"type": "validating", "verified": 1, "total": 1},
                {"type": "committing", "stage": "syncing"},
                {"type": "result"},
            )
            return Answer(
                200, {"Content-Type": "application/x-ndjson"}, b"".join(json.dumps(line).encode() + b"\n" for line in lines)
            )
        return Answer(200, {"Content-Type": "application/json"}, json.dumps({"result": 1}).encode())


def _with_token(answer: Callable[[Request, dict[str, str]], Answer]) -> Callable[[Request, dict[str, str]], Answer]:
    """For those who show a token of this storage."""

    def checked(request: Request, parts: dict[str, str]) -> Answer:
        if not (request.token or "").startswith(XET_TOKEN):
            return json_answer(401, {"error": "no token of this storage"})
        return answer(request, parts)

    return checked


def _signature(parts: dict[str, str]) -> str:
    return hashlib.sha256(f"grant {parts['hash']}".encode()).hexdigest()[:32]


def _files(shard: bytes) -> Iterator[tuple[str, list[tuple[str, int, int]]]]:
    """Of each file its root, and its terms: xorb, first chunk, chunk to stop at."""
    at = _HEAD_BYTES
    while shard[at : at + 32] != _BOOKEND:
        root = xet_text(shard[at : at + 32])
        flags, count = struct.unpack_from("<II", shard, at + 32)
        at += _HEAD_BYTES
        starts = range(at, at + count * _HEAD_BYTES, _HEAD_BYTES)
        yield root, [(xet_text(shard[start : start + 32]), *struct.unpack_from("<II", shard, start + 40)) for start in starts]
        at += count * _HEAD_BYTES * (2 if flags & _WITH_VERIFICATION else 1)
        at += _HEAD_BYTES if flags & _WITH_METADATA else 0


def _chunks(xorb: bytes) -> Iterator[bytes]:
    """A xorb's chunks, until its end or its footer. Raises ValueError."""
    reader = XorbReader()
    reader.feed(xorb)
    for start, stop in pairwise(reader.starts):
        yield unpack(memoryview(xorb)[start:stop])
