"""The seam for work that blocks: a disk, a hash over megabytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import trio

T = TypeVar("T")


class Blocking(Protocol):
    """Runs a blocking call off the trio thread (`in_thread`); a simulation runs it inline."""

    async def __call__(self, function: Callable[..., T], *args: object) -> T: ...


async def in_thread(function: Callable[..., T], *args: object) -> T:
    return await trio.to_thread.run_sync(function, *args)
