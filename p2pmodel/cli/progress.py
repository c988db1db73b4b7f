"""How a fetch is going, on stderr: a bar on a terminal, a line now and then elsewhere, nothing when asked to be quiet."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final, Protocol, Self

import click
import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.live import Live
    from rich.progress import Progress
    from rich.text import Text

_LINE_INTERVAL_S: Final = 2.0
_UNITS: Final = ("B", "kB", "MB", "GB", "TB")
_STEP: Final = 1000


class Amounts(msgspec.Struct, kw_only=True):
    """How far a fetch is: bytes of the snapshot's files by where they came from."""

    files: int = 0
    files_done: int = 0
    bytes: int = 0
    here: int = 0
    peers: int = 0
    upstream: int = 0
    rate: float = 0.0


class FetchEvent(Amounts, kw_only=True):
    """A line of the daemon's `/-/api/fetch`; `path` in the last."""

    event: str
    commit: str = ""
    path: str | None = None

    @property
    def last(self) -> bool:
        return self.event == "done"

    @property
    def done(self) -> int:
        return min(self.here + self.peers + self.upstream, self.bytes)

    @property
    def split(self) -> str:
        return f"here {amount(self.here)}, peers {amount(self.peers)}, hub {amount(self.upstream)}"

    @property
    def far(self) -> str:
        files = f", {self.files_done:,} of {self.files:,} files" if self.files > 1 and not self.last else ""
        return f"{amount(self.done)} of {amount(self.bytes)}{files}"

    @property
    def words(self) -> str:
        """How far it is, and where the bytes came from."""
        return f"{self.far} ({self.split})"

    @property
    def pace(self) -> str:
        """Rate and time to go."""
        if self.rate <= 0:
            return "waiting"
        return f"{amount(self.rate)}/s, {seconds((self.bytes - self.done) / self.rate)} to go"


class HashEvent(FetchEvent, kw_only=True):
    """A line of what only reads: where its bytes come from is no question."""

    @property
    def words(self) -> str:
        return self.far


class View(Protocol):
    def update(self, event: FetchEvent) -> None: ...


def view(repo: str, *, quiet: bool) -> AbstractContextManager[View]:
    """The view that suits stderr."""
    if quiet:
        return nullcontext(_Silent())
    if sys.stderr.isatty():
        return _Bar(repo)
    return nullcontext(_Lines(repo, time.monotonic))


def amount(count: float) -> str:
    """Bytes for people."""
    for unit in _UNITS[:-1]:
        digits = 0 if unit == "B" else 1
        if round(count, digits) < _STEP:  # 999,960 B are 1.0 MB, not 1000.0 kB
            return f"{count:.{digits}f} {unit}"
        count /= _STEP
    return f"{count:.1f} {_UNITS[-1]}"


def count(number: int, noun: str) -> str:
    """Things for people; `noun` is one of them."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def seconds(duration: float) -> str:
    """A duration for people."""
    minutes, rest = divmod(round(duration), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class _Silent:
    def update(self, event: FetchEvent) -> None: ...


class _Lines:
    def __init__(self, repo: str, clock: Callable[[], float]) -> None:
        self._repo = repo
        self._clock = clock
        self._next = clock() + _LINE_INTERVAL_S  # what is over sooner needs only its last line

    def update(self, event: FetchEvent) -> None:
        now = self._clock()
        if now < self._next and not event.last:
            return
        self._next = now + _LINE_INTERVAL_S
        pace = "" if event.last else f", {event.pace}"
        click.echo(f"{self._repo}: {event.words}{pace}", err=True)


class _Bar:
    """rich's bar with rate and time to go, and below it how far it is, in as many lines as a narrow terminal takes: nothing is
    cut off. rich itself heeds NO_COLOR. What has arrived when it ends is said by a plain last line."""

    def __init__(self, repo: str) -> None:
        self._repo = repo
        self._progress: Progress | None = None
        self._live: Live | None = None
        self._words: Text | None = None
        self._last: FetchEvent | None = None

    def __enter__(self) -> Self:
        from rich.console import Console, Group  # noqa: PLC0415  # rich costs more than the rest of a warm fetch
        from rich.live import Live  # noqa: PLC0415
        from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[pace]}"))
        self._progress, self._words = Progress(*columns), Text("asking the hub")
        self._task = self._progress.add_task(self._repo, total=None, pace="")
        self._live = Live(Group(self._progress, self._words), console=Console(stderr=True), transient=True)
        self._live.start()
        return self

    def update(self, event: FetchEvent) -> None:
        assert self._progress is not None
        assert self._words is not None
        self._last = event
        self._words.plain = event.words
        self._progress.update(self._task, total=event.bytes, completed=event.done, pace=event.pace)

    def __exit__(self, *exc_info: object) -> None:  # what every context manager gets
        assert self._live is not None
        self._live.stop()
        if self._last is not None:
            click.echo(f"{self._repo}: {self._last.words}", err=True)
