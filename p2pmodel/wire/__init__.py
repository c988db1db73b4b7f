"""The wire: one connection to a peer as a value, without sockets, clocks or dice. protocol/ is its spec for any language.

``messages`` are the typed words, ``packed`` the lists within them, ``codec`` turns them into frames and back, ``Session`` is
a connection's state: what may be said now, what may come now, which questions are open, how much of a chunk is still under
way. A ``PeerProtocolError`` is the peer's fault, a ``LocalProtocolError`` a bug of ours. Sockets, deadlines and the meaning
of what is said belong to ``peering`` and ``delivery``.
"""

from p2pmodel.wire.codec import LocalProtocolError, Unknown, decode, encode
from p2pmodel.wire.session import CLOSED, NEED_DATA, Session, Signal
from p2pmodel.wire.states import Role, Secrecy, State

__all__ = [
    "CLOSED",
    "NEED_DATA",
    "LocalProtocolError",
    "Role",
    "Secrecy",
    "Session",
    "Signal",
    "State",
    "Unknown",
    "decode",
    "encode",
]
