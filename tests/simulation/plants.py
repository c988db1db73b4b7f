"""Bugs on purpose: what the simulation must be able to find."""

from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from unittest.mock import patch

from p2pmodel.content import PieceList
from p2pmodel.delivery.audit import Audit
from p2pmodel.delivery.download import Download
from p2pmodel.delivery.herald import Herald
from p2pmodel.delivery.reader import BlobReader
from p2pmodel.delivery.sealing import Sealing
from p2pmodel.delivery.vouching import Vouching
from p2pmodel.swarm.availability import PeerView
from p2pmodel.swarm.standing import Why
from p2pmodel.swarm.swarm import Swarm

right_told = Download.told
right_failed = Swarm.failed


@dataclass(frozen=True)
class Plant:
    owner: type
    name: str
    wrong: object

    @contextmanager
    def planted(self):
        with patch.object(self.owner, self.name, self.wrong):
            yield


def _told_asleep(self, peer, message):
    """What a peer says is noted, and wakes nobody: the lanes find out when they next look."""
    self._bells.ring = lambda *sources: None
    try:
        right_told(self, peer, message)
    finally:
        del self._bells.ring


def _held_is_enough(self, chunks):
    return self._stored.held.holds(chunks)


def _blamed_for_breaking_off(self, flight, *, for_good):
    """A peer that did not deliver is treated like one that delivered false bytes."""
    right_failed(self, flight, for_good=for_good)
    self._standing.suspend(flight.source, Why.WRONG_BYTES, flight.progress_at)


def _the_first_is_believed(self):
    """One voucher is as good as many, and who says otherwise is not heard."""
    for voucher in self._vouchers.values():
        if (manifest := self._trial.testimony.manifest_of(voucher.root)) is not None:
            return manifest
    return None


async def _nobody_gathered(self):
    """Each node whose hash failed reads again alone what it did not read."""
    return False


def _nothing_is_wrong(self, first, data):
    """Bytes are taken for what is listed."""


PLANTS = {
    "audited-alone": Plant(Audit, "_gathered", _nobody_gathered),
    "lost-wake-up": Plant(Download, "told", _told_asleep),
    "claims-ignored": Plant(PeerView, "claims_hold", lambda self, now: False),
    "hearsay-served": Plant(BlobReader, "_may_leave", _held_is_enough),
    "sealed-unseen": Plant(Sealing, "right", True),
    "never-awake": Plant(Swarm, "wake_at", lambda self, now: inf),
    "unlisted-proven": Plant(PieceList, "check", _nothing_is_wrong),
    "first-believed": Plant(Vouching, "_agreement", _the_first_is_believed),
    "honest-blamed": Plant(Swarm, "failed", _blamed_for_breaking_off),
    "watchers-kept": Plant(Herald, "wants_no_more", lambda self, blob, peer: None),
}
