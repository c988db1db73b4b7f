"""Byte ranges as clients ask for them (RFC 9110 §14): one range, clamped to the file; several are answered whole."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_SPEC: Final = re.compile(r"\s*bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*", re.IGNORECASE | re.ASCII)


class UnsatisfiableError(ValueError):
    """The range starts behind the end of the file: 416."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes [start, stop) of a file of `size` bytes. `partial` is whether the answer is a 206."""

    start: int
    stop: int
    size: int
    partial: bool

    @property
    def length(self) -> int:
        return self.stop - self.start

    @property
    def content_range(self) -> str:
        """The value of Content-Range. An empty file has no byte to name; clients that probe it with `bytes=0-0` read `*`."""
        return f"bytes {self.start}-{self.stop - 1}/{self.size}" if self.length else f"bytes */{self.size}"


def choose(header: str | None, size: int) -> ByteRange:
    """What to send of a file of `size` bytes for a Range header.

    A header that is no single well-formed byte range is ignored, as the RFC allows. Raises UnsatisfiableError.
    """
    whole = ByteRange(0, size, size, partial=False)
    match = _SPEC.fullmatch(header) if header else None
    if match is None:
        return whole
    first, last = match[1], match[2]
    if first:
        return _from_start(int(first), int(last) if last else None, size) or whole
    return _suffix(int(last), size) if last else whole


def _from_start(first: int, last: int | None, size: int) -> ByteRange | None:
    if last is not None and last < first:
        return None  # not a range at all
    if first >= size and not first == size == 0:
        raise UnsatisfiableError
    stop = size if last is None else min(last + 1, size)
    return ByteRange(first, stop, size, partial=True)


def _suffix(length: int, size: int) -> ByteRange:
    if not length or not size:
        raise UnsatisfiableError
    return ByteRange(max(size - length, 0), size, size, partial=True)
