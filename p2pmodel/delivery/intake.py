"""Files that clients uploaded through us, all of whose bytes are here: hashed from the first to the last, and what has its
name goes into the store, private. A name was a claim until then."""

from __future__ import annotations

from functools import partial
from typing import Protocol

import structlog
import trio

from p2pmodel.content import Blob, BlobId, Grade, Seal, chunk_count, chunk_digest, chunk_size, chunk_start
from p2pmodel.delivery.disclosure import Disclosure
from p2pmodel.delivery.ports import Surroundings
from p2pmodel.delivery.sealing import Sealing, update
from p2pmodel.errors import StoreError

log = structlog.get_logger()


class Bytes(Protocol):
    def read_into(self, buffer: memoryview, offset: int) -> int:
        """How many bytes came; blocking. Raises StoreError."""


class Intake:
    def __init__(self, around: Surroundings, disclosure: Disclosure) -> None:
        self._around = around
        self._disclosure = disclosure
        self._due: dict[BlobId, trio.Event] = {}

    def expect(self, blob: BlobId) -> bool:
        """From here on who wants it waits; `take_in` must follow. False if it is expected already."""
        if blob in self._due:
            return False
        self._due[blob] = trio.Event()
        return True

    async def settled(self, blob: BlobId) -> None:
        """Wait while it is being taken in: then it is here, and nobody need be asked."""
        due = self._due.get(blob)
        if due is not None:
            await due.wait()

    async def take_in(self, blob: Blob, source: Bytes) -> None:
        """Never raises but for bugs: what cannot be kept is not kept."""
        try:
            sealing, digests = await self._hash(blob, source)
            if sealing.right:
                await self._keep(sealing, digests, source)
            else:
                log.info("upload_not_kept", blob=str(blob.id), reason="the bytes do not have that hash")
        except StoreError as error:
            log.info("upload_not_kept", blob=str(blob.id), reason=str(error))
        finally:
            self._due.pop(blob.id).set()

    async def _hash(self, blob: Blob, source: Bytes) -> tuple[Sealing, list[bytes]]:
        sealing, digests = Sealing(blob), []
        for index in range(chunk_count(blob.size)):
            async with self._around.buffers.take() as buffer:
                digests.append(await self._around.blocking(_hash_chunk, source, index, buffer, sealing))
            sealing.takes(index)
            sealing.done(sealing.generation, digests[index])
        return sealing, digests

    async def _keep(self, sealing: Sealing, digests: list[bytes], source: Bytes) -> None:
        blocking, blob = self._around.blocking, sealing.blob
        stored = await blocking(partial(self._around.store.open, blob, private=True))
        try:
            await self._disclosure.fit(stored, blob, None, private=True)
            for index, digest in enumerate(digests):
                async with self._around.buffers.take() as buffer:
                    data = buffer[: chunk_size(blob.size, index)]
                    await blocking(_read_chunk, source, index, data)
                    await blocking(stored.write, index, data, digest, Grade.SINGLE)
            await blocking(stored.finish, sealing.alias, Seal.sign(sealing.manifest(), self._around.key))
        finally:
            with trio.CancelScope(shield=True):
                await blocking(stored.close)


def _read_chunk(source: Bytes, index: int, data: memoryview) -> None:
    """Blocking."""
    if source.read_into(data, chunk_start(index)) < len(data):
        raise StoreError("An upload's own file has lost its end.")


def _hash_chunk(source: Bytes, index: int, buffer: memoryview, sealing: Sealing) -> bytes:
    """Blocking."""
    data = buffer[: chunk_size(sealing.blob.size, index)]
    _read_chunk(source, index, data)
    update(sealing.generation, data)
    return chunk_digest(data)
