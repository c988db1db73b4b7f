"""Tasks that outlive whoever began them, and end with the daemon: each part of delivery that has such work owns some."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from p2pmodel.errors import UnavailableError


class Tasks:
    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None

    async def run(
        self,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
        *,
        meanwhile: Callable[[], Awaitable[object]] = trio.sleep_forever,
    ) -> None:
        """Cancel it to end them all. `meanwhile` never returns: what is to be done now and then, whoever asks."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await meanwhile()
            finally:
                self._nursery = None

    @property
    def open(self) -> bool:
        """Whether anything can still be begun."""
        return self._nursery is not None

    def check(self) -> None:
        """Raises UnavailableError unless anything can still be begun."""
        if not self.open:
            raise UnavailableError("The daemon is stopping.")

    def start(self, work: Callable[..., Awaitable[object]], *args: object) -> None:
        """Raises UnavailableError."""
        self.check()
        assert self._nursery is not None
        self._nursery.start_soon(work, *args)
