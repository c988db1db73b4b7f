"""Discovery: how a node first hears of others. Everything here is a hint, which peering proves or forgets.

``Mdns`` announces this node by multicast DNS and hears of the others of its cluster; each address becomes a ``Candidate``.
What is said is an ``Announcement``; python-zeroconf and its thread stay inside ``responder``, behind a ``sieve`` that keeps
floods from it. Configured, remembered and exchanged peers need no discovery: peering knows them itself.
"""

from p2pmodel.discovery.announcement import Announcement
from p2pmodel.discovery.mdns import Mdns, MdnsStatistics

__all__ = ["Announcement", "Mdns", "MdnsStatistics"]
