"""What a node says of itself by multicast: a TXT record of less than 400 bytes. Anyone on the LAN can read and forge it.

| key | value |
|---|---|
| v | 1 |
| id | node id |
| c | cluster tag |
| p | port for links |
| s | boot id in hex, a dot, inventory sequence |
| d | inventory digest in hex |
| g | generation: counts announcements, for a record that does not change wakes nobody |
| f | keyed filter of the public blobs held, raw; closed clusters only |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from p2pmodel.content import NodeId
from p2pmodel.content.blob_filter import BlobFilter
from p2pmodel.limits import TXT_BYTES_MAX

SERVICE: Final = "_p2pmodel._tcp.local."
_VERSION: Final = b"1"
_NODE: Final = re.compile(rb"[0-9a-f]{40}")
_TAG: Final = re.compile(rb"[0-9a-f]{16}")
_PORT: Final = re.compile(rb"[1-9][0-9]{0,4}")
_STANDING: Final = re.compile(rb"([0-9a-f]{16})\.([0-9]{1,19})")
_DIGEST: Final = re.compile(rb"[0-9a-f]{32}")
_PORT_MAX: Final = 65535


@dataclass(frozen=True, slots=True)
class Announcement:
    node: NodeId
    tag: str
    port: int
    boot: bytes  # 8
    sequence: int
    digest: bytes  # 16
    filter: BlobFilter | None = None

    def to_txt(self, generation: int) -> dict[str, bytes]:
        """The record's keys and values. Raises ValueError if they would not fit."""
        txt = {
            "v": _VERSION,
            "id": self.node.encode(),
            "c": self.tag.encode(),
            "p": b"%d" % self.port,
            "s": b"%s.%d" % (self.boot.hex().encode(), self.sequence),
            "d": self.digest.hex().encode(),
            "g": b"%d" % generation,
        }
        if self.filter:
            txt["f"] = self.filter.bits
        if (size := sum(len(key) + 2 + len(value) for key, value in txt.items())) >= TXT_BYTES_MAX:
            raise ValueError(f"a TXT record of {size} bytes")
        return txt

    @classmethod
    def from_txt(cls, txt: Mapping[bytes, bytes | None]) -> Announcement:
        """Raises ValueError for anything but a well-formed record of this version; unknown keys are ignored."""
        if txt.get(b"v") != _VERSION:
            raise ValueError("an announcement of another version")
        port = int(_match(_PORT, txt, b"p")[0])
        if port > _PORT_MAX:
            raise ValueError("p is out of range")
        standing = _match(_STANDING, txt, b"s")
        bits = txt.get(b"f")
        return cls(
            node=NodeId(_match(_NODE, txt, b"id")[0].decode()),
            tag=_match(_TAG, txt, b"c")[0].decode(),
            port=port,
            boot=bytes.fromhex(standing[1].decode()),
            sequence=int(standing[2]),
            digest=bytes.fromhex(_match(_DIGEST, txt, b"d")[0].decode()),
            filter=BlobFilter(bits) if bits else None,
        )


def _match(pattern: re.Pattern[bytes], txt: Mapping[bytes, bytes | None], key: bytes) -> re.Match[bytes]:
    match = pattern.fullmatch(txt.get(key) or b"")
    if match is None:
        raise ValueError(f"{key.decode()} is malformed or missing")
    return match
