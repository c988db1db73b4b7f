"""How a command ends: exit codes as data, and errors as one sentence with the next step."""

from __future__ import annotations

import os
import sys
from typing import Final

import click

from p2pmodel import errors

DONE: Final = 0
_FAILED: Final = 1

#: The first line that fits decides.
_CODES: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (errors.ConfigError, 2),
    (click.UsageError, 2),
    (errors.NotFoundError, 3),
    (errors.NotAuthorisedError, 4),
    (errors.UnavailableError, 5),
    (errors.NoDaemonError, 6),
    (KeyboardInterrupt, 130),
    (click.Abort, 130),
)

#: What is no bug, so that nobody who debugs is told more than the others.
_EXPECTED: Final = (errors.P2pmodelError, click.ClickException, click.Abort, KeyboardInterrupt, OSError)

#: The branches of failure that a daemon's answer can come back as.
_BRANCHES: Final = (
    errors.ConfigError,
    errors.NotFoundError,
    errors.NotAuthorisedError,
    errors.UnavailableError,
    errors.StoreError,
)


def failure(name: str, message: str, next_step: str) -> errors.P2pmodelError:
    """What failed in the daemon, by the name of its error there, as an exception of the same branch here."""
    kind = getattr(errors, name, None)
    branches = (branch for branch in _BRANCHES if isinstance(kind, type) and issubclass(kind, branch))
    return next(branches, errors.P2pmodelError)(message, next_step=next_step)


def report(error: BaseException) -> int:
    """Tell a person on stderr what went wrong; returns the exit code."""
    error = _innermost(error)
    if isinstance(error, SystemExit):  # nobody but click says so here, and only when a pipe broke
        error = BrokenPipeError()
    if isinstance(error, GeneratorExit) or (_debugging() and not isinstance(error, _EXPECTED)):
        raise error
    if isinstance(error, OSError):
        _drop_what_cannot_be_written()
    if isinstance(error, BrokenPipeError):  # `p2pmodel list | head`: the reader has had enough
        return DONE
    if isinstance(error, click.ClickException):
        error.show()
    else:
        click.echo(_told(error), err=True)
    return next((code for kind, code in _CODES if isinstance(error, kind)), _FAILED)


def _drop_what_cannot_be_written() -> None:
    """Where stdout is full or closed: Python would try once more at its end, and fail in its own words."""
    if sys.stdout is None:  # it was closed when we began
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _told(error: BaseException) -> str:
    if isinstance(error, errors.P2pmodelError):
        return f"Error: {_sentence(str(error))} {error.next_step}".rstrip()
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return "Interrupted."
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"Error: {where}{error.strerror or error}."
    return (
        f"Error: p2pmodel itself failed ({type(error).__name__}: {error}). "
        "Please report it with what P2PMODEL_LOG__LEVEL=debug shows."
    )


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _innermost(error: BaseException) -> BaseException:
    """Out of nested groups the failure that says most to a person: one of ours before anything else."""
    while isinstance(error, BaseExceptionGroup):
        ours = error.subgroup(errors.P2pmodelError)
        error = (ours or error).exceptions[0]
    return error


def _debugging() -> bool:
    return os.environ.get("P2PMODEL_LOG__LEVEL") == "debug"
