"""What members say a blob's digests are: the first sealed manifest that a peer handed us. A word, not a proof."""

from __future__ import annotations

from p2pmodel.content import Blob, Manifest, NodeId
from p2pmodel.delivery.manifests import assemble_manifest
from p2pmodel.delivery.ports import Neighbours
from p2pmodel.errors import SourceError
from p2pmodel.wire.messages import AskManifest


class Testimony:
    def __init__(self, blob: Blob, neighbours: Neighbours) -> None:
        self._blob = blob
        self._neighbours = neighbours
        self._sealed: tuple[Manifest, NodeId] | None = None
        self._liars: set[NodeId] = set()

    @property
    def given(self) -> bool:
        return self._sealed is not None

    async def ask(self, peer: NodeId) -> None:
        """So that a chunk from anybody else is held against a signer's word on arrival. Without it chunks are checked
        against their senders' own claims, and the blob's hash in the end."""
        try:
            pages = await self._neighbours.ask(peer, AskManifest(request=0, blob=self._blob.id.to_bytes()))
            manifest, seal = assemble_manifest(self._blob, pages)
        except (SourceError, ValueError):
            return
        if seal.node not in self._liars:
            self._sealed = self._sealed or (manifest, seal.node)

    def refuted(self, signer: NodeId) -> None:
        """What it sealed turned out false: of this blob its word is not heard again."""
        self._liars.add(signer)
        self._sealed = None

    def against(self, chunk: int, digest: bytes) -> NodeId | None:
        """The node whose seal says that this chunk has another digest."""
        if self._sealed is None or self._sealed[0].digest(chunk) == digest:
            return None
        return self._sealed[1]
