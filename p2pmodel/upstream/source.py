"""A hub as a source of chunks: one ranged request for a run, its bytes hashed while they are hot.

A run goes on from its next missing chunk after a broken connection, a 5xx or a stall, through whichever upstream and
location is best then. The place that a hub redirects to is asked for anew each time: such URLs expire, and the hub's
answer says with its ETag whether the content is still the one that was listed.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from random import Random
from typing import Final

import blake3
import structlog
import trio

from p2pmodel.content import Blob, Grade, chunk_size, chunk_start
from p2pmodel.delivery.ports import Location, Order, Sink
from p2pmodel.errors import (
    NotAuthorisedError,
    NotFoundError,
    P2pmodelError,
    RateLimitedError,
    ShortAnswerError,
    SourceError,
    UnavailableError,
    WrongAnswerError,
    WrongBytesError,
)
from p2pmodel.limits import HUB_CONNECT_TIMEOUT_S, HUB_TRIES_MAX, HUB_WAIT_MAX_S, SMALL_RANGE_BYTES
from p2pmodel.upstream.client import Answer, UnreachableError
from p2pmodel.upstream.ways import Way, Ways

log = structlog.get_logger()

_BACKOFF_S: Final = 0.5
_BACKOFF_MAX_S: Final = 8.0
_HASHES: Final = {40: "git-sha1", 64: "sha256"}
_HEX: Final = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class _Choice:
    """One place to read a blob from, with one credential."""

    way: Way
    location: Location
    token: str | None


class _Run:
    """What is left of an order."""

    def __init__(self, order: Order) -> None:
        self.blob = order.blob
        self.next = order.first
        self.stop = order.first + order.count

    @property
    def done(self) -> bool:
        return self.next >= self.stop

    @property
    def span(self) -> tuple[int, int]:
        """Bytes [start, stop) that are still missing."""
        return chunk_start(self.next), min(self.blob.size, chunk_start(self.stop))


class HubSource:
    """Reads a blob's chunks from where `locations` say it is. `limiter` is shared by all bulk reads of the daemon."""

    def __init__(self, ways: Ways, locations: Sequence[Location], *, limiter: trio.CapacityLimiter, rng: Random) -> None:
        self._ways = ways
        self._locations = locations
        self._limiter = limiter
        self._rng = rng

    async def fetch(self, order: Order, sink: Sink) -> None:
        """Raises SourceError, or UnavailableError when no upstream is to be asked (RateLimitedError: not for a while)."""
        run = _Run(order)
        attempts = _Attempts(self._choices(), self._rng)
        while not run.done:
            choice = await attempts.next()
            missing = run.next
            try:
                async with self._limiter:
                    await _read(choice, run, sink)
                choice.way.answered()
            except WrongBytesError:
                raise
            except (RateLimitedError, UnreachableError, NotFoundError, NotAuthorisedError, WrongAnswerError) as error:
                log.info("hub_read_failed", upstream=choice.way.client.upstream.name, blob=str(run.blob.id), reason=str(error))
                choice.way.client.statistics.retries += 1
                await attempts.failed(choice, error, progressed=run.next > missing)

    def _choices(self) -> list[_Choice]:
        choices: list[_Choice] = []
        nowhere: UnavailableError | None = None
        for location in self._locations:
            try:
                ways = self._ways.to(location.repo.hub)
            except UnavailableError as error:  # the blob may be known on another hub as well
                nowhere = error
                continue
            for way in ways:
                upstream = way.client.upstream
                # Who may have the file was asked before; a stale token must not keep public content from anybody.
                own = [token for token in (upstream.client_token(location.access), upstream.token) if token]
                choices += [_Choice(way, location, token) for token in (*own, None)]
        if not choices:
            raise nowhere or UnavailableError("No hub is known to have this file.")
        return choices


class _Attempts:
    """Which choice is next, after how long, and when to give up."""

    def __init__(self, choices: list[_Choice], rng: Random) -> None:
        self._choices = choices
        self._rng = rng
        self._failures = 0  # without progress in between
        self._asked_at = 0.0
        self._silent_since: float | None = None  # nothing at all was heard from then on
        self._rests: dict[_Choice, float] = {}

    async def next(self) -> _Choice:
        """The best choice, once its host's patience is over. Raises RateLimitedError if that takes too long."""
        now = trio.current_time()
        best = min(self._choices, key=lambda choice: (self._rested(choice) > now, choice.way.down))
        seconds = self._rested(best) - now
        if seconds > HUB_WAIT_MAX_S:
            raise RateLimitedError(
                f"{best.way.client.home.authority} asks for {seconds:.0f} s of patience", retry_after_s=seconds
            )
        if seconds > 0:
            best.way.client.statistics.waits_s += seconds
            await trio.sleep(seconds + self._rng.uniform(0, 0.5))  # the cluster was told the same moment
        self._asked_at = trio.current_time()
        return best

    async def failed(self, choice: _Choice, error: P2pmodelError, *, progressed: bool) -> None:
        """Take note; wait before the next try where that helps. Raises SourceError or RateLimitedError to give up."""
        if progressed:
            self._failures, self._silent_since = 0, None
        if isinstance(error, RateLimitedError):
            self._failures += 1
            self._rests[choice] = trio.current_time() + error.retry_after_s
            if self._failures >= HUB_TRIES_MAX:
                raise error
        elif isinstance(error, UnreachableError):
            await self._broken(choice, error)
        else:
            self._choices.remove(choice)
            if not self._choices:
                raise error if isinstance(error, SourceError) else SourceError(str(error)) from error

    async def _broken(self, choice: _Choice, error: UnreachableError) -> None:
        now = trio.current_time()
        self._failures += 1
        if error.gone:
            choice.way.gone(str(error))
            self._silent_since = self._silent_since or self._asked_at
        else:
            self._silent_since = None
        pause = min(_BACKOFF_MAX_S, _BACKOFF_S * 2 ** (self._failures - 1)) * self._rng.uniform(0.5, 1.5)
        if any(not other.way.down for other in self._choices if other is not choice):
            pause = 0.0  # another upstream is there: no reason to wait
        silent_s = 0.0 if self._silent_since is None else now + pause - self._silent_since
        if silent_s > HUB_CONNECT_TIMEOUT_S or self._failures >= HUB_TRIES_MAX:
            raise ShortAnswerError(str(error)) from error
        await trio.sleep(pause)

    def _rested(self, choice: _Choice) -> float:
        return max(self._rests.get(choice, 0.0), choice.way.client.resting_until)


async def _read(choice: _Choice, run: _Run, sink: Sink) -> None:
    """One request for all that is missing; moves `run` on chunk by chunk."""
    client, dialect, location = choice.way.client, choice.way.dialect, choice.location
    start, stop = run.span
    target = dialect.file_target(location.repo, location.commit, location.path)
    headers = [("Range", f"bytes={start}-{stop - 1}")]
    async with client.open("GET", target, token=choice.token, headers=headers) as answer:
        if answer.status not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
            what = f"{location.path} of {location.repo}"
            raise dialect.refusal(what, answer.status, answer.headers, had_token=choice.token is not None)
        skip = _check(answer, run.blob, start, stop)
        sink.answered_by(client.upstream.name)
        grade = Grade.OWN if client.upstream.vouches else Grade.HEARSAY
        async with aclosing(answer.pieces()) as pieces:
            body = _Body(pieces)
            await body.skip(skip)
            while not run.done:
                await _receive(body, run, sink, grade)
                client.statistics.file_bytes[client.upstream.name] += chunk_size(run.blob.size, run.next)
                run.next += 1
            if skip + stop - start == int(answer.headers.get("content-length", -1)):
                await body.end()  # so that the connection can be used again


async def read_piece(way: Way, location: Location, blob: Blob, start: int, stop: int, token: str | None) -> bytes:
    """A few bytes of a file. Raises WrongAnswerError where the hub does not keep to the range."""
    client, dialect = way.client, way.dialect
    target = dialect.file_target(location.repo, location.commit, location.path)
    async with client.open("GET", target, token=token, headers=[("Range", f"bytes={start}-{stop - 1}")]) as answer:
        if answer.status != HTTPStatus.PARTIAL_CONTENT:
            what = f"{location.path} of {location.repo}"
            raise dialect.refusal(what, answer.status, answer.headers, had_token=token is not None)
        _check(answer, blob, start, stop)
        data = await answer.read(stop - start)
    if len(data) != stop - start:
        raise UnreachableError("the hub sent less than it promised")
    client.statistics.file_bytes[client.upstream.name] += len(data)
    return data


async def _receive(body: _Body, run: _Run, sink: Sink, grade: Grade) -> None:
    async with sink.buffer() as buffer:
        data = buffer[: chunk_size(run.blob.size, run.next)]
        hasher = blake3.blake3()
        filled = allowed = 0
        while filled < len(data):
            if filled == allowed:
                allowed += await sink.allow(len(data) - filled)
            piece = await body.take(allowed - filled)
            data[filled : filled + len(piece)] = piece
            hasher.update(piece)
            filled += len(piece)
            sink.progress(len(piece))
        await sink.arrived(run.next, data, hasher.digest(), claimed=None, grade=grade)


class _Body:
    """A body's bytes, as many as are wanted."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")

    async def take(self, count: int) -> memoryview:
        """Between one byte and `count`. Raises UnreachableError when there is none."""
        while not self._piece:
            try:
                self._piece = memoryview(await anext(self._pieces))
            except StopAsyncIteration:
                raise UnreachableError("the hub sent less than it promised") from None
        taken, self._piece = self._piece[:count], self._piece[count:]
        return taken

    async def skip(self, count: int) -> None:
        while count:
            count -= len(await self.take(count))

    async def end(self) -> None:
        async for _ in self._pieces:
            return


def _check(answer: Answer, blob: Blob, start: int, stop: int) -> int:
    """How many bytes of the body come before those that were asked for. Raises WrongAnswerError."""
    host = answer.url.authority
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise WrongAnswerError(f"{host} sent encoded bytes, which were not asked for")
    stated = _stated_hash(answer)
    if _HASHES.get(len(stated)) == blob.id.algorithm and stated != blob.id.hex:
        raise WrongAnswerError(f"{host} has other content there now than {blob.id}")
    length = answer.headers.get("content-length")
    if answer.status == HTTPStatus.PARTIAL_CONTENT:
        expected = f"bytes {start}-{stop - 1}/{blob.size}"
        if answer.headers.get("content-range") != expected or length not in {None, str(stop - start)}:
            raise WrongAnswerError(f"{host} sent another range than the one asked for")
        return 0
    if length != str(blob.size) or start > SMALL_RANGE_BYTES:
        raise WrongAnswerError(f"{host} sent the whole file, or another one, where a range was asked for")
    return start


def _stated_hash(answer: Answer) -> str:
    """What the hub itself names the content by, "" where it does not. A storage host's ETag is of another kind."""
    etag = answer.stated.get("x-linked-etag") or answer.stated.get("etag", "")
    named = etag.removeprefix("W/").strip('"')
    return named if _HEX.fullmatch(named) else ""
