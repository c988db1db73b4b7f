"""Peering: who is there, and the way to them.

``Peering`` is the room's door: it listens, dials the candidates that discovery, configuration, memory and the peers
themselves name (``Directory``), keeps one ``Link`` to each peer, and offers them to delivery as ``Neighbours``. A link
carries control messages and a heartbeat; chunks travel on data connections opened with its tickets, taken by a
``PeerSource``, given by a ``Seeder``. Who a peer is, ``Secure`` says: TLS under a ``Membership``, or a simulation's stand-in.

What the messages mean is the wire's and delivery's; which chunk to ask of whom is the swarm's; how peers are first heard of
is discovery's.
"""

from p2pmodel.peering.alone import Alone
from p2pmodel.peering.deny_list import DenyList
from p2pmodel.peering.identity import Identity
from p2pmodel.peering.keyring import KeyRing
from p2pmodel.peering.live_membership import LiveMembership, Memberships
from p2pmodel.peering.membership import Membership, Mode, new_join_token, parse_join_token
from p2pmodel.peering.peering import Peering
from p2pmodel.peering.report import PeerReport
from p2pmodel.peering.secure import SECURE_FIRST_BYTE, Secure
from p2pmodel.peering.statistics import PeeringStatistics
from p2pmodel.peering.tcp import TcpNetwork
from p2pmodel.peering.tls import TlsSecure

__all__ = [
    "SECURE_FIRST_BYTE",
    "Alone",
    "DenyList",
    "Identity",
    "KeyRing",
    "LiveMembership",
    "Membership",
    "Memberships",
    "Mode",
    "PeerReport",
    "Peering",
    "PeeringStatistics",
    "Secure",
    "TcpNetwork",
    "TlsSecure",
    "new_join_token",
    "parse_join_token",
]
