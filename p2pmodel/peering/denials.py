"""Deny lists among the members of a hardened cluster: each heartbeat names the one that its sender has, and whoever has an
older one asks for it. So a node that one member denies is out everywhere a few heartbeats later.

In a closed cluster there are none: every member has its authority's key, and could sign one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import structlog
import trio

from p2pmodel.content import NodeId
from p2pmodel.errors import SourceError
from p2pmodel.limits import (
    ANSWER_TIMEOUT_S,
    CATCH_UPS_AT_ONCE_MAX,
    DENY_LIST_PAGE_BYTES_MAX,
    DENY_LIST_RETRY_S,
    LINKS_MAX,
)
from p2pmodel.peering.deny_list import DenyList
from p2pmodel.peering.link import Link
from p2pmodel.wire.messages import AskDenyList, DenyListPage, Message, Problem
from p2pmodel.wire.packed import pages

log = structlog.get_logger()


class Denying(Protocol):
    """Who judges the lists (`LiveMembership`)."""

    @property
    def deny_list(self) -> DenyList: ...

    async def learn(self, document: bytes) -> bool:
        """Raises ValueError unless it is a list of the cluster's authority."""


class Denials:
    """Without a judge there are no lists, and none is asked for."""

    def __init__(self, judge: Denying | None = None) -> None:
        self._judge = judge
        self._asking = trio.CapacityLimiter(CATCH_UPS_AT_ONCE_MAX)
        self._not_before: dict[NodeId, float] = {}

    def number(self) -> bytes:
        """As our heartbeats name it."""
        return self._judge.deny_list.told_number if self._judge else b""

    def heard(self, link: Link, number: bytes) -> None:
        """A peer's heartbeat named the list that it has."""
        now = trio.current_time()
        if self._behind(number) and self._not_before.get(link.peer, -math.inf) <= now:
            if len(self._not_before) > LINKS_MAX:
                self._not_before.clear()
            self._not_before[link.peer] = now + DENY_LIST_RETRY_S
            link.start(self._ask, link, number)

    def _behind(self, number: bytes) -> bool:
        return self._judge is not None and int.from_bytes(number) > max(self._judge.deny_list.number, 0)

    async def _ask(self, link: Link, number: bytes) -> None:
        async with self._asking:
            if self._judge is None or not self._behind(number):  # another peer was quicker
                self._not_before.pop(link.peer, None)
                return
            try:
                with trio.fail_after(ANSWER_TIMEOUT_S):
                    answer = await link.ask(AskDenyList(request=1))
                if await self._judge.learn(b"".join(page.data for page in answer if isinstance(page, DenyListPage))):
                    self._not_before.pop(link.peer, None)
            except (SourceError, ValueError, trio.TooSlowError) as error:
                log.info("deny_list.not_learnt", peer=link.peer, why=str(error))

    def answer(self, question: AskDenyList) -> Sequence[Message]:
        document = self._judge.deny_list.document if self._judge else b""
        if not document:
            return [Problem(request=question.request, code="not_held")]
        return [
            DenyListPage(request=question.request, data=page, last=last)
            for _, page, last in pages(document, DENY_LIST_PAGE_BYTES_MAX)
        ]
