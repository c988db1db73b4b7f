"""How attackers spoil what is well formed: seeded, so that every run tries the same."""

import msgpack

ODD_VALUES = (
    None, True, -1, 0, 1, 2**31, 2**32, 2**63, 2**64 - 1, 1.5, float("nan"), float("inf"), "", "x", "\n", "a\0b",
    "x" * 5000, "é" * 300,
    b"", b"\0", b"\xff" * 33, bytes(40_000), [], [[]], [None] * 65, {}, {"a": {"a": {}}}, list(range(60)),
)  # fmt: skip


def spoilt_bytes(data, dice):
    """A few bytes flipped, cut out, put in or doubled."""
    spoilt = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        at = dice.randint(0, len(spoilt))
        match dice.randrange(4):
            case 0 if at < len(spoilt):
                spoilt[at] ^= dice.randint(1, 255)
            case 1:
                del spoilt[at : at + dice.randint(1, 9)]
            case 2:
                spoilt[at:at] = dice.randbytes(dice.randint(1, 9))
            case _:
                spoilt[at:at] = spoilt[at : at + 40]
    return bytes(spoilt)


def spoilt_fields(fields, dice):
    """A message with a field of another kind, out of bounds, missing or too many."""
    spoilt = dict(fields)
    name = dice.choice(sorted(spoilt))
    match dice.randrange(6):
        case 0:
            del spoilt[name]
        case 1:
            spoilt[dice.choice(("x", "", name * 20))] = dice.choice(ODD_VALUES)
        case _:
            spoilt[name] = dice.choice(ODD_VALUES)
    return msgpack.packb(spoilt)


def framed(body, dice):
    """A frame with that body, now and then of another length than it says."""
    length = len(body)
    match dice.randrange(12):
        case 0:
            length = dice.choice((0, 1, 65_536, 65_537, 1 << 24, 0xFFFFFFFF))
        case 1:
            length = max(0, length + dice.randint(-4, 4))
    return length.to_bytes(4, "big") + body
