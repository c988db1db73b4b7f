"""The chapters say what the code does, wherever that can be compared."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from msgspec import inspect

from p2pmodel import limits
from p2pmodel.wire.codec import tag_of
from p2pmodel.wire.messages import MESSAGES, PROBLEM_CODES, PeerAddress

PROTOCOL = Path(__file__).parents[2] / "protocol"
CHAPTERS = sorted(PROTOCOL.glob("*.md"))
SECTIONS = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", (PROTOCOL / "messages.md").read_text(), re.DOTALL | re.MULTILINE))
_POWERS = {
    2**63 - 1: "2^63-1",
    2**40: "2^40",
    2**32 - 1: "2^32-1",
    2**22: "2^22",
    2**20 - 1: "2^20-1",
    2**18: "2^18",
    2**18 - 1: "2^18-1",
}


def _number(value: float) -> str:
    return _POWERS.get(int(value), str(int(value)))


def _type(info: inspect.Type) -> str:
    """A field's type as messages.md writes it."""
    match info:
        case inspect.IntType() | inspect.FloatType():
            name = "int" if isinstance(info, inspect.IntType) else "float"
            return f"{name} {_number(info.ge)}…{_number(info.le if info.lt is None else info.lt - 1)}"
        case inspect.BytesType() | inspect.StrType():
            least, most = info.min_length or 0, info.max_length
            name = "bin" if isinstance(info, inspect.BytesType) else "str"
            pattern = getattr(info, "pattern", None)
            return f"{name} {most if least == most else f'{least}…{most}'}" + (f" `{pattern}`" if pattern else "")
        case inspect.BoolType():
            return "bool"
        case inspect.ListType():
            return f"array 0…{info.max_length} of {_type(info.item_type)}"
        case inspect.StructType():
            return "nodes"
    raise TypeError(info)


def _field(field: inspect.Field) -> str:
    if field.required:
        return _type(field.type)
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return f"{_type(field.type)}, default `{default!r}`".replace("`''`", '`""`')


def _stated(text: str) -> dict[str, str]:
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \| .+ \|$", text, re.MULTILINE))


def test_the_messages_chapter_has_every_message():
    assert set(SECTIONS) == {tag_of(kind) for kind in MESSAGES}


@pytest.mark.parametrize("kind", MESSAGES, ids=tag_of)
def test_the_messages_chapter_has_every_field_with_its_bounds(kind):
    text = SECTIONS[tag_of(kind)]
    mine, _, inner = text.partition("A node is a map without a tag:")
    assert _stated(mine) == {field.encode_name: _field(field) for field in inspect.type_info(kind).fields}
    if inner:
        assert _stated(inner) == {field.encode_name: _field(field) for field in inspect.type_info(PeerAddress).fields}


def test_the_messages_chapter_names_every_problem():
    assert set(PROBLEM_CODES) <= set(re.findall(r"`(\w+)`", SECTIONS["problem"]))


@pytest.mark.parametrize(
    ("chapter", "phrase"),
    [
        ("framing.md", f"`length` is 1 to {limits.FRAME_BYTES_MAX:,}"),
        ("framing.md", f"| items of an array | {limits.ARRAY_ITEMS_MAX} |"),
        ("framing.md", f"| pairs of a map | {limits.MAP_ITEMS_MAX} |"),
        ("framing.md", f"| bytes of a string | {limits.STRING_BYTES_MAX:,}, "),
        ("chunks.md", f"`i × {limits.CHUNK_BYTES:,}`"),
        ("chunks.md", f"run of 1 to {limits.CHUNKS_PER_GET_MAX} chunks"),
        ("chunks.md", f"Up to {limits.REQUESTS_IN_FLIGHT_MAX} `get`s"),
        ("chunks.md", f"no byte for {limits.CHUNK_PROGRESS_TIMEOUT_S:.0f} s"),
        ("chunks.md", f"within {limits.SEED_PROGRESS_TIMEOUT_S:.0f} s"),
        ("state.md", f"At most {limits.REQUESTS_IN_FLIGHT_MAX}\n  questions"),
        ("swarm.md", f"until {limits.LEASE_S:.0f} s have passed"),
        ("messages.md", f"at most {limits.INVENTORY_ENTRIES_MAX:,} entries"),
        ("messages.md", f"every {limits.HEARTBEAT_S:.0f} s"),
        ("messages.md", f"at most {limits.SNAPSHOT_BYTES_MAX >> 20} MiB"),
        ("warm.md", f"At most {limits.WARMS_AT_ONCE_MAX} such works"),
        ("warm.md", f"for the last {limits.WARMS_KEPT_MAX};"),
        ("manifest.md", f"at most {limits.DIGESTS_PER_PAGE_MAX:,}"),
        ("opening.md", f"at most {limits.HANDSHAKE_TIMEOUT_S:.0f} s"),
        ("opening.md", f"data connections ({limits.CONNECTIONS_PER_PEER_MAX})"),
        ("discovery.md", f"less than {limits.TXT_BYTES_MAX} bytes"),
        ("discovery.md", f"{limits.CANDIDATES_MAX:,} unproven candidates are kept, {limits.CANDIDATES_PER_ADDRESS_MAX} for"),
    ],
)
def test_a_chapter_states_the_bound_that_the_code_keeps(chapter: str, phrase: str):
    assert phrase in (PROTOCOL / chapter).read_text()


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.name)
def test_every_file_that_a_chapter_points_to_is_there(chapter: Path):
    pointed = re.findall(r"\b((?:schema/|vectors/|conformance/)?[a-z]+\.(?:md|json|py))\b", chapter.read_text())
    assert [name for name in pointed if not (PROTOCOL / name).exists()] == []
