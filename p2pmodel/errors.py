"""What can go wrong, named by who is to blame and so by who acts.

Each error is one sentence for a person; ``next_step`` says what to do about it. Nothing in a message may carry a token.
"""

from __future__ import annotations


class P2pmodelError(Exception):
    """Every expected failure. Anything else is a bug and ends the daemon."""

    next_step: str = ""

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        if next_step:
            self.next_step = next_step


# The user (or the operator) asked for something that cannot be: they act.


class ConfigError(P2pmodelError):
    """A setting or an argument is wrong; names where it stands and what would be right."""


class NoDaemonError(P2pmodelError):
    """The command needs a running daemon and found none."""

    next_step = "Start one with `p2pmodel serve`."


class NotFoundError(P2pmodelError):
    """The hub says that what was asked for does not exist (or does not exist for this caller)."""


class RepoNotFoundError(NotFoundError):
    """No such repo, or a private one that this caller may not see: hubs make the two look alike, and so do we."""

    next_step = "Check its name; if it is private, set the token of somebody who may read it (HF_TOKEN, MODELSCOPE_API_TOKEN)."


class RevisionNotFoundError(NotFoundError):
    """The repo has no such branch, tag or commit."""


class EntryNotFoundError(NotFoundError):
    """The snapshot has no such file."""

    def __init__(self, message: str, *, commit: str = "", next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.commit = commit


class NotAuthorisedError(P2pmodelError):
    """The hub wants a token, or refuses the one it got."""


class GatedRepoError(NotAuthorisedError):
    """The repo is listed for everybody and given only to those whom its owner let in."""


# Nobody can give it now: wait, or restore a connection.


class UnavailableError(P2pmodelError):
    """No source can give it now: the hub does not answer and no peer holds it."""


class OfflineError(UnavailableError):
    """This node is told to ask no hub, and neither it nor a peer has it: to ask again would change nothing."""


class RateLimitedError(UnavailableError):
    """The hub asks for patience."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


# A source did not give what was asked of it: another source is asked, this one loses standing.


class SourceError(P2pmodelError):
    """A peer or an upstream failed to deliver an order."""


class SourceBusyError(SourceError):
    """The source cannot serve now and says so; ask again later. No blame."""


class NotHeldError(SourceError):
    """The source no longer has what it said it had. No blame."""


class ShortAnswerError(SourceError):
    """Fewer bytes came than were promised, or the connection broke."""


class WrongAnswerError(SourceError):
    """The source answered something else than it was asked: a wrong range, length, type or changed content."""


class WrongBytesError(SourceError):
    """The bytes are not those of the digest that vouches for them."""


class StrangerError(SourceError):
    """The other end of a connection did not prove that it belongs to this cluster."""


class PeerProtocolError(SourceError):
    """A peer broke the wire protocol; its connection is closed."""


class OtherVersionError(PeerProtocolError):
    """A node speaks no version of the protocol that we do. No blame: one of the two is to be upgraded."""


# This machine's disk.


class StoreError(P2pmodelError):
    """The store cannot do it."""


class StoreFullError(StoreError):
    """No room left on the device, or the quota is used up. Nothing is lost; the same command resumes."""


class StoreBusyError(StoreError):
    """Another daemon owns this state directory."""


class StoreDamagedError(StoreError):
    """What is on disk is not what was written."""


class StoreTooNewError(StoreError):
    """A newer p2pmodel wrote this state directory."""


def first_error(group: BaseExceptionGroup[P2pmodelError]) -> P2pmodelError:
    """The first of the expected errors that a nursery gathered: the one to tell the caller."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, P2pmodelError)
    return found
