"""One connection as a table: state × direction × message → state. protocol/state.md prints it; a test holds the two together.

What a table cannot say (request ids, pages in order, bodies) is in `questions` and `session`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from p2pmodel.wire.codec import Unknown
from p2pmodel.wire.messages import (
    AskDenyList,
    AskInventory,
    AskManifest,
    AskPieces,
    AskPrivate,
    AskSnapshot,
    AskTicket,
    AskVoucher,
    AskWarm,
    Attach,
    Attached,
    Attest,
    Audit,
    BadChunk,
    Bye,
    Chunk,
    Claims,
    DenyListPage,
    Get,
    Have,
    Held,
    Hello,
    HubBusy,
    Interest,
    Inventory,
    ManifestPage,
    Message,
    Peers,
    PiecesPage,
    Ping,
    Pong,
    Private,
    Problem,
    SnapshotPage,
    Ticket,
    VoucherPage,
    WarmProgress,
)


class Role(Enum):
    DIALLER = "dialler"
    LISTENER = "listener"


class Secrecy(Enum):
    TLS = "tls"
    PLAIN = "plain"


class Way(Enum):
    SENT = "sent"
    RECEIVED = "received"


class State(Enum):
    GREET = "greet"  # listener, TLS: we speak first
    GREETED = "greeted"  # listener, TLS: hello said; is it to be a link or a data connection?
    AWAIT_GREETING = "await_greeting"  # dialler, TLS
    CHOOSE = "choose"  # dialler, TLS: hello heard; hello makes a link, attach a data connection
    PRESENT_TICKET = "present_ticket"  # dialler, plain: we speak first
    AWAIT_TICKET = "await_ticket"  # listener, plain
    AWAIT_VERDICT = "await_verdict"  # dialler: is the ticket good?
    JUDGE_TICKET = "judge_ticket"  # listener: it is for us to say
    LINK = "link"
    FETCHING = "fetching"  # dialler of a data connection
    SEEDING = "seeding"  # listener of a data connection
    CLOSED = "closed"


Event = type[Message] | type[Unknown]
Row = Mapping[tuple[Way, Event], State]

START: Final[Mapping[tuple[Role, Secrecy], State]] = {
    (Role.LISTENER, Secrecy.TLS): State.GREET,
    (Role.DIALLER, Secrecy.TLS): State.AWAIT_GREETING,
    (Role.LISTENER, Secrecy.PLAIN): State.AWAIT_TICKET,
    (Role.DIALLER, Secrecy.PLAIN): State.PRESENT_TICKET,
}

_SENT, _RECEIVED = Way.SENT, Way.RECEIVED
_ENDS: Final[Row] = {(way, kind): State.CLOSED for way in Way for kind in (Problem, Bye)}
_GOING_ON: Final[Mapping[State, Row]] = {
    state: {
        (_SENT, Problem): state,
        (_RECEIVED, Problem): state,
        (_RECEIVED, Unknown): state,
        (_SENT, Bye): State.CLOSED,
        (_RECEIVED, Bye): State.CLOSED,
    }
    for state in (State.LINK, State.FETCHING, State.SEEDING)
}
_LINK_TALK: Final[tuple[type[Message], ...]] = (
    AskTicket, Ticket, Ping, Pong, Peers, AskDenyList, DenyListPage, AskInventory, Inventory, Interest, Have, Held, Claims,
    BadChunk, HubBusy, Attest, Audit, AskManifest, ManifestPage, AskVoucher, VoucherPage, AskPieces, PiecesPage,
    AskSnapshot, SnapshotPage, AskWarm, WarmProgress, AskPrivate, Private,
)  # fmt: skip

TABLE: Final[Mapping[State, Row]] = {
    State.GREET: {(_SENT, Hello): State.GREETED, **_ENDS},
    State.GREETED: {(_RECEIVED, Hello): State.LINK, (_RECEIVED, Attach): State.JUDGE_TICKET, **_ENDS},
    State.AWAIT_GREETING: {(_RECEIVED, Hello): State.CHOOSE, **_ENDS},
    State.CHOOSE: {(_SENT, Hello): State.LINK, (_SENT, Attach): State.AWAIT_VERDICT, **_ENDS},
    State.PRESENT_TICKET: {(_SENT, Attach): State.AWAIT_VERDICT, **_ENDS},
    State.AWAIT_TICKET: {(_RECEIVED, Attach): State.JUDGE_TICKET, **_ENDS},
    State.AWAIT_VERDICT: {(_RECEIVED, Attached): State.FETCHING, **_ENDS},
    State.JUDGE_TICKET: {(_SENT, Attached): State.SEEDING, **_ENDS},
    State.LINK: {**{(way, kind): State.LINK for way in Way for kind in _LINK_TALK}, **_GOING_ON[State.LINK]},
    State.FETCHING: {(_SENT, Get): State.FETCHING, (_RECEIVED, Chunk): State.FETCHING, **_GOING_ON[State.FETCHING]},
    State.SEEDING: {(_RECEIVED, Get): State.SEEDING, (_SENT, Chunk): State.SEEDING, **_GOING_ON[State.SEEDING]},
    State.CLOSED: {},
}
