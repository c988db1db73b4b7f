"""What private blobs are here, by the names under which peers ask for them.

A list, made anew at most once in PRIVATE_NAMES_S while peers ask, and when a download of ours begins or ends: two hundred
peers ask for each file, and going through the whole store for each question would be a good part of a core.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import trio

from p2pmodel.content import Blob
from p2pmodel.content.access_proof import PROVABLE_BYTES_MIN, secret_name
from p2pmodel.delivery.ports import Store
from p2pmodel.limits import PRIVATE_NAMES_S


class PrivateNames:
    """`keys` tells the cluster's keys: while it changes its key a blob has two names."""

    def __init__(self, store: Store, keys: Callable[[], Collection[bytes]]) -> None:
        self._store = store
        self._keys = keys
        self._listed_keys: tuple[bytes, ...] = ()
        self._listed_at = -math.inf
        self._names: dict[tuple[Blob, bytes], bytes] = {}
        self._named: dict[bytes, tuple[Blob, bytes]] = {}

    def find(self, name: bytes) -> tuple[Blob, bytes] | None:
        """The blob, if it is private and here, and under which key it is called so."""
        keys = tuple(self._keys())
        if keys != self._listed_keys or trio.current_time() - self._listed_at >= PRIVATE_NAMES_S:
            self._list(keys)
        found = self._named.get(name)
        state = self._store.find(found[0].id) if found else None
        return found if found and state is not None and state.private and state.blob == found[0] else None

    def changed(self) -> None:
        """A private blob came or went."""
        self._listed_at = -math.inf

    def _list(self, keys: tuple[bytes, ...]) -> None:
        before, states = self._names, self._store.blobs()
        blobs = [state.blob for state in states if state.private and state.blob.size >= PROVABLE_BYTES_MIN]
        parted = [(blob, key) for blob in blobs for key in keys]
        self._names = {each: before.get(each) or secret_name(each[0].id, each[1]) for each in parted}
        self._named = {name: each for each, name in self._names.items()}
        self._listed_keys, self._listed_at = keys, trio.current_time()
