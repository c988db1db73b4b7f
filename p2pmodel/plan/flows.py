"""Bytes under way: streams share the pipes that they pass, the sender's and the receiver's.

`EqualShare` gives a stream the smaller of its two pipes' equal shares and looks again only at the streams beside it: cheap,
and on the safe side, for what one stream cannot use no other gets. `MaxMin` gives it to them: the exact answer of what many
long TCP streams come to, computed over all pipes at every change. A test holds the one against the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from p2pmodel.plan.clock import Clock

_SAME: Final = 1e-6  # rates so close (relatively) are one rate
_NOTHING: Final = 1e-3  # bytes: what floating point leaves over


class Pipe:
    """One direction of a node's cable, or the line of the hub. `rate` is in bytes/s."""

    __slots__ = ("carried", "rate", "streams")

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.streams: dict[Stream, None] = {}  # in the order of their beginning
        self.carried = 0.0

    @property
    def share(self) -> float:
        return self.rate / len(self.streams)


class Stream:
    """One chunk on its way."""

    __slots__ = ("at", "done", "left", "pipes", "rate", "turn")

    def __init__(self, pipes: tuple[Pipe, Pipe], count: float, now: float, done: Callable[[], None]) -> None:
        self.pipes = pipes
        self.left = count
        self.rate = 0.0
        self.at = now  # when `left` was true
        self.turn = 0  # how often its rate changed: an end that was foreseen before that is void
        self.done = done


class EqualShare:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def begin(self, source: Pipe, target: Pipe, count: float, done: Callable[[], None]) -> Stream:
        """`done` is called when `count` bytes have passed both."""
        stream = Stream((source, target), count, self._clock.now, done)
        source.streams[stream] = target.streams[stream] = None
        self._changed(stream)
        return stream

    def left(self, stream: Stream) -> float:
        """How many bytes have not passed yet."""
        return max(0.0, stream.left - (self._clock.now - stream.at) * stream.rate)

    def cancel(self, stream: Stream) -> None:
        self._settle(stream)
        self._remove(stream)

    def _remove(self, stream: Stream) -> None:
        stream.turn += 1
        for pipe in stream.pipes:
            del pipe.streams[stream]
        self._changed(stream)

    def _changed(self, stream: Stream) -> None:
        """A stream came or went."""
        for pipe in stream.pipes:
            for each in pipe.streams:
                one, other = each.pipes
                self._set(each, min(one.share, other.share))

    def _settle(self, stream: Stream) -> None:
        """What has passed until now."""
        now = self._clock.now
        passed = min(stream.left, (now - stream.at) * stream.rate)
        stream.left -= passed
        stream.at = now
        for pipe in stream.pipes:
            pipe.carried += passed

    def _set(self, stream: Stream, rate: float) -> None:
        if abs(rate - stream.rate) <= _SAME * rate:
            return
        self._settle(stream)
        stream.rate = rate
        stream.turn += 1
        self._clock.after(stream.left / rate, partial(self._end, stream, stream.turn))

    def _end(self, stream: Stream, turn: int) -> None:
        if stream.turn != turn:
            return
        self._settle(stream)
        for pipe in stream.pipes:
            pipe.carried += stream.left  # a rounding error
        self._remove(stream)
        stream.done()


class MaxMin(EqualShare):
    """`pipes` are all that there are."""

    def __init__(self, clock: Clock, pipes: Iterable[Pipe]) -> None:
        super().__init__(clock)
        self._pipes = list(pipes)
        self._due = False

    def _changed(self, _stream: Stream) -> None:
        if not self._due:
            self._due = True
            self._clock.after(0.0, self._share_out)

    def _share_out(self) -> None:
        """Progressive filling: the narrowest pipe fixes its streams' rates, what they leave is for the others."""
        self._due = False
        room = {pipe: pipe.rate for pipe in self._pipes if pipe.streams}
        open_streams = {pipe: dict(pipe.streams) for pipe in room}
        while open_streams:
            narrowest = min(open_streams, key=lambda pipe: room[pipe] / len(open_streams[pipe]))
            rate = max(room[narrowest] / len(open_streams[narrowest]), _NOTHING)
            for stream in list(open_streams[narrowest]):
                self._set(stream, rate)
                for pipe in stream.pipes:
                    room[pipe] -= rate
                    del open_streams[pipe][stream]
                    if not open_streams[pipe]:
                        del open_streams[pipe]
