"""Members' vouchers for a blob on its way in: when as many as the operator asks for name one manifest, chunks that have its
digests may leave to clients before our own check of the whole file (grade C).

What must be known to change this file:
- A voucher counts only from its signer's own mouth, over a link that stands: who is denied, banned or of another key has none.
- Whoever says otherwise than the others stops it: until our own read of one chunk shows who is wrong, nothing leaves by it.
- The last chunk never leaves by it: whoever reads a file to its end gets what was checked here, or is told that it failed.
- Members at one address count once: ids cost nothing to whoever holds a join token.
- It is never stored and never passed on: it holds for one download, and ends when the blob's own hash turns out wrong.
- `covers` is asked from threads as well; it reads what this one changes in one step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import structlog
import trio

from p2pmodel.content import Circle, Manifest, NodeId, Refusal, Voucher, peers_grade
from p2pmodel.delivery.court import Court
from p2pmodel.delivery.places import place_of
from p2pmodel.delivery.ports import StoredBlob, Surroundings
from p2pmodel.delivery.recorder import FALSE_VOUCHER, FlightRecord
from p2pmodel.delivery.trial import Trial
from p2pmodel.errors import SourceError
from p2pmodel.limits import VOUCHER_S, VOUCHERS_SPARE
from p2pmodel.wire.messages import AskVoucher, VoucherPage

VOUCHER: Final = "voucher"  # the ability
_BLAMED: Final = frozenset({Refusal.FORGED, Refusal.OTHER_BLOB, Refusal.NOT_ITS_OWN})  # keys get rotated; the rest is a lie

log = structlog.get_logger()


class Vouching:
    """Of one download. `changed` is called when more, or less, may leave than before."""

    def __init__(
        self, stored: StoredBlob, trial: Trial, around: Surroundings, court: Court, changed: Callable[[], None]
    ) -> None:
        self.on = around.closed and around.vouchers > 0
        self._stored = stored
        self._trial = trial
        self._around = around
        self._court = court
        self._changed = changed
        self._untried: dict[NodeId, None] = {}  # peers that hold the blob sealed
        self._asking: set[NodeId] = set()
        self._vouchers: dict[NodeId, Voucher] = {}
        self._heard: dict[NodeId, bytes] = {}  # who ever vouched, for which root
        self._held_to: set[NodeId] = set()  # whose manifest is known, and was held against what is here
        self._agreed: Manifest | None = None
        self._circle: Circle | None = None  # within which that was found
        self._left: dict[int, bytes] = {}  # what left by it: chunk → digest
        self._failed = False  # the blob's own hash was wrong
        self._news = trio.Event()
        self._manifests = trio.Lock()  # one at a time: members who agree have the same

    # Asking

    def met(self, peer: NodeId) -> None:
        """It holds the blob sealed."""
        if self.on and peer not in self._vouchers and peer not in self._asking:
            self._untried[peer] = None
            self._news.set()

    def gone(self, peer: NodeId) -> None:
        """Its link is down, or it is banned: its voucher counts no more."""
        self._untried.pop(peer, None)
        if self._vouchers.pop(peer, None) is not None:
            self._judge()
            self._news.set()

    @property
    def settled(self) -> bool:
        """Whether nobody is left whose voucher is still waited for."""
        return not self._asking and not (self._untried and self._wants_more)

    @property
    def _wants_more(self) -> bool:
        """Until they agree: who does not answer must not keep a client waiting once enough have."""
        enough = self._around.vouchers + VOUCHERS_SPARE
        return not self._failed and self._agreed is None and self._places(self._vouchers) + len(self._asking) < enough

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                while self._untried and self._wants_more:
                    peer = next(iter(self._untried))
                    del self._untried[peer]
                    self._asking.add(peer)
                    nursery.start_soon(self._ask, peer)
                await self._news.wait()
                self._news = trio.Event()

    async def _ask(self, peer: NodeId) -> None:
        try:
            with trio.move_on_after(VOUCHER_S):
                await self._hear(peer)
        finally:
            self._asking.discard(peer)
            self._judge()
            self._news.set()
            self._changed()

    async def _hear(self, peer: NodeId) -> None:
        voucher = await self._voucher_of(peer) if self._around.neighbours.able(peer, VOUCHER) else None
        testimony = self._trial.testimony
        if voucher is not None and peer in self._around.neighbours.linked():
            self._vouchers[peer] = voucher
            self._held_to.discard(peer)
            self._heard[peer] = voucher.root
        async with self._manifests:
            needed = testimony.manifest_of(voucher.root) is None if voucher else testimony.followed is None
            if needed and testimony.wants(peer):
                await testimony.ask(peer)

    async def _voucher_of(self, peer: NodeId) -> Voucher | None:
        blob = self._stored.blob
        try:
            (answer,) = await self._around.neighbours.ask(peer, AskVoucher(request=0, blob=blob.id.to_bytes()))
            if not isinstance(answer, VoucherPage):
                return None
            voucher = Voucher.from_bytes(answer.voucher)
        except (SourceError, ValueError):
            return None
        if (refusal := voucher.refusal(blob, peer, self._around.circle())) is None:
            return voucher
        log.warning("voucher_refused", peer=peer, blob=self._name, why=str(refusal))
        if refusal in _BLAMED:
            self._court.strike(peer, blob)
        return None

    # Judging

    @property
    def agreed(self) -> bool:
        """Whether enough members vouch for one manifest now."""
        if self._agreed is not None and self._circle != self._around.circle():
            self._judge()  # the cluster's key has changed
        return self._agreed is not None

    def covers(self, chunk: int) -> bool:
        """Whether a chunk may leave on members' word."""
        agreed, held = self._agreed, self._stored.held
        if agreed is None or chunk not in held or chunk == held.count - 1:
            return False
        return self._stored.digest(chunk) == agreed.digest(chunk)

    def _judge(self) -> None:
        before, self._circle = self._agreed, self._around.circle()
        for voucher in list(self._vouchers.values()):
            manifest = self._trial.testimony.manifest_of(voucher.root)
            if manifest is not None and voucher.node not in self._held_to:
                self._held_to.add(voucher.node)
                self._trial.vouched(voucher.node, manifest)  # which may ban it, and then it is gone from here
        self._agreed = None if self._failed else self._agreement()
        if self._agreed is not None and before is None:
            log.info("blob_vouched", blob=self._name, members=sorted(self._vouchers))
        if self._agreed is not before:
            self._news.set()
            self._changed()

    def _agreement(self) -> Manifest | None:
        valid = [voucher for voucher in self._vouchers.values() if self._counts(voucher)]
        roots = {voucher.root for voucher in valid}
        manifests = [manifest for root in roots if (manifest := self._trial.testimony.manifest_of(root)) is not None]
        if len(roots) > 1 and len(manifests) > 1:
            self._trial.settle_between(*manifests[:2])
        if len(roots) != 1 or not manifests:
            return None
        places = self._places(voucher.node for voucher in valid)
        grade = peers_grade(places, vouchers=self._around.vouchers, closed=self._around.closed)
        if not grade.may_leave:
            return None
        self._trial.testimony.follow(valid[0].node)  # what comes from now on is held against it
        return manifests[0]

    def _places(self, nodes: Iterable[NodeId]) -> int:
        return len({place_of(node, self._around.neighbours) for node in nodes})

    def _counts(self, voucher: Voucher) -> bool:
        return not self._court.banned(voucher.node) and voucher.cluster in self._around.circle().accepted

    # What becomes of it

    def leaving(self, chunks: Iterable[int]) -> dict[int, bytes]:
        """These chunks are on their way to a client; those that leave by it, and their digests."""
        if self._stored.sealed:
            return {}
        unproven = {chunk: self._stored.digest(chunk) or b"" for chunk in chunks if chunk not in self._stored.own}
        self._left |= unproven
        return unproven

    @property
    def owes_an_answer(self) -> bool:
        """Whether bytes have left by it: whoever has them has gone, and the blob is found out about all the same."""
        return bool(self._left)

    def failed(self) -> None:
        """The blob's own hash is wrong: nothing more leaves by it, and who vouched is tried like everybody who signed."""
        if self._agreed is not None:
            log.warning("vouchers_suspended", blob=self._name, members=sorted(self._vouchers), chunks_left=len(self._left))
        self._failed = True
        self._judge()

    def sealed(self, manifest: Manifest) -> None:
        """Now it is known what was right."""
        wrong = [chunk for chunk, digest in self._left.items() if manifest.digest(chunk) != digest]
        false = [node for node, root in self._heard.items() if root != manifest.root]
        if wrong:
            log.error("wrong_bytes_left", blob=self._name, chunks=wrong[:20], of=len(wrong), vouched_by=sorted(false))
        for node in false:
            self._around.recorder.record(self._record(node, wrong))

    def _record(self, node: NodeId, wrong: list[int]) -> FlightRecord:
        return FlightRecord(
            blob=str(self._stored.blob.id),
            first=min(wrong, default=0),
            count=len(wrong),
            came=0,
            source=node,
            place=self._around.neighbours.address(node),
            bytes=0,
            seconds=0.0,
            outcome=FALSE_VOUCHER,
            private=self._stored.private,
        )

    @property
    def _name(self) -> str:
        return "private" if self._stored.private else str(self._stored.blob.id)

    @property
    def members(self) -> int:
        """How many vouch for it now."""
        return self._places(node for node, voucher in self._vouchers.items() if self._counts(voucher))
