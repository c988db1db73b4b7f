"""A hub as a source of chunks: one ranged request for a run, its bytes hashed while they are hot.

A run goes on from its next missing chunk after a broken connection, a 5xx or a stall, through whichever upstream and
location is best then. The place that a hub redirects to is asked for anew each time: such URLs expire, and the hub's
answer says with its ETag whether the content is still the one that was listed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from http import HTTPStatus
from random import Random
from typing import Final

import blake3
import structlog
import trio

from p2pmodel.content import Blob, Grade, Repo, chunk_size, chunk_start
from p2pmodel.delivery.ports import Location, Order, Sink
from p2pmodel.errors import (
    NotAuthorisedError,
    NotFoundError,
    RateLimitedError,
    UnavailableError,
    WrongAnswerError,
    WrongBytesError,
)
from p2pmodel.limits import (
    HUB_SLOW_AFTER_S,
    HUB_SLOW_BYTES_S,
    MIB,
    REST_S,
    SMALL_RANGE_BYTES,
)
from p2pmodel.upstream.attempts import Attempts, Choice
from p2pmodel.upstream.client import Answer, UnreachableError
from p2pmodel.upstream.twins import Twins
from p2pmodel.upstream.ways import Way, Ways

log = structlog.get_logger()

_TELLING_BYTES: Final = 4 * MIB  # so many say how fast an upstream is, however soon they came
_HASHES: Final = {40: "git-sha1", 64: "sha256"}


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


class _Dawdling(UnreachableError):  # noqa: N818  # no failure: somebody else may be faster
    """Bytes come too slowly, and another upstream may have them."""


class HubSource:
    """Reads a blob's chunks from where `locations` say it is, or `twins` of those repos have it. `limiter` is shared by all
    bulk reads of the daemon.

    What a mirror gives is believed when the whole file's hash is right, and so is what a hub gives without naming it by that
    very hash: the listing that sent us there may be a mirror's or a member's, and lie. A chunk that is asked for again was
    doubted, so it is read from an upstream that vouches, where there is one, and the two answers show whether the mirror lied.
    """

    def __init__(
        self, ways: Ways, locations: Sequence[Location], *, twins: Twins, limiter: trio.CapacityLimiter, rng: Random
    ) -> None:
        self._ways = ways
        self._locations = locations
        self._twins = twins
        self._limiter = limiter
        self._rng = rng
        self._gave: dict[int, tuple[Way, bytes]] = {}  # chunk → which mirror gave it last, and its digest

    async def fetch(self, order: Order, sink: Sink) -> None:
        """Raises SourceError, or UnavailableError when no upstream is to be asked (RateLimitedError: not for a while)."""
        run = _Run(order)
        doubted = {self._gave[chunk][0] for chunk in range(run.next, run.stop) if chunk in self._gave}
        search = _Search(self, order.blob)
        attempts = Attempts(await search.begin(), self._rng, doubted)
        while not run.done:
            choice = await attempts.next()
            missing = run.next
            try:
                async with self._limiter:
                    await _read(choice, run, sink, self._gave, others=[*attempts.others(choice), *search.others])
                choice.way.answered()
            except WrongBytesError:
                raise
            except (RateLimitedError, UnreachableError, NotFoundError, NotAuthorisedError, WrongAnswerError) as error:
                log.info("hub_read_failed", upstream=choice.way.client.upstream.name, blob=str(run.blob.id), reason=str(error))
                choice.way.client.statistics.retries += 1
                if isinstance(error, _Dawdling):
                    choice.way.client.health.dawdled(trio.current_time())
                attempts.add(await search.go_on())
                await attempts.failed(choice, error, progressed=run.next > missing)

    def choices(self, locations: Sequence[Location]) -> list[Choice]:
        choices: list[Choice] = []
        nowhere: UnavailableError | None = None
        for location in locations:
            try:
                ways = self._ways.to(location.repo.hub)
            except UnavailableError as error:  # the blob may be known on another hub as well
                nowhere = error
                continue
            for way in ways:
                upstream = way.client.upstream
                # Who may have the file was asked before; a stale token must not keep public content from anybody.
                own = [token for token in (upstream.client_token(location.access), upstream.token) if token]
                choices += [Choice(way, location, token) for token in (*own, None)]
        if not choices:
            raise nowhere or UnavailableError("No hub is known to have this file.")
        return choices

    def other_hub_first(self) -> bool:
        """Whether an upstream of a twin's hub is the one to ask: it comes first as configured, or all others are unwell."""
        own, others = self._own_ways(), self.other_ways()
        if not own or not others:
            return bool(others)
        priorities = [min(way.client.upstream.priority for way in ways) for ways in (own, others)]
        return priorities[1] < priorities[0] or all(way.unwell for way in own)

    def _own_ways(self) -> list[Way]:
        hubs = {location.repo.hub for location in self._locations}
        return [way for way in self._ways if way.hub in hubs]

    def other_ways(self) -> list[Way]:
        """To hubs where only twins are."""
        hubs = {twin.hub for twin in self.twins}
        own = self._own_ways()
        return [way for way in self._ways if way.hub in hubs and way not in own]

    @property
    def locations(self) -> Sequence[Location]:
        return self._locations

    @property
    def twins(self) -> list[Repo]:
        return [twin for location in self._locations for twin in self._twins.of(location.repo)]

    async def elsewhere(self, blob: Blob) -> list[Choice]:
        """Where the twins have it."""
        locations = await self._twins.locations(blob, [location.repo for location in self._locations])
        try:
            return self.choices(locations) if locations else []
        except UnavailableError:
            return []


class _Search:
    """The other hub is asked for its listing when that may help, and once an order."""

    def __init__(self, source: HubSource, blob: Blob) -> None:
        self._source = source
        self._blob = blob
        self.unfinished = bool(source.twins)

    @property
    def others(self) -> list[Way]:
        """Upstreams that may have it, as far as nobody has looked."""
        return self._source.other_ways() if self.unfinished else []

    async def begin(self) -> list[Choice]:
        """Raises UnavailableError when there is nobody to ask."""
        early = await self.go_on() if self._source.other_hub_first() else []
        try:
            return [*self._source.choices(self._source.locations), *early]
        except UnavailableError:
            if not early:
                raise
            return early

    async def go_on(self) -> list[Choice]:
        if not self.unfinished:
            return []
        self.unfinished = False
        return await self._source.elsewhere(self._blob)


async def _read(choice: Choice, run: _Run, sink: Sink, gave: dict[int, tuple[Way, bytes]], *, others: Sequence[Way]) -> None:
    """One request for all that is missing; moves `run` on chunk by chunk. Raises _Dawdling where one of `others` had better
    be asked."""
    client, dialect, location = choice.way.client, choice.way.dialect, choice.location
    start, stop = run.span
    target = dialect.file_target(location.repo, location.commit, location.path)
    headers = [("Range", f"bytes={start}-{stop - 1}")]
    client.check_rest()
    async with client.open("GET", target, token=choice.token, headers=headers) as answer:
        if answer.status not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
            what = f"{location.path} of {location.repo}"
            raise dialect.refusal(what, answer.status, answer.headers, had_token=choice.token is not None)
        skip = _check(answer, run.blob, start, stop)
        sink.answered_by(client.upstream.name)
        own = client.upstream.vouches and answer.stated_hash == run.blob.id.hex
        grade = Grade.OWN if own else Grade.MIRROR
        async with aclosing(answer.pieces()) as pieces:
            body = _Body(pieces, choice.way, others)
            await body.skip(skip)
            while not run.done:
                digest = await _receive(body, run, sink, grade)
                _compare(choice.way, gave, run.next, digest, own=own)
                client.statistics.file_bytes[client.upstream.name] += chunk_size(run.blob.size, run.next)
                run.next += 1
            if skip + stop - start == int(answer.headers.get("content-length", -1)):
                await body.end()  # so that the connection can be used again


async def read_piece(way: Way, location: Location, blob: Blob, start: int, stop: int, token: str | None) -> bytes:
    """A few bytes of a file. Raises WrongAnswerError where the hub does not keep to the range."""
    client, dialect = way.client, way.dialect
    target = dialect.file_target(location.repo, location.commit, location.path)
    async with client.open("GET", target, token=token, headers=[("Range", f"bytes={start}-{stop - 1}")]) as answer:
        if answer.status not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
            what = f"{location.path} of {location.repo}"
            raise dialect.refusal(what, answer.status, answer.headers, had_token=token is not None)
        if answer.status == HTTPStatus.OK and blob.size > SMALL_RANGE_BYTES:
            raise WrongAnswerError(f"{answer.url.authority} sent the whole file where a range was asked for")
        skip = _check(answer, blob, start, stop)
        whole = answer.status == HTTPStatus.OK
        data = (await answer.read(blob.size if whole else stop - start))[skip : skip + stop - start]
    if len(data) != stop - start:
        raise UnreachableError("the hub sent less than it promised")
    client.statistics.file_bytes[client.upstream.name] += len(data)
    return data


async def _receive(body: _Body, run: _Run, sink: Sink, grade: Grade) -> bytes:
    """The digest of the chunk that came."""
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
        return hasher.digest()


def _compare(way: Way, gave: dict[int, tuple[Way, bytes]], chunk: int, digest: bytes, *, own: bool) -> None:
    """Remember what a mirror gave; what the hub itself gives for the same chunk shows whether that was true."""
    if not way.client.upstream.vouches:
        gave[chunk] = (way, digest)
    elif own and chunk in gave:
        mirror, given = gave.pop(chunk)
        if given != digest:
            log.warning("upstream_lied", upstream=mirror.client.upstream.name, rests_s=REST_S)
            mirror.client.health.lied(trio.current_time())


class _Body:
    """A body's bytes, as many as are wanted, of an upstream that `others` may be faster than."""

    def __init__(self, pieces: AsyncIterator[bytes], way: Way, others: Sequence[Way]) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")
        self._way = way
        self._others = others
        self._waited_s = 0.0
        self._came = 0

    async def take(self, count: int) -> memoryview:
        """Between one byte and `count`. Raises UnreachableError when there is none."""
        while not self._piece:
            begun = trio.current_time()
            try:
                self._piece = memoryview(await anext(self._pieces))
            except StopAsyncIteration:
                raise UnreachableError("the hub sent less than it promised") from None
            self._time(trio.current_time() - begun)
        taken, self._piece = self._piece[:count], self._piece[count:]
        return taken

    def _time(self, waited_s: float) -> None:
        """Waiting for the hub counts; that we wait for room under our own limit does not."""
        self._waited_s += waited_s
        self._came += len(self._piece)
        if self._waited_s > HUB_SLOW_AFTER_S or self._came > _TELLING_BYTES:
            rate = self._came / max(self._waited_s, 1e-6)
            self._way.client.health.moved(rate, trio.current_time())
            if rate < HUB_SLOW_BYTES_S and any(way.may_beat(rate) for way in self._others):
                raise _Dawdling(f"{self._way.client.home.authority} is slow")
            self._waited_s, self._came = 0.0, 0

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
    stated = answer.stated_hash
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
