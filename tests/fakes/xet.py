"""Xet's upload formats, written as hf_xet does: for what reads them."""

import random
import struct

import lz4.frame

from p2pmodel.content.xet import xet_bytes

PLAIN, LZ4, GROUPED = range(3)
TAG = b"HFRepoMetaData\0" + bytes(range(17))


def packed(data, scheme):
    if scheme == GROUPED:
        data = b"".join(data[place::4] for place in range(4))
    return data if scheme == PLAIN else lz4.frame.compress(data)


def frame(body, scheme, size):
    return b"\0" + len(body).to_bytes(3, "little") + bytes([scheme]) + size.to_bytes(3, "little") + body


def xorb(chunks, scheme=PLAIN):
    return b"".join(frame(packed(chunk, scheme), scheme, len(chunk)) for chunk in chunks)


def entry(hash_, *numbers):
    return hash_ + struct.pack("<4I", *numbers, *[0] * (4 - len(numbers)))


def shard(*files, verified=True, named=True, rest=b""):
    """`files` are (sha256 in hex, [(xorb's name, size, first, stop), …])."""
    flags = (1 << 31 if verified else 0) | (1 << 30 if named else 0)
    entries = [TAG + struct.pack("<QQ", 2, 0)]
    for sha256, terms in files:
        entries.append(entry(b"f" * 32, flags, len(terms)))
        entries += [entry(xet_bytes(name), 0, size, first, stop) for name, size, first, stop in terms]
        entries += [entry(b"v" * 32)] * (len(terms) if verified else 0)
        entries += [entry(xet_bytes(sha256))] if named else []
    return b"".join(entries) + entry(b"\xff" * 32) + rest


def cut(data, seed=1):
    """Chunks of some 64 KiB."""
    dice, chunks = random.Random(seed), []
    while data:
        size = dice.randrange(8_192, 131_073)
        chunks.append(data[:size])
        data = data[size:]
    return chunks
