"""Logs: to stderr, as lines for a person on a terminal, as JSON for a journal. Tokens are not logged because no room has
them in what it logs; the last processor is a second net for the shapes that hubs give theirs."""

from __future__ import annotations

import logging
import re
import sys
from typing import Final

import structlog

_TOKEN_SHAPES: Final = re.compile(r"(hf_[A-Za-z0-9]{8,}|ms-[0-9a-f-]{16,}|p2pm1-[a-z2-7]{8,}|(?i:bearer)\s+\S+)")


def configure(level: str, style: str) -> None:
    """`level` as in log.level, `style` as in log.format."""
    text = style == "text" or (style == "auto" and sys.stderr.isatty())
    renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if text else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def redact(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Blot out whatever looks like a token."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = _TOKEN_SHAPES.sub("[token]", value)
    return event
