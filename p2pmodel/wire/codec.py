"""Bytes and messages: a frame is a u32 length (big-endian, 1 … 64 KiB) and one msgpack map with the message's tag at "t".

msgpack is decoded with limits so tight that a hostile frame costs no more than a few of its own size; then the fields'
types and bounds are checked by msgspec, then the rest by `checks`. Facts to re-check when changing a limit: a 64 KiB
frame of nested arrays costs 69 MB with msgpack's default limits and 2 MB with arrays of at most 64 items.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final

import msgpack
import msgspec

from p2pmodel.errors import PeerProtocolError
from p2pmodel.limits import ARRAY_ITEMS_MAX, FRAME_BYTES_MAX, MAP_ITEMS_MAX, STRING_BYTES_MAX
from p2pmodel.wire.checks import check
from p2pmodel.wire.messages import MESSAGES, Message

LENGTH: Final = struct.Struct(">I")
REQUEST_ID_MAX: Final = 0xFFFFFFFF
_TAG_CHARS_MAX: Final = 64
_REASON_CHARS_MAX: Final = 200
_NATIVE: Final = (bytes,)  # else msgspec would take base64 text for bytes


class LocalProtocolError(Exception):
    """We tried to say what the protocol does not allow now: a bug of ours, so not one of the expected errors."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message that this version does not know. It is answered with `Problem(code="unknown_message")`."""

    tag: str
    request: int  # 0 if it carries none


def tag_of(message: type[Message]) -> str:
    """The value of "t" for a type of message."""
    return str(message.__struct_config__.tag)


_TYPES: Final[dict[str, type[Message]]] = {tag_of(kind): kind for kind in MESSAGES}


def encode(message: Message) -> bytes:
    """The whole frame. Raises LocalProtocolError for a message that a peer would refuse."""
    fields = msgspec.to_builtins(message, builtin_types=_NATIVE)
    try:
        msgspec.convert(fields, type(message), builtin_types=_NATIVE)
        check(message)
    except ValueError as error:
        raise LocalProtocolError(f"{tag_of(type(message))}: {error}") from error
    body: bytes = msgpack.packb(fields)
    if len(body) > FRAME_BYTES_MAX:
        raise LocalProtocolError(f"{tag_of(type(message))}: a frame of {len(body)} bytes")
    return LENGTH.pack(len(body)) + body


def frame_length(head: bytes | bytearray) -> int:
    """The length of the frame body that follows these 4 bytes. Raises PeerProtocolError outside 1 … 64 KiB."""
    (length,) = LENGTH.unpack(head)
    if not 1 <= length <= FRAME_BYTES_MAX:
        raise PeerProtocolError(f"a frame of {length} bytes")
    return int(length)


def decode(frame_body: bytes | bytearray | memoryview) -> Message | Unknown:
    """The message in a frame's body. Raises PeerProtocolError, and nothing else, for whatever is wrong with it."""
    fields = _unpack(frame_body)
    tag = fields.get("t")
    if not isinstance(tag, str) or not 1 <= len(tag) <= _TAG_CHARS_MAX or not tag.isprintable():
        raise PeerProtocolError("a frame without a message tag")
    kind = _TYPES.get(tag)
    if kind is None:
        return Unknown(tag, _request_of(fields))
    try:
        message = msgspec.convert(fields, kind, builtin_types=_NATIVE)
        check(message)
    except ValueError as error:
        raise PeerProtocolError(f"{tag}: {error}"[:_REASON_CHARS_MAX]) from None
    return message


def _unpack(frame_body: bytes | bytearray | memoryview) -> dict[Any, Any]:
    if not 1 <= len(frame_body) <= FRAME_BYTES_MAX:
        raise PeerProtocolError(f"a frame of {len(frame_body)} bytes")
    try:
        value = msgpack.unpackb(
            frame_body,
            raw=False,
            strict_map_key=True,
            max_array_len=ARRAY_ITEMS_MAX,
            max_map_len=MAP_ITEMS_MAX,
            max_str_len=STRING_BYTES_MAX,
            max_bin_len=FRAME_BYTES_MAX,
            max_ext_len=0,
        )
    except ValueError as error:  # all that msgpack raises on bytes, a bad UTF-8 string included
        raise PeerProtocolError(
            f"no msgpack within the limits: {str(error) or type(error).__name__}"[:_REASON_CHARS_MAX]
        ) from None
    if not isinstance(value, dict):
        raise PeerProtocolError("a frame that is no map")
    return value


def _request_of(fields: dict[Any, Any]) -> int:
    request = fields.get("request", 0)
    if type(request) is not int or not 0 <= request <= REQUEST_ID_MAX:
        raise PeerProtocolError("a request id out of bounds")
    return request
