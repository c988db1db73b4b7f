"""Bringing a snapshot here: its files side by side, small ones first, then made visible in the cache tree."""

from __future__ import annotations

import fnmatch
from collections import Counter, deque
from collections.abc import AsyncGenerator

import trio

from p2pmodel.content import Access, FileEntry, Snapshot
from p2pmodel.delivery.catalog import Catalog
from p2pmodel.delivery.downloads import Downloads
from p2pmodel.delivery.pace import Urgency
from p2pmodel.delivery.ports import Location, Progress, Selection, Surroundings
from p2pmodel.errors import EntryNotFoundError, P2pmodelError, UnavailableError, first_error
from p2pmodel.limits import FILES_AT_ONCE, TWO_NAMES_BYTES_MAX

_REPORT_S = 0.5
_RATE_WINDOW = 10  # reports: the rate is that of the last 5 s


def select(snapshot: Snapshot, selection: Selection) -> list[FileEntry]:
    """The files asked for, in the order in which they are fetched. Raises EntryNotFoundError for a name that is not there."""
    for path in selection.paths:
        if snapshot.entry(path) is None:
            raise EntryNotFoundError(f"{snapshot.repo} has no file {path!r} at {snapshot.commit[:12]}.", commit=snapshot.commit)
    chosen = [entry for entry in snapshot.files if _selected(entry.path, selection)]
    return sorted(chosen, key=_as_a_loader_needs_it)


def _as_a_loader_needs_it(entry: FileEntry) -> tuple[bool, int, str]:
    """Configuration, tokenizer and index first, the smallest first; then the weights in the order of their names, which is
    the order in which an index lists its shards."""
    large = entry.size > TWO_NAMES_BYTES_MAX
    return large, 0 if large else entry.size, entry.path


def _selected(path: str, selection: Selection) -> bool:
    if selection.paths and path not in selection.paths:
        return False
    if selection.include and not any(fnmatch.fnmatchcase(path, pattern) for pattern in selection.include):
        return False
    return not any(fnmatch.fnmatchcase(path, pattern) for pattern in selection.exclude)


class Fetch:
    """One snapshot on its way in. `run` is the work, `progress` may be followed meanwhile."""

    def __init__(
        self,
        around: Surroundings,
        catalog: Catalog,
        downloads: Downloads,
        snapshot: Snapshot,
        files: list[FileEntry],
        access: Access,
        *,
        offline: bool,
        urgency: Urgency,
    ) -> None:
        self._offline = offline
        self._urgency = urgency
        self._around = around
        self._catalog = catalog
        self._downloads = downloads
        self._snapshot = snapshot
        self._files = files
        self._access = access
        self._received: Counter[str] = Counter()  # of finished downloads
        self._here = 0
        self._files_done = 0
        self._live: set[_Part] = set()
        self._seen: deque[tuple[float, int]] = deque(maxlen=_RATE_WINDOW)
        self._path: str | None = None
        self._failure: P2pmodelError | None = None
        self._over = trio.Event()
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        """Never raises a P2pmodelError: `progress` does."""
        waiting = deque(self._files)
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    for _ in range(min(FILES_AT_ONCE, len(waiting))):
                        nursery.start_soon(self._lane, waiting)
                await self._show()
        except* P2pmodelError as group:
            self._failure = first_error(group)
        finally:
            self._over.set()

    def give_up(self) -> None:
        self._scope.cancel()

    async def _show(self) -> None:
        self._path = str(await self._around.blocking(self._around.store.materialise, self._snapshot, self._files))

    async def _lane(self, waiting: deque[FileEntry]) -> None:
        while waiting:
            await self._bring(waiting.popleft())

    async def _bring(self, entry: FileEntry) -> None:
        if entry.blob is None:
            raise UnavailableError(
                f"The hub gives no usable hash for {entry.path!r}.", next_step="Download it from the hub itself."
            )
        await self._catalog.check_readable(self._snapshot, entry, self._access, offline=self._offline)
        state = self._around.store.find(entry.blob.id)
        if state is not None and state.sealed and (not state.private or not self._snapshot.public):
            self._downloads.statistics.came("store", entry.size)
            self._here += entry.size
        else:
            await self._download(entry)
        self._files_done += 1

    async def _download(self, entry: FileEntry) -> None:
        assert entry.blob is not None
        location = None
        if not self._offline and not self._snapshot.repo.on_lan:
            location = Location(self._snapshot.repo, self._snapshot.commit, entry.path, self._access)
        private = not self._snapshot.public
        async with self._downloads.wanted(entry.blob, location, private=private, urgency=self._urgency) as download:
            part = _Part(download.arrivals.received, before=dict(download.arrivals.received))
            self._live.add(part)
            try:
                while not download.over:
                    await download.change()
            finally:
                self._live.discard(part)
            if download.failure is not None:
                raise download.failure
            came = part.came()
            self._received.update(came)
            self._here += max(0, entry.size - sum(came.values()))

    async def progress(self) -> AsyncGenerator[Progress, None]:
        """A report now and then; the last one has the path. Raises what ended the fetch."""
        while not self._over.is_set():
            yield self._report()
            with trio.move_on_after(_REPORT_S):
                await self._over.wait()
        if self._failure is not None:
            raise self._failure
        yield self._report()

    def _report(self) -> Progress:
        received = self._received.copy()
        for part in self._live:
            received.update(part.came())
        now, total = trio.current_time(), sum(received.values())
        self._seen.append((now, total))
        since, before = self._seen[0]
        return Progress(
            commit=self._snapshot.commit,
            files=len(self._files),
            files_done=self._files_done,
            bytes=sum(entry.size for entry in self._files),
            here=self._here,
            peers=received["peers"],
            upstream=received["upstream"],
            rate=(total - before) / (now - since) if now > since else 0.0,
            path=self._path,
        )


class _Part:
    """What one download has received since this fetch joined it."""

    def __init__(self, received: Counter[str], before: dict[str, int]) -> None:
        self._received = received
        self._before = before

    def came(self) -> dict[str, int]:
        return {source: count - self._before.get(source, 0) for source, count in self._received.items()}
