"""Whose a blob is. What a hub gives to a stranger is everybody's, and nothing else is (DESIGN §9.5).

That a listing names a blob is no more than a word: the hashes of gated files stand in every such repo's own listing, and who
owns another repo, mirrors a hub, or is asked as a member while the hub is silent may write them into his. So a blob changes
sides in two cases only:

* it is private here, and somebody wants it as everybody's: the hub has to give us a part of it, at a place that we choose by
  chance, without any token;
* it was begun as everybody's and is not whole, and somebody wants it by a token of their own: what is here of it is withdrawn,
  and whoever follows it asks again, for what that token brings must not land where everybody reads.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

import structlog
import trio

from p2pmodel.content import Access, Blob, BlobId, chunk_size, chunk_start
from p2pmodel.delivery.once import Once
from p2pmodel.delivery.ports import Location, StoredBlob, Surroundings
from p2pmodel.errors import GatedRepoError, UnavailableError
from p2pmodel.limits import DISCLOSED_MAX, DISCLOSURE_BYTES, DISCLOSURE_WAIT_S, KIB

_LOOK_S: Final = 0.1
_WHOLE_BYTES: Final = 16 * KIB  # so small a file is compared as it is

log = structlog.get_logger()


class Disclosure:
    """`on_withdrawn` is told which blob is private from now on."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._given: OrderedDict[BlobId, None] = OrderedDict()  # seen to be given to strangers, in this run
        self._once = Once()
        self.on_withdrawn: Callable[[BlobId], None] = lambda _blob: None

    def fits(self, stored: StoredBlob, *, private: bool) -> bool:
        """Whether an open blob may be used as it is by somebody whom a hub gave it by a token (`private`), or by anybody."""
        if not private:
            return not stored.private
        return stored.private or stored.sealed or stored.seal is not None or stored.blob.id in self._given

    async def fit(self, stored: StoredBlob, blob: Blob, location: Location | None, *, private: bool) -> None:
        """Make it so. `blob` is what `location` calls it. Raises GatedRepoError and what the hub says, UnavailableError."""
        while not self.fits(stored, private=private):
            if private:
                await self._withdraw(stored)
            else:
                await self._once.ask((stored.blob.id, location), partial(self._publish, stored, blob, location))

    async def check(self, blob: Blob, location: Location | None) -> None:
        """Before anything is told of a blob that a listing calls everybody's: it is not private here, or the hub gives it."""
        state = self._around.store.find(blob.id)
        if state is None or not state.private:
            return
        stored = await self._around.blocking(partial(self._around.store.open, state.blob, private=True))
        try:
            await self.fit(stored, blob, location, private=False)
        finally:
            with trio.CancelScope(shield=True):
                await self._around.blocking(stored.close)

    async def _withdraw(self, stored: StoredBlob) -> None:
        await self._around.blocking(stored.withdraw)
        self.on_withdrawn(stored.blob.id)

    async def _publish(self, stored: StoredBlob, blob: Blob, location: Location | None) -> None:
        if location is None:
            raise UnavailableError(f"Whether {blob.id} is everybody's can only be asked of the hub.")
        if blob.size:
            await self._compare(stored, blob, location)
        await self._around.blocking(stored.publish)
        self._given[stored.blob.id] = None
        while len(self._given) > DISCLOSED_MAX:
            self._given.popitem(last=False)

    async def _compare(self, stored: StoredBlob, blob: Blob, location: Location) -> None:
        start, stop = self._place(blob, await self._chunk_here(stored))
        ours = await self._around.blocking(os.pread, stored.fileno(), stop - start, start)
        given = await self._around.upstreams.read_range(replace(location, access=Access()), blob, start, stop)
        if given != ours:
            log.warning("listing_names_what_the_hub_does_not_give", repo=str(location.repo), commit=location.commit)
            raise GatedRepoError(f"The hub does not give that file of {location.repo} to you.")

    def _place(self, blob: Blob, chunk: int) -> tuple[int, int]:
        if blob.size <= _WHOLE_BYTES:
            return 0, blob.size
        size = chunk_size(blob.size, chunk)
        length = min(size, DISCLOSURE_BYTES)
        start = chunk_start(chunk) + self._around.rng.randrange(size - length + 1)
        return start, start + length

    async def _chunk_here(self, stored: StoredBlob) -> int:
        """Any of those that are, best one of the hub's; soon there is one where somebody has just begun to fetch it."""
        until = trio.current_time() + DISCLOSURE_WAIT_S
        while not stored.held:
            for chunk in list(stored.claimed)[:1]:
                await self._around.blocking(stored.confirm, chunk)
            if not stored.held and trio.current_time() >= until:
                raise UnavailableError(f"{stored.blob.id} is being fetched for another user.", next_step="Ask again later.")
            await trio.sleep(0 if stored.held else _LOOK_S)
        return self._around.rng.choice(list(stored.own) or list(stored.held))
