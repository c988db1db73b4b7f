"""The `Secure` of a simulation: both sides say who they are, in clear, and are believed."""

import trio

from p2pmodel.content import NodeId
from p2pmodel.errors import StrangerError
from p2pmodel.limits import HANDSHAKE_TIMEOUT_S
from p2pmodel.peering import SECURE_FIRST_BYTE

NAME_BYTES = 1 + 40


class PlainSecure:
    """`cluster` stands in for the certificate authority: nodes of two clusters refuse each other."""

    def __init__(self, node, cluster=0):
        self._name = SECURE_FIRST_BYTE + node.encode()
        self._cluster = bytes([cluster])

    async def wrap_dialled(self, stream, under=b""):
        return await self._exchange(stream)

    async def wrap_accepted(self, stream, answering=None):
        return await self._exchange(stream)

    async def _exchange(self, stream):
        try:
            with trio.fail_after(HANDSHAKE_TIMEOUT_S):
                await stream.send_all(self._name + self._cluster)
                heard = b""
                while len(heard) <= NAME_BYTES:
                    piece = await stream.receive_some(NAME_BYTES + 1 - len(heard))
                    if not piece:
                        raise StrangerError("the other end left before it had said its name")
                    heard += piece
        except (trio.TooSlowError, trio.BrokenResourceError) as error:
            raise StrangerError("the other end did not say its name") from error
        if heard[:1] != SECURE_FIRST_BYTE or heard[NAME_BYTES:] != self._cluster:
            raise StrangerError("the other end is of another cluster")
        return stream, NodeId(heard[1:NAME_BYTES].decode())
