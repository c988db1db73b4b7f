"""Bugs on purpose: what the simulation must be able to find."""

from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

from p2pmodel.content import ChunkMap
from p2pmodel.delivery.download import Download
from p2pmodel.delivery.herald import Herald
from p2pmodel.delivery.reader import BlobReader
from p2pmodel.delivery.sealing import Sealing
from p2pmodel.swarm.availability import Availability

right_told = Download.told


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
    self.wake = lambda: None
    try:
        right_told(self, peer, message)
    finally:
        del self.wake


def _held_is_enough(self, chunks):
    return self._stored.held.holds(chunks)


PLANTS = {
    "lost-wake-up": Plant(Download, "told", _told_asleep),
    "claims-ignored": Plant(Availability, "claimed", lambda self, now, lease_s: ChunkMap(self.chunks)),
    "hearsay-served": Plant(BlobReader, "_may_leave", _held_is_enough),
    "sealed-unseen": Plant(Sealing, "right", True),
    "watchers-kept": Plant(Herald, "unwatch", lambda self, blob, peer: None),
}
