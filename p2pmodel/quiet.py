"""A thread behind all others, for work that nobody waits for: hashing whole caches must not slow down a client's chunk."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, TypeVar

import trio

T = TypeVar("T")
_NICEST: Final = 19


class QuietThread:
    """`run` is a `Blocking` (delivery/blocking.py), one call at a time. On Linux a thread has a niceness of its own, and its
    disk reads follow it; it could not be taken back, so the threads that everybody shares will not do."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "quiet", initializer=_be_nice)

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Not given up half-way: calls are short."""
        done, token = trio.Event(), trio.lowlevel.current_trio_token()
        future = self._pool.submit(function, *args)

        def wake(_: object) -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(done.set)

        future.add_done_callback(wake)
        with trio.CancelScope(shield=True):
            await done.wait()
        await trio.lowlevel.checkpoint_if_cancelled()
        return future.result()


def _be_nice() -> None:
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICEST)
