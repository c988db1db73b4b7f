"""How many bytes control frames have: real messages, encoded once, told as a fixed part and a part that grows.

TLS adds 22 bytes a record and TCP/IP some 60 a packet; the lab counts those, here frames are counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from p2pmodel.content import BlobId
from p2pmodel.limits import CHUNK_BYTES, HEARTBEAT_S, PEER_EXCHANGE_S, PEERS_PER_MESSAGE_MAX
from p2pmodel.wire.codec import encode
from p2pmodel.wire.messages import Chunk, Claims, Get, Have, Held, Interest, Message, PeerAddress, Peers, Ping, Pong

_BLOB: Final = BlobId("sha256", "ab" * 32).to_bytes()
_SIZE: Final = 5 << 30
_MAP: Final = bytes(_SIZE // CHUNK_BYTES // 8)
_NODE: Final = "0123456789" * 4
_HOST: Final = "192.168.100.100"


def _of(message: Message) -> int:
    return len(encode(message))


def _peers(count: int) -> int:
    nodes = [PeerAddress(node=_NODE, host=_HOST, port=7277)] * count
    return _of(Peers(nodes=nodes))


@dataclass(frozen=True, slots=True)
class Frames:
    interest: int = _of(Interest(blob=_BLOB, size=_SIZE, on=True))
    have: int = _of(Have(blob=_BLOB, size=_SIZE, sealed=False, wanted=True, chunks=_MAP)) - len(_MAP)  # and a bit per chunk
    held: int = _of(Held(blob=_BLOB, chunks=b""))  # and 4 per chunk
    claims: int = _of(Claims(blob=_BLOB, runs=b"", coming=b""))  # and 8 per run
    get: int = _of(Get(request=70_000, blob=_BLOB, size=_SIZE, first=1_000, count=4))
    chunk: int = _of(Chunk(request=70_000, index=1_000, size=1 << 22, digest=b"d" * 32))
    ping: int = _of(Ping(nonce=1 << 40, sequence=1 << 20, digest=b"d" * 16))
    pong: int = _of(Pong(nonce=1 << 40))
    peer: float = field(default=(_peers(PEERS_PER_MESSAGE_MAX) - _peers(0)) / PEERS_PER_MESSAGE_MAX)

    def presence(self, links: float, seconds: float) -> float:
        """Heartbeats and peer exchange, sent by one node."""
        exchange = _peers(0) + self.peer * min(links, PEERS_PER_MESSAGE_MAX)
        return links * ((self.ping + self.pong) * seconds / HEARTBEAT_S + exchange * (1 + seconds / PEER_EXCHANGE_S))


FRAMES: Final = Frames()
INDEX_BYTES: Final = 4
RUN_BYTES: Final = 8
