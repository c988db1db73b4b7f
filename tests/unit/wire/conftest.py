from __future__ import annotations

from collections.abc import Callable

import pytest

from p2pmodel.wire import Role, Secrecy, Session
from p2pmodel.wire.messages import Attach, Attached, Hello

Pair = tuple[Session, Session]


@pytest.fixture
def hello() -> Hello:
    return Hello(version=1, version_min=1, boot=b"startup1", port=7277)


@pytest.fixture
def say() -> Callable[..., object]:
    """One side says, the other hears: the event."""

    def carry(speaker: Session, hearer: Session, message: object) -> object:
        hearer.receive_bytes(speaker.send(message))
        return hearer.next_event()

    return carry


@pytest.fixture
def link(hello: Hello, say: Callable[..., object]) -> Pair:
    """A dialler and a listener that have agreed on a link."""
    dialler, listener = Session(Role.DIALLER), Session(Role.LISTENER)
    say(listener, dialler, hello)
    say(dialler, listener, hello)
    return dialler, listener


@pytest.fixture
def data(say: Callable[..., object]) -> Pair:
    """A dialler and a listener of a plain data connection whose ticket was good."""
    dialler, listener = Session(Role.DIALLER, Secrecy.PLAIN), Session(Role.LISTENER, Secrecy.PLAIN)
    say(dialler, listener, Attach(ticket=bytes(16)))
    say(listener, dialler, Attached())
    return dialler, listener
