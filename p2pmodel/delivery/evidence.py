"""What peers show us against a signer, of blobs that nobody here is fetching: held against what we know, never believed."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import structlog
import trio

from p2pmodel.content import Attestation, Blob, BlobId
from p2pmodel.delivery.court import Court, contradict
from p2pmodel.delivery.ports import BlobState, Surroundings
from p2pmodel.delivery.shelf import Shelf
from p2pmodel.errors import StoreError
from p2pmodel.wire.messages import Attest

_WAITING_MAX: Final = 64  # whoever lies goes on lying, and will be found out

log = structlog.get_logger()


class Evidence:
    def __init__(self, around: Surroundings, court: Court, shelf: Shelf) -> None:
        self._around = around
        self._court = court
        self._shelf = shelf
        self._waiting: trio.MemorySendChannel[tuple[Attest, BlobState | None]]
        self._waiting, self._to_judge = trio.open_memory_channel[tuple[Attest, BlobState | None]](_WAITING_MAX)

    def shown(self, message: Attest, here: BlobState | None) -> None:
        """`here`: the sealed blob, if we have it."""
        try:
            self._waiting.send_nowait((message, here))
        except trio.WouldBlock:
            return

    async def run(self) -> None:
        async for message, here in self._to_judge:
            blob = Blob(BlobId.from_bytes(message.blob), message.size)
            words = [word for word in Attestation.take_all(message.words) if self._counts(word, blob)]
            for one, other in pairwise(words):
                if contradict(one, other):
                    self._court.contradicted(one, other)
            if here is not None and here.blob.size == blob.size:
                await self._hold_against(here, blob, words)

    def _counts(self, word: Attestation, blob: Blob) -> bool:
        standing = self._around.standing
        if standing.is_pardoned(word.node, trio.current_time()) or self._court.convicted(word.node):
            return False
        return word.accountable and standing.is_member(word.node) and word.refusal(blob, self._around.circle()) is None

    async def _hold_against(self, here: BlobState, blob: Blob, words: list[Attestation]) -> None:
        try:
            async with self._shelf.borrow(here.blob, private=here.private) as stored:
                for word in words:
                    known = [(index, stored.digest(index)) for index in word.chunks] if stored.sealed else []
                    false = [index for index, digest in known if digest and digest != word.digest(index)]
                    if false:
                        self._court.convict(word, self._court.sign(stored, blob, false[0]))
        except StoreError as error:
            log.info("evidence_unread", reason=str(error))
