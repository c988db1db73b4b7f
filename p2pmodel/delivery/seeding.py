"""Answering peers: what is here, its digests, its bytes. A private blob looks like one that is not here, except to those whom
`PrivateSharing` has let in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog
import trio

from p2pmodel.content import (
    Attestation,
    Blob,
    BlobId,
    ChunkMap,
    Hub,
    NodeId,
    Repo,
    RepoKind,
    chunk_count,
    chunk_size,
    chunk_start,
)
from p2pmodel.delivery.court import Court
from p2pmodel.delivery.downloads import Downloads
from p2pmodel.delivery.evidence import Evidence
from p2pmodel.delivery.herald import Herald, claims_of
from p2pmodel.delivery.listings import hearsay_key, listing_pages, sign_listing
from p2pmodel.delivery.manifests import manifest_pages
from p2pmodel.delivery.piece_lists import PieceLists
from p2pmodel.delivery.ports import BlobState, Span, StoredBlob, Surroundings
from p2pmodel.delivery.private import PrivateSharing
from p2pmodel.delivery.publications import Publications
from p2pmodel.delivery.shelf import Shelf
from p2pmodel.delivery.warming import Warming
from p2pmodel.errors import StoreError
from p2pmodel.limits import ENTRIES_PER_PAGE_MAX, INVENTORY_ENTRIES_MAX, SNAPSHOT_BYTES_MAX
from p2pmodel.wire.messages import (
    AskInventory,
    AskManifest,
    AskPieces,
    AskPrivate,
    AskSnapshot,
    AskVoucher,
    AskWarm,
    Attest,
    Audit,
    BadChunk,
    Claims,
    Have,
    Held,
    HubBusy,
    Interest,
    Inventory,
    Message,
    PiecesPage,
    Problem,
    VoucherPage,
)
from p2pmodel.wire.packed import PARTIAL, SEALED, InventoryEntry, pack_entries, pages

_RECHECKS_MAX: Final = 16  # chunks re-hashed on peers' complaints at a time
_OFFERS_MAX: Final = 256  # answers that wait for a look at the disk; whoever gets none believes after SETTLE_S that it is empty
_READMIT_S: Final = 60.0  # how late a ban that was pronounced meanwhile may end
_HUB_BUSY_S_MAX: Final = 600.0  # a peer may not talk us out of the hub for longer

log = structlog.get_logger()


class Seeding:
    """Implements the `PeerEvents` port."""

    def __init__(
        self,
        around: Surroundings,
        downloads: Downloads,
        herald: Herald,
        shelf: Shelf,
        warming: Warming,
        sharing: PrivateSharing,
        court: Court,
        publications: Publications,
        lists: PieceLists,
        boot: bytes,
    ) -> None:
        self._around = around
        self._downloads = downloads
        self._herald = herald
        self._shelf = shelf
        self._warming = warming
        self._sharing = sharing
        self._court = court
        self._publications = publications
        self._lists = lists
        self._boot = boot
        self.first_link = trio.Event()
        self._evidence = Evidence(around, court, shelf)
        self._complaints: trio.MemorySendChannel[tuple[BlobState, int]]
        self._complaints, self._to_recheck = trio.open_memory_channel[tuple[BlobState, int]](_RECHECKS_MAX)
        self._offers: trio.MemorySendChannel[tuple[NodeId, BlobState]]
        self._offers, self._to_offer = trio.open_memory_channel[tuple[NodeId, BlobState]](_OFFERS_MAX)

    async def run(self) -> None:
        """Looks at the disk where peers complain of a chunk or ask for what nobody here is fetching."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._recheck)
            nursery.start_soon(self._offer)
            nursery.start_soon(self._evidence.run)
            nursery.start_soon(self._readmit)

    async def _offer(self) -> None:
        """A blob that somebody here fetched in part and left: what is right of it is as good as any chunk."""
        async for peer, state in self._to_offer:
            try:
                async with self._shelf.borrow(state.blob, private=state.private) as stored:
                    for chunk in stored.claimed.copy():
                        await self._around.blocking(stored.confirm, chunk)
                    self._say_what_is_here(peer, state.blob, self._court.servable(stored))
            except StoreError:
                self._say_what_is_here(peer, state.blob)

    async def _recheck(self) -> None:
        async for state, chunk in self._to_recheck:
            try:
                async with self._shelf.borrow(state.blob, private=state.private) as stored:
                    if not await self._around.blocking(stored.confirm, chunk):  # whatever we remember of an earlier look
                        log.warning("chunk_damaged", blob="private" if state.private else str(state.blob.id), chunk=chunk)
            except (StoreError, IndexError):
                continue

    async def _readmit(self) -> None:
        """A ban for wrong bytes runs out."""
        standing = self._around.standing
        while True:
            banned = {ban.source for ban in standing.bans(trio.current_time())}
            with trio.move_on_after(_READMIT_S):
                await trio.sleep_until(standing.next_end(trio.current_time()))
            for peer in self._around.neighbours.linked():
                if peer in banned and not self._court.banned(peer):
                    self._downloads.peer_linked(peer)

    # PeerEvents

    def linked(self, peer: NodeId) -> None:
        self.first_link.set()
        self._around.standing.met(peer)
        self._downloads.peer_linked(peer)

    def unlinked(self, peer: NodeId) -> None:
        self._herald.forget(peer)
        self._downloads.peer_unlinked(peer)

    def quiet(self, peer: NodeId, *, quiet: bool) -> None:
        for download in self._downloads.active:
            download.peer_quiet(peer, quiet=quiet)

    def received(self, peer: NodeId, message: Message) -> None:
        if self._court.banned(peer):
            return
        try:
            match message:
                case Interest():
                    self._interest(peer, message)
                case Have() | Held() | Claims() | Audit():
                    self._downloads.told(peer, BlobId.from_bytes(message.blob), message)
                case BadChunk():
                    self._complaint(peer, message)
                case Attest():
                    self._shown(peer, message)
                case HubBusy() if self._around.closed:  # in open mode any stranger could talk us out of the hub
                    self._around.upstreams.rest(message.upstream, min(message.retry_after, _HUB_BUSY_S_MAX))
        except (ValueError, IndexError) as error:
            log.info("peer_nonsense", peer=peer, message=type(message).__name__, why=str(error))

    async def answer(self, peer: NodeId, question: Message) -> Sequence[Message]:
        if self._court.banned(peer):
            return [Problem(code="refused")]
        try:
            return await self._answer(peer, question)
        except StoreError as error:  # our own disk's trouble must not end the link, nor the daemon
            log.warning("question_unanswered", question=type(question).__name__, reason=str(error))
            return [Problem(code="busy")]

    async def _answer(self, peer: NodeId, question: Message) -> Sequence[Message]:
        match question:
            case AskInventory():
                return self._inventory(question)
            case AskManifest():
                return await self._manifest(peer, question)
            case AskVoucher():
                return [await self._voucher(peer, question)]
            case AskPieces():
                return [await self._pieces(peer, question)]
            case AskSnapshot():
                return await self._snapshot(question)
            case AskWarm():
                return [self._warming.answer(question)]
            case AskPrivate():
                return [await self._sharing.answer(peer, question)]
        return [Problem(code="unknown_message")]

    async def seed(self, peer: NodeId, blob: Blob, index: int) -> Span | None:
        state = self._sharing.visible(peer, blob.id)
        if self._court.banned(peer) or state is None or state.blob.size != blob.size or not 0 <= index < chunk_count(blob.size):
            return None
        try:
            async with self._shelf.borrow(state.blob, private=state.private) as stored:
                if index not in stored.held or not await self._around.blocking(stored.check, index):
                    return None
                digest, word = stored.digest(index), self._word(peer, stored, blob, index)
                if digest is None or word is None:
                    return None
                if stored.sealed:
                    self._herald.gives(state.blob.id, index)
                size = chunk_size(blob.size, index)
                return Span(stored.fileno(), chunk_start(index), size, digest, word.to_bytes(), private=stored.private)
        except StoreError:
            return None

    def _word(self, peer: NodeId, stored: StoredBlob, blob: Blob, index: int) -> Attestation | None:
        """What goes with a chunk: our own word, or that of whoever signed for it."""
        download = self._downloads.find(stored.blob.id)
        if download is not None and download.stored is stored and not stored.sealed:
            return download.trial.word_for(index, peer)
        return self._court.sign(stored, blob, index, peer) or self._court.handed_on(stored, index)

    # Answers

    def _interest(self, peer: NodeId, message: Interest) -> None:
        blob = BlobId.from_bytes(message.blob)
        if not message.on:
            self._herald.wants_no_more(blob, peer)
        else:
            self._herald.wants(blob, peer, watch=message.watch)
            if message.watch:
                self._answer_interest(peer, Blob(blob, message.size))
        self._downloads.told(peer, blob, message)

    def _answer_interest(self, peer: NodeId, blob: Blob) -> None:
        state = self._sharing.visible(peer, blob.id)
        if state is not None and state.blob == blob and not state.sealed and self._downloads.find(blob.id) is None:
            try:
                return self._offers.send_nowait((peer, state))
            except trio.WouldBlock:
                pass  # then nothing is offered
        return self._say_what_is_here(peer, blob)

    def _say_what_is_here(self, peer: NodeId, blob: Blob, left_here: ChunkMap | None = None) -> None:
        download = self._downloads.find(blob.id)
        state = self._sharing.visible(peer, blob.id)
        chunks = left_here or ChunkMap(chunk_count(blob.size))
        if download is not None and not download.may_join(peer):
            download = None
        if state is not None and state.sealed:
            chunks = ChunkMap.full(chunks.count)
        elif download is not None:
            chunks = download.trial.servable()
        have = Have(
            blob=blob.id.to_bytes(),
            size=blob.size,
            sealed=state is not None and state.sealed,
            wanted=download is not None and not download.over,
            chunks=chunks.to_bytes(),
        )
        self._around.neighbours.send(peer, have)
        if download is not None:
            self._around.neighbours.send(peer, claims_of(download.swarm))

    def _shown(self, peer: NodeId, message: Attest) -> None:
        blob = BlobId.from_bytes(message.blob)
        if self._downloads.find(blob) is not None:
            self._downloads.told(peer, blob, message)
        elif (state := self._sharing.visible(peer, blob)) is None or state.sealed:
            self._evidence.shown(message, state)

    def _complaint(self, peer: NodeId, message: BadChunk) -> None:
        state = self._sharing.visible(peer, BlobId.from_bytes(message.blob))
        if state is not None and message.chunk < chunk_count(state.blob.size):
            try:
                self._complaints.send_nowait((state, message.chunk))
            except trio.WouldBlock:
                return  # the next reader of that chunk will notice as well

    def _inventory(self, question: AskInventory) -> list[Message]:
        sequence, _ = self._around.store.inventory()
        changed = self._around.store.inventory_since(question.since) if question.boot == self._boot else None
        entries = (self._everything() if changed is None else list(changed))[:INVENTORY_ENTRIES_MAX]
        return [
            Inventory(
                request=question.request,
                boot=self._boot,
                sequence=sequence,
                whole=changed is None,
                entries=pack_entries(page),
                last=last,
            )
            for _, page, last in pages(entries, ENTRIES_PER_PAGE_MAX)
        ]

    def _everything(self) -> list[InventoryEntry]:
        states = [state for state in self._around.store.blobs() if not state.private]
        return [InventoryEntry(state.blob.id, state.blob.size, SEALED if state.sealed else PARTIAL) for state in states]

    async def _manifest(self, peer: NodeId, question: AskManifest) -> Sequence[Message]:
        state = self._sharing.visible(peer, BlobId.from_bytes(question.blob))
        if state is not None and state.sealed:
            async with self._shelf.borrow(state.blob, private=state.private) as stored:
                if stored.sealed and stored.seal is not None:
                    return manifest_pages(question.request, stored.manifest(), stored.seal)
        return [Problem(request=question.request, code="not_held")]

    async def _voucher(self, peer: NodeId, question: AskVoucher) -> Message:
        state = self._sharing.visible(peer, BlobId.from_bytes(question.blob))
        if self._around.closed and state is not None and state.sealed and state.blob.id.to_bytes() == question.blob:
            async with self._shelf.borrow(state.blob, private=state.private) as stored:
                if (voucher := self._court.vouch(stored, peer)) is not None:
                    return VoucherPage(request=question.request, voucher=voucher.to_bytes())
        return Problem(request=question.request, code="not_held")

    async def _pieces(self, peer: NodeId, question: AskPieces) -> Message:
        state = self._sharing.visible(peer, BlobId.from_bytes(question.blob))
        if state is not None and state.sealed and (pieces := await self._lists.page(state, question.first)):
            return PiecesPage(request=question.request, first=question.first, pieces=pieces)
        return Problem(request=question.request, code="not_held")

    async def _snapshot(self, question: AskSnapshot) -> Sequence[Message]:
        if self._around.closed:
            try:
                repo = Repo(Hub(question.hub), RepoKind(question.kind), question.name)
            except ValueError:
                return [Problem(request=question.request, code="bad_request")]
            if repo.on_lan:
                known = self._publications.known(repo)
                if known is None:
                    return [Problem(request=question.request, code="not_held")]
                return listing_pages(question.request, known.document)
            commit = self._around.store.ref(repo, question.revision) or question.revision
            snapshot = self._around.store.snapshot(repo, commit)
            if snapshot is not None and snapshot.public and not self._around.store.document(hearsay_key(snapshot)):
                document = await self._around.blocking(sign_listing, snapshot, question.revision, self._around.key)
                if len(document) <= SNAPSHOT_BYTES_MAX:
                    return listing_pages(question.request, document)
        return [Problem(request=question.request, code="not_held")]
