"""Tasks that outlive whoever began them, and end with the daemon: each part of delivery that has such work owns some."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from p2pmodel.errors import UnavailableError


class Tasks:
    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Cancel it to end them all."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def check(self) -> None:
        """Raises UnavailableError when nothing can be begun any more."""
        if self._nursery is None:
            raise UnavailableError("The daemon is stopping.")

    def start(self, work: Callable[..., Awaitable[object]], *args: object) -> None:
        """Raises UnavailableError."""
        self.check()
        assert self._nursery is not None
        self._nursery.start_soon(work, *args)
