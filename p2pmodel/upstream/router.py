"""The `Upstreams` port: which upstream is asked now, with which credential, and what its failures mean."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from random import Random
from types import MappingProxyType, TracebackType
from typing import Final, Self, TypeVar

import structlog
import trio

from p2pmodel.content import Access, Blob, Hub, Repo, Snapshot
from p2pmodel.delivery.ports import HubAnswer, HubRequest, Location, Source
from p2pmodel.errors import (
    ConfigError,
    NotAuthorisedError,
    NotFoundError,
    P2pmodelError,
    RateLimitedError,
    UnavailableError,
    WrongAnswerError,
)
from p2pmodel.limits import HUB_CONNECT_TIMEOUT_S, HUB_CONNECTIONS, HUB_ROOT_TIMEOUT_S
from p2pmodel.upstream.client import Client, UnreachableError
from p2pmodel.upstream.connection import Wires
from p2pmodel.upstream.dialect import Dialect
from p2pmodel.upstream.endpoint import Upstream
from p2pmodel.upstream.huggingface import HuggingFace
from p2pmodel.upstream.modelscope import ModelScope
from p2pmodel.upstream.passing import answer_headers, carries_credential, request_headers
from p2pmodel.upstream.patience import Patience
from p2pmodel.upstream.proxies import Proxies
from p2pmodel.upstream.source import HubSource, read_piece
from p2pmodel.upstream.statistics import Statistics
from p2pmodel.upstream.twins import Twins
from p2pmodel.upstream.url import Url
from p2pmodel.upstream.ways import Way, Ways

log = structlog.get_logger()
T = TypeVar("T")

_DIALECTS: Final[dict[Hub, Dialect]] = {Hub.HUGGINGFACE: HuggingFace(), Hub.MODELSCOPE: ModelScope()}
_QUICKLY_S: Final = 0.5  # a failure that came so fast leaves time for a second try
_NOT_SHOWN: Final = "It was shown no token: only an [[upstream]] with trusted = true is (docs/hubs.md)."


def _nobody(host: str, seconds: float) -> None:
    pass


class Router:
    """Open it with ``async with``: leaving closes every connection.

    `on_busy(host, seconds)` is told when a hub itself asks for patience. `environment` names the proxies. `own_ports` are
    the gateway's, which an upstream must not lead back to. `aliases` are repos that are the same on both hubs.
    Raises ConfigError.
    """

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        *,
        rng: Random,
        offline: bool = False,
        on_busy: Callable[[str, float], None] = _nobody,
        aliases: Sequence[tuple[Repo, Repo]] = (),
        connections: int = HUB_CONNECTIONS,
        environment: Mapping[str, str] = MappingProxyType({}),
        own_ports: Collection[int] = (),
        wires: Wires = Wires(),  # noqa: B008  # frozen
    ) -> None:
        names = [upstream.name for upstream in upstreams]
        if len(set(names)) != len(names):
            raise ConfigError("Two upstreams have the same name.", next_step="Rename one of them in [[upstream]].")
        self.statistics = Statistics()
        self._patience = Patience(on_busy)
        self._rng = rng
        self._limiter = trio.CapacityLimiter(connections)
        proxies = Proxies(environment)
        hubs = [upstream.hub for upstream in upstreams]
        ways = []
        for upstream in upstreams:
            upstream.refuse_own_gateway(own_ports)
            dialect = _DIALECTS[upstream.hub]
            client = Client(
                upstream,
                credentials=dialect.credentials,
                patience=self._patience,
                statistics=self.statistics,
                proxies=proxies,
                wires=wires,
                connect_timeout_s=HUB_CONNECT_TIMEOUT_S / hubs.count(upstream.hub),  # all of a hub's upstreams together
            )
            ways.append(Way(client, dialect))
        self._ways = Ways(ways, offline=offline)
        self._twins = Twins(aliases, self.snapshot)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True):  # closing says goodbye to nobody: it does not wait
            for way in self._ways:
                await way.client.aclose()

    @property
    def connections(self) -> int:
        """Bulk reads under way."""
        return self._limiter.borrowed_tokens

    def resize(self, connections: int) -> None:
        """So many bulk reads at once from now on."""
        self._limiter.total_tokens = connections

    # The port

    async def snapshot(self, repo: Repo, revision: str, access: Access) -> Snapshot:
        async def ask(way: Way) -> Snapshot:
            listing, anonymous = await _least(way, access, lambda token: way.dialect.listing(way.client, repo, revision, token))
            try:
                public = anonymous and listing.open
                return Snapshot(repo, listing.commit, listing.files, listing.entries, public=public, info=listing.info)
            except ValueError as error:
                raise WrongAnswerError(f"The hub's listing of {repo} cannot be right: {error}") from None

        return await self._ask_as(access, repo.hub, ask)

    async def commit(self, repo: Repo, revision: str, access: Access) -> tuple[str, bool]:
        async def ask(way: Way) -> tuple[str, bool]:
            answer = await _least(way, access, lambda token: way.dialect.commit(way.client, repo, revision, token))
            (commit, opened), anonymous = answer
            return commit, anonymous and opened

        return await self._ask_as(access, repo.hub, ask)

    async def info(self, repo: Repo, revision: str, access: Access) -> bytes:
        async def ask(way: Way) -> bytes:
            return (await _least(way, access, lambda token: way.dialect.info(way.client, repo, revision, token)))[0]

        return await self._ask_as(access, repo.hub, ask)

    async def revisions(self, repo: Repo, access: Access) -> tuple[bytes, bool]:
        async def ask(way: Way) -> tuple[bytes, bool]:
            return await _least(way, access, lambda token: way.dialect.revisions(way.client, repo, token))

        return await self._ask_as(access, repo.hub, ask)

    async def may_read(self, location: Location) -> bool:
        async def ask(way: Way) -> bool:
            token = way.client.upstream.client_token(location.access)
            return await way.dialect.may_read(way.client, location.repo, location.commit, location.path, token)

        return await self._ask(location.repo.hub, ask, self._with_credentials(location.repo.hub))

    async def xet_root(self, locations: Sequence[Location], blob: Blob) -> bytes | None:
        with trio.move_on_after(HUB_ROOT_TIMEOUT_S):
            for location in locations:
                if root := await self._xet_root(location, blob):
                    return root
        return None

    async def _xet_root(self, location: Location, blob: Blob) -> bytes | None:
        async def ask(way: Way) -> bytes | None:
            token = way.client.upstream.client_token(location.access)
            return await way.dialect.xet_root(way.client, location.repo, location.commit, location.path, token, blob)

        hub = location.repo.hub
        try:
            ways = [way for way in self._ways.to(hub) if way.client.upstream.vouches]  # a mirror's word proves nothing
            return await self._ask(hub, ask, ways) if ways else None
        except P2pmodelError as error:
            log.info("xet_root_unknown", blob=str(blob.id), reason=type(error).__name__)
            return None

    async def read_range(self, location: Location, blob: Blob, start: int, stop: int) -> bytes:
        async def ask(way: Way) -> bytes:
            token = way.client.upstream.client_token(location.access)
            return await read_piece(way, location, blob, start, stop, token)

        return await self._ask(location.repo.hub, ask, self._with_credentials(location.repo.hub))

    def source(self, locations: Sequence[Location]) -> Source:
        return HubSource(self._ways, locations, twins=self._twins, limiter=self._limiter, rng=self._rng)

    def rested_until(self, hub: Hub) -> float:
        return min((way.client.resting_until for way in self._ways if way.hub is hub), default=0.0)

    def rest(self, host: str, seconds: float) -> None:
        """Only hosts that are configured here: a peer cannot fill the memory with others, nor rest one for long."""
        if any(way.client.home.authority == host for way in self._ways):
            self._patience.hearsay(host, seconds)

    async def pass_on(self, request: HubRequest) -> AbstractAsyncContextManager[HubAnswer]:
        self._ways.to(request.hub)
        return self._passing(request)

    @asynccontextmanager
    async def _passing(self, request: HubRequest) -> AsyncIterator[HubAnswer]:
        async with AsyncExitStack() as stack:

            async def ask(way: Way) -> HubAnswer:
                url = _upload_url(request.url, way.client.home) if request.url else way.client.at(request.target)
                if url.origin != way.client.home.origin:
                    way.client.check_leads_out(url)
                headers = request_headers(request, way.client)
                way.client.check_patience(url)
                exchange = way.client.exchange(request.method, url, headers, request.body, patient=not reads)
                answer = await stack.enter_async_context(exchange)
                body = await stack.enter_async_context(aclosing(answer.pieces()))
                return HubAnswer(answer.status, answer_headers(answer, way.client), body, str(way.client.home).rstrip("/"))

            reads = request.body is None and request.method in {"GET", "HEAD", "OPTIONS"}
            ways = self._ways.to(request.hub)
            if not reads or carries_credential(request):
                ways = self._with_credentials(request.hub)
            if reads:
                yield await self._ask(request.hub, ask, ways)
            else:  # what changes the hub is asked once
                yield await ask(ways[0])

    # Asking one upstream after the other

    async def _ask_as(self, access: Access, hub: Hub, ask: Callable[[Way], Awaitable[T]]) -> T:
        """A mirror's no to somebody with a token is not the hub's."""
        try:
            return await self._ask(hub, ask)
        except (NotFoundError, NotAuthorisedError) as refused:
            if access.token is None or self._ways.to(hub)[0].client.upstream.vouches:
                raise
            if not any(way.client.upstream.vouches for way in self._ways.to(hub)):
                refused.next_step = _NOT_SHOWN
                raise
        return await self._ask(hub, ask, self._with_credentials(hub))

    def _with_credentials(self, hub: Hub) -> list[Way]:
        """A mirror gets no credential, so its answer is one for strangers."""
        ways = self._ways.to(hub)
        return [way for way in ways if way.client.upstream.vouches] or ways

    async def _ask(self, hub: Hub, ask: Callable[[Way], Awaitable[T]], ways: Sequence[Way] = ()) -> T:
        """The first definite answer. An upstream that fails fast is tried twice; all together fail within 5 s if gone."""
        begun = trio.current_time()
        ways = ways or self._ways.to(hub)
        trouble: P2pmodelError | None = None
        for way in ways:
            if way.down:
                trouble = trouble or UnavailableError(way.trouble)
                continue
            try:
                answer = await self._ask_one(way, ask, begun)
            except (RateLimitedError, UnreachableError, WrongAnswerError) as error:
                trouble = error
                log.info("upstream_failed", upstream=way.client.upstream.name, reason=str(error))
                self.statistics.failovers += way is not ways[-1]
            else:
                return answer
        assert trouble is not None
        if isinstance(trouble, RateLimitedError):
            raise trouble
        hint = trouble.next_step or "Check this node's connection to the hub."
        raise UnavailableError(str(trouble), next_step=hint) from trouble

    async def _ask_one(self, way: Way, ask: Callable[[Way], Awaitable[T]], begun: float) -> T:
        try:
            try:
                answer = await ask(way)
            except UnreachableError:
                if trio.current_time() - begun > _QUICKLY_S:
                    raise
                self.statistics.retries += 1
                await trio.sleep(self._rng.uniform(0.05, 0.2))
                answer = await ask(way)
        except UnreachableError as error:
            if error.gone:
                way.gone(str(error))
            raise
        way.answered()
        return answer


def _upload_url(text: str, home: Url) -> Url:
    """Where a hub sends an upload. Raises WrongAnswerError for what is no plain web address, or less safe than the hub."""
    try:
        url = Url.parse(text)
    except ValueError:
        raise WrongAnswerError("The hub sends an upload to what is no plain web address.") from None
    if home.scheme == "https" and url.scheme != "https":
        raise WrongAnswerError("The hub sends an upload from https to http.")
    return url


async def _least(way: Way, access: Access, ask: Callable[[str | None], Awaitable[T]]) -> tuple[T, bool]:
    """Ask without a credential first: only so is it known what is public. The answer, and whether it took none."""
    try:
        return await ask(None), True
    except (NotFoundError, NotAuthorisedError):
        token = way.client.upstream.client_token(access)
        if token is None:
            raise
    return await ask(token), False
