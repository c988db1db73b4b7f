"""Sealed manifests as pages of the wire, and back."""

from __future__ import annotations

from collections.abc import Sequence

from p2pmodel.content import Blob, Manifest, Seal
from p2pmodel.content.manifest import DIGEST_BYTES
from p2pmodel.limits import DIGESTS_PER_PAGE_MAX
from p2pmodel.wire.messages import ManifestPage, Message
from p2pmodel.wire.packed import pages


def manifest_pages(request: int, manifest: Manifest, seal: Seal) -> list[ManifestPage]:
    return [
        ManifestPage(
            request=request,
            blob=manifest.blob.id.to_bytes(),
            size=manifest.blob.size,
            first=start // DIGEST_BYTES,
            digests=digests,
            root=seal.root,
            signer=seal.signer,
            signature=seal.signature,
            last=last,
        )
        for start, digests, last in pages(manifest.digests, DIGESTS_PER_PAGE_MAX * DIGEST_BYTES)
    ]


def assemble_manifest(blob: Blob, answer: Sequence[Message]) -> tuple[Manifest, Seal]:
    """Raises ValueError unless the pages are a whole manifest of this blob with a seal that vouches for it."""
    digests = bytearray()
    seal = None
    for page in answer:
        if not isinstance(page, ManifestPage) or page.size != blob.size or page.first * DIGEST_BYTES != len(digests):
            raise ValueError("pages of a manifest that do not follow each other")
        digests += page.digests
        seal = Seal(page.root, page.signer, page.signature)
    manifest = Manifest(blob, bytes(digests))
    if seal is None or not seal.vouches_for(manifest):
        raise ValueError("a manifest whose seal does not vouch for it")
    return manifest, seal
