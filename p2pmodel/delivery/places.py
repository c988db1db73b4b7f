"""How many nodes really speak: ids cost nothing to whoever holds a cluster's join token, addresses do."""

from __future__ import annotations

import ipaddress

from p2pmodel.content import NodeId
from p2pmodel.delivery.ports import Neighbours


def place_of(node: NodeId, neighbours: Neighbours) -> str:
    """The address of a linked peer; on loopback, where only our own machine's can be, the peer itself."""
    host = neighbours.address(node).rpartition(":")[0].strip("[]")
    try:
        return node if ipaddress.ip_address(host).is_loopback else host
    except ValueError:  # a name that we were told to dial
        return host or node
