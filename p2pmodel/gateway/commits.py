"""A commit on its way to a hub: it passes unchanged, and the small files in it are kept until the hub has taken it. (Large
files came before it, part by part.) Of a `git push`, what it says before its pack is read: where it leads the branches.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from p2pmodel.limits import COMMIT_FILES_BYTES_MAX, COMMIT_LINE_BYTES_MAX, PUSHED_BRANCHES_MAX

_FILE: Final = b'"file"'


class _Value(msgspec.Struct):
    content: str = ""
    encoding: str = ""


class _Line(msgspec.Struct):
    key: str
    value: _Value = msgspec.field(default_factory=_Value)


class CommitFiles:
    """Goes through the lines of a commit as they stream (NDJSON). `found` are the files in them, as far as there is room."""

    def __init__(self) -> None:
        self.found: list[bytes] = []
        self._room = COMMIT_FILES_BYTES_MAX
        self._line = bytearray()
        self._too_long = False

    async def watch(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            self._take(piece)
            yield piece
        self._end_line()

    def _take(self, piece: bytes) -> None:
        first, *others = piece.split(b"\n")
        self._go_on(first)
        for line in others:
            self._end_line()
            self._go_on(line)

    def _go_on(self, part: bytes) -> None:
        self._too_long = self._too_long or len(self._line) + len(part) > COMMIT_LINE_BYTES_MAX
        if self._too_long:
            self._line.clear()
        else:
            self._line += part

    def _end_line(self) -> None:
        line, self._line = bytes(self._line), bytearray()
        if self._too_long or _FILE not in line[:64]:
            self._too_long = False
            return
        try:
            read = msgspec.json.decode(line, type=_Line)
            data = base64.b64decode(read.value.content, validate=True)
        except (ValueError, RecursionError, binascii.Error):
            return  # whatever it is: the hub reads it
        if read.key == "file" and read.value.encoding == "base64" and len(data) <= self._room:
            self._room -= len(data)
            self.found.append(data)


class _Action(msgspec.Struct):
    content: str = ""
    encoding: str = ""


class _Actions(msgspec.Struct):
    actions: list[_Action] = []


class CommitDocument:
    """The same for ModelScope, whose commit is one JSON document: it is read once the hub has taken it, if there was room."""

    def __init__(self) -> None:
        self._body: bytearray | None = bytearray()

    async def watch(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            if self._body is not None:
                self._body += piece
                if len(self._body) > COMMIT_FILES_BYTES_MAX:
                    self._body = None
            yield piece

    @property
    def found(self) -> list[bytes]:
        """The files in it; none where it was too long or is not as it should be, which is the hub's to say."""
        try:
            actions = msgspec.json.decode(self._body or b"{}", type=_Actions).actions
            return [base64.b64decode(each.content, validate=True) for each in actions if each.encoding == "base64"]
        except (ValueError, RecursionError):
            return []


_HEX: Final = re.compile(rb"[0-9a-f]{4}")
_COMMAND: Final = re.compile(rb"[0-9a-f]{40} ([0-9a-f]{40}) refs/heads/[^\0]+")
_NO_COMMIT: Final = "0" * 40  # the branch is deleted
_HEX_DIGITS: Final = 4


class PushedRefs:
    """`commits` are those to which a push leads branches (https://git-scm.com/docs/gitprotocol-pack, "Reference Update
    Request"): lines that begin with their length in four hex digits, until one of length 0."""

    def __init__(self) -> None:
        self.commits: list[str] = []
        self._head: bytearray | None = bytearray()

    async def watch(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            if self._head is not None:
                self._head += piece
                self._read(self._head)
            yield piece

    def _read(self, head: bytearray) -> None:
        """As many lines as are there; nothing more after the last, or where it is none."""
        while len(head) >= _HEX_DIGITS:
            length = int(head[:_HEX_DIGITS], 16) if _HEX.fullmatch(head[:_HEX_DIGITS]) else 0
            if length <= _HEX_DIGITS or len(self.commits) >= PUSHED_BRANCHES_MAX:
                self._head = None
                return
            if len(head) < length:
                return
            if (command := _COMMAND.match(head[_HEX_DIGITS:length])) and (commit := command[1].decode()) != _NO_COMMIT:
                self.commits.append(commit)
            del head[:length]
