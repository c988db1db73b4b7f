"""A node without peers (`cluster.mode = "off"`)."""

from __future__ import annotations

from collections.abc import Sequence

from p2pmodel.content import BlobId, NodeId
from p2pmodel.delivery.ports import Order, Sink
from p2pmodel.errors import SourceError
from p2pmodel.wire.messages import Message


class NoSource:
    """The source that a peer without a link is."""

    async def fetch(self, order: Order, sink: Sink) -> None:  # noqa: ARG002  # the port's signature
        raise SourceError("there is no link to this peer")


class Alone:
    """`Neighbours` with nobody in it."""

    def __init__(self, node: NodeId) -> None:
        self._node = node

    def linked(self) -> Sequence[NodeId]:
        return ()

    def weight(self, peer: NodeId) -> str:
        return peer

    def hold(self, blob: BlobId) -> bool:  # noqa: ARG002  # the port's signature
        return False

    def own_weight(self) -> str:
        return self._node

    def met_at(self) -> float:
        return 0.0

    def able(self, peer: NodeId, ability: str) -> bool:  # noqa: ARG002  # the port's signature
        return False

    def cluster(self, peer: NodeId) -> bytes:  # noqa: ARG002  # the port's signature
        return b""

    def address(self, peer: NodeId) -> str:  # noqa: ARG002  # the port's signature
        return ""

    def send(self, peer: NodeId, message: Message) -> None:
        """Nobody hears it."""

    async def ask(self, peer: NodeId, question: Message) -> Sequence[Message]:  # noqa: ARG002  # the port's signature
        raise SourceError("there is no link to this peer")

    def source(self, peer: NodeId) -> NoSource:  # noqa: ARG002  # the port's signature
        return NoSource()
