"""What others say that a blob's digests are: signed words that came with chunks, and sealed manifests. Words, not proofs."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Final

import trio

from p2pmodel.content import Attestation, Blob, Manifest, NodeId
from p2pmodel.delivery.manifests import assemble_manifest
from p2pmodel.delivery.ports import Neighbours
from p2pmodel.errors import SourceError
from p2pmodel.limits import SEALS_PER_BLOB_MAX, SIGNERS_PER_CHUNK_MAX
from p2pmodel.wire.messages import AskManifest

Contradiction = tuple[Attestation, Attestation]

_MUTE_S: Final = 1.0  # an audit looks around twenty times a second


class Testimony:
    """`followed` is the sealer whose manifest chunks are held against on arrival: the first, until it is forgotten."""

    def __init__(self, blob: Blob, neighbours: Neighbours) -> None:
        self._blob = blob
        self._neighbours = neighbours
        self._words: dict[int, dict[NodeId, Attestation]] = {}
        self._seals: dict[NodeId, Manifest] = {}
        self._by_root: dict[bytes, Manifest] = {}
        self._forgotten: set[NodeId] = set()
        self._asked: dict[NodeId, float] = {}  # for its manifest: until when it is not asked again
        self.followed: NodeId | None = None

    # Seals

    def follow(self, node: NodeId | None) -> None:
        self.followed = node

    def sealers(self) -> list[NodeId]:
        return list(self._seals)

    def wants(self, peer: NodeId) -> bool:
        """Whether its manifest is worth asking for."""
        return self._asked.get(peer, -inf) <= trio.current_time() and len(self._by_root) < SEALS_PER_BLOB_MAX

    async def ask(self, peer: NodeId) -> bool:
        """So that a chunk from anybody else is held against a signer's word on arrival. Without it chunks are checked
        against the words that come with them, and the blob's hash in the end. Whether there is a new one."""
        self._asked[peer] = inf
        answered = False
        try:
            pages = await self._neighbours.ask(peer, AskManifest(request=0, blob=self._blob.id.to_bytes()))
            manifest, seal = assemble_manifest(self._blob, pages)
            answered = True
        except (SourceError, ValueError):
            return False
        finally:
            if not answered:
                self._asked[peer] = trio.current_time() + _MUTE_S  # it may be there the next time; a liar never will
        manifest = self._by_root.setdefault(seal.root, manifest)
        if seal.node in self._forgotten or seal.node in self._seals:
            return False
        self._seals[seal.node] = manifest
        self.followed = self.followed or seal.node
        return True

    def sealed_by(self, node: NodeId, chunk: int) -> bytes | None:
        """What its seal says of a chunk."""
        manifest = self._seals.get(node)
        return manifest.digest(chunk) if manifest else None

    def against(self, chunk: int, digest: bytes) -> NodeId | None:
        """The followed node, if its seal says that this chunk has another digest."""
        signer = self.followed
        return signer if signer is not None and self._seals[signer].digest(chunk) != digest else None

    def manifest_of(self, root: bytes) -> Manifest | None:
        return self._by_root.get(root)

    def credit(self, node: NodeId, manifest: Manifest) -> bool:
        """A member vouches for a manifest that came from anybody: it answers for it like one that sealed it here. False if
        it has sealed another."""
        if node in self._forgotten:
            return True
        return self._seals.setdefault(node, manifest).digests == manifest.digests

    def sealers_against(self, chunk: int, digest: bytes) -> list[NodeId]:
        return [node for node, manifest in self._seals.items() if manifest.digest(chunk) != digest]

    # Words

    def hear(self, word: Attestation) -> Contradiction | None:
        """Keep a checked word; what it contradicts of the same signer's, if it does."""
        node = word.node
        for chunk in word.chunks:
            words = self._words.setdefault(chunk, {})
            before = words.get(node)
            if before is not None and before.digest(chunk) != word.digest(chunk) and before.accountable and word.accountable:
                return before, word
            if before is not None or len(words) < SIGNERS_PER_CHUNK_MAX:
                words[node] = word
        return None

    def has(self, word: Attestation) -> bool:
        """Whether this very word was checked and heard before: a batch comes again with each of its chunks."""
        return self._words.get(word.first, {}).get(word.node) == word

    def word_for(self, chunk: int, digest: bytes) -> Attestation | None:
        """The best word for this digest: what goes on with the chunk."""
        words = [word for word in self._words.get(chunk, {}).values() if word.digest(chunk) == digest]
        return max(words, key=lambda word: word.level, default=None)

    def words_against(self, chunk: int, digest: bytes) -> list[Attestation]:
        """Accountable ones that say otherwise."""
        words = self._words.get(chunk, {}).values()
        return [word for word in words if word.accountable and word.digest(chunk) != digest]

    def parties(self, chunk: int) -> set[NodeId]:
        """Who has said anything accountable of it."""
        followed = {self.followed} if self.followed else set()
        return followed | {node for node, word in self._words.get(chunk, {}).items() if word.accountable}

    def signers(self, chunk: int, digest: bytes) -> set[NodeId]:
        """Who answers for this digest, by word or seal."""
        words = {node for node, word in self._words.get(chunk, {}).items() if word.accountable and word.says(chunk, digest)}
        return words | {node for node, manifest in self._seals.items() if manifest.digest(chunk) == digest}

    def refuted_by(self, manifest: Manifest) -> Iterator[tuple[int, Attestation]]:
        """Accountable words that a proven manifest shows to be false: of each signer one."""
        found: set[NodeId] = set()
        for chunk, words in self._words.items():
            for node, word in words.items():
                if word.accountable and node not in found and word.digest(chunk) != manifest.digest(chunk):
                    found.add(node)
                    yield chunk, word

    def sealers_refuted_by(self, manifest: Manifest) -> list[NodeId]:
        return [node for node, sealed in self._seals.items() if sealed.digests != manifest.digests]

    def sealers_of(self, manifest: Manifest) -> list[NodeId]:
        return [node for node, sealed in self._seals.items() if sealed.digests == manifest.digests]

    def differences(self, node: NodeId, digests: list[bytes | None]) -> list[int]:
        """Where a node's seal says otherwise."""
        manifest = self._seals[node]
        return [chunk for chunk, digest in enumerate(digests) if digest is not None and manifest.digest(chunk) != digest]

    def forget(self, node: NodeId) -> None:
        """Its word is not heard again of this blob."""
        self._forgotten.add(node)
        self._seals.pop(node, None)
        if self.followed == node:
            self.followed = next(iter(self._seals), None)
        for words in self._words.values():
            words.pop(node, None)
