"""From settings to who this node is and where it belongs: its key, the membership in force, what private models it shares."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from p2pmodel import config
from p2pmodel.content import Circle, NodeId
from p2pmodel.delivery.blocking import in_thread
from p2pmodel.delivery.court import ATTEST
from p2pmodel.delivery.piece_lists import PIECES
from p2pmodel.delivery.ports import NOWHERE, Sharing
from p2pmodel.delivery.private import PRIVATE
from p2pmodel.delivery.vouching import VOUCHER
from p2pmodel.delivery.warming import WARM
from p2pmodel.errors import ConfigError
from p2pmodel.peering import DenyList, Identity, KeyRing, LiveMembership, Membership, Memberships, Mode
from p2pmodel.settings import ClusterSettings, Settings

_DENY_LIST: Final = "deny-list.der"  # in the state directory: the newest one, ours or a peer's


def who_we_are(settings: Settings) -> tuple[Identity, LiveMembership | None]:
    """This node's key, and the cluster that it belongs to (None: `cluster.mode = "off"`). Raises ConfigError."""
    cluster = settings.cluster
    if cluster.mode == "hardened":
        live = _live(partial(_hardened, cluster), settings.node.state_dir / _DENY_LIST)
        return live.now.current.identity, live
    identity = Identity.load(settings.node.state_dir)
    if cluster.mode == "off":
        return identity, None
    return identity, _live(partial(_derived, identity, cluster))


def abilities(membership: LiveMembership, settings: Settings) -> tuple[str, ...]:
    """What we can do for members, where they are more than whoever is on the subnet."""
    if not membership.now.current.keeps_strangers_out:
        return (ATTEST, PIECES)
    members = (ATTEST, PIECES, VOUCHER, WARM)
    return members if settings.cluster.private_sharing == "off" else (*members, PRIVATE)


def judge(membership: LiveMembership | None) -> LiveMembership | None:
    """Who says whom a cluster's authority denies, where there is an authority that not every member can speak for."""
    return membership if membership is not None and membership.now.current.mode is Mode.HARDENED else None


def sharing(node: NodeId, membership: LiveMembership | None, settings: Settings) -> Sharing:
    """Nothing private leaves where strangers may be members."""
    if membership is None or not membership.now.current.keeps_strangers_out:
        return Sharing()
    return Sharing(settings.cluster.private_sharing, node, membership.sharing_keys, settings.access.cache)


class Circles:
    """Within which signed words for digests are heard now. Words of a key that was rotated out are known for what they are."""

    def __init__(self, membership: LiveMembership | None) -> None:
        self._membership = membership
        self._seen: tuple[list[str], Circle] = ([], NOWHERE)

    def now(self) -> Circle:
        """While a rotation is under way we sign for the former key: not everybody has the new one yet."""
        tags = self._membership.tags if self._membership else []
        before, circle = self._seen
        if tags != before:
            current = [bytes.fromhex(tag) for tag in tags]
            past = (circle.past | circle.accepted if before else frozenset()) - set(current)
            self._seen = tags, Circle(current[-1], frozenset(current[:-1]), past)
        return self._seen[1]


def _live(load: Callable[[], Memberships], kept: Path | None = None) -> LiveMembership:
    return LiveMembership(load, in_thread, kept)


def _hardened(cluster: ClusterSettings) -> Memberships:
    if not (cluster.ca and cluster.cert and cluster.key):
        raise ConfigError('cluster.mode = "hardened" needs cluster.ca, cluster.cert and cluster.key.')
    membership = Membership.hardened(ca=cluster.ca, cert=cluster.cert, key=cluster.key)
    denied = DenyList.read(cluster.crl, membership.authority) if cluster.crl else DenyList()
    return Memberships(membership, denied=denied)


def _derived(identity: Identity, cluster: ClusterSettings) -> Memberships:
    if cluster.mode != "closed":
        return Memberships(Membership.open(identity))
    if cluster.key_file is None:
        raise ConfigError('cluster.mode = "closed" needs a key.', next_step="Run `p2pmodel cluster init`.")
    ring = KeyRing.parse(config.read_lines(cluster.key_file))
    current, *former = (Membership.closed(identity, token) for token in ring.accepted(time.time()))
    return Memberships(current, former[0], ring.until) if former else Memberships(current)
