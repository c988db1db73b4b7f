"""What delivery needs of the world, and what it offers to the doors, in few verbs.

Each port has a real room behind it and a fake in the tests, held to one contract suite. A file a neighbour: `sources`,
`upstreams`, `store`, `peers` are below or beside, `doors` above; `surroundings` is all of them wired.
"""

from p2pmodel.delivery.ports.doors import Delivery, NodeWarm, Part, Progress, Reader, Selection, WarmStep
from p2pmodel.delivery.ports.peers import Neighbours, PeerEvents, Span
from p2pmodel.delivery.ports.sources import Order, Sink, Source
from p2pmodel.delivery.ports.store import BlobState, Spool, Store, StoredBlob
from p2pmodel.delivery.ports.surroundings import NOWHERE, Sharing, Surroundings
from p2pmodel.delivery.ports.upstreams import HubAnswer, HubRequest, Location, Upstreams

__all__ = [
    "NOWHERE",
    "BlobState",
    "Delivery",
    "HubAnswer",
    "HubRequest",
    "Location",
    "Neighbours",
    "NodeWarm",
    "Order",
    "Part",
    "PeerEvents",
    "Progress",
    "Reader",
    "Selection",
    "Sharing",
    "Sink",
    "Source",
    "Span",
    "Spool",
    "Store",
    "StoredBlob",
    "Surroundings",
    "Upstreams",
    "WarmStep",
]
