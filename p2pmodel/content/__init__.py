"""Content: what is stored and moved, as pure values.

A hub names a file's bytes by a hash: that is a ``Blob``. We cut a blob into 4 MiB chunks (``geometry``), remember which
are here (``ChunkMap``) and what each one's BLAKE3 is (``Manifest``). A ``Snapshot`` is a repo at a commit: its files.
An ``Attestation`` is a node's signed word for chunks' digests; ``Grade`` says how far a chunk's bytes may go. A ``PieceList``
is how Xet cuts a file: what can be checked against the hub's own root. Nothing here touches a clock, a file, a socket or a die.
"""

from p2pmodel.content.attestation import Attestation, Circle, Level, Refusal
from p2pmodel.content.chunk_map import ChunkMap
from p2pmodel.content.digest import Blob, BlobHasher, BlobId, chunk_digest
from p2pmodel.content.geometry import chunk_count, chunk_size, chunk_start, chunks_covering
from p2pmodel.content.grade import Grade, peers_grade
from p2pmodel.content.manifest import Manifest, Seal
from p2pmodel.content.naming import Access, Hub, NodeId, Repo, RepoKind, check_path
from p2pmodel.content.pieces import PieceList, piece_hash
from p2pmodel.content.snapshot import FileEntry, Snapshot, commit_of
from p2pmodel.content.voucher import Voucher

__all__ = [
    "Access",
    "Attestation",
    "Blob",
    "BlobHasher",
    "BlobId",
    "ChunkMap",
    "Circle",
    "FileEntry",
    "Grade",
    "Hub",
    "Level",
    "Manifest",
    "NodeId",
    "PieceList",
    "Refusal",
    "Repo",
    "RepoKind",
    "Seal",
    "Snapshot",
    "Voucher",
    "check_path",
    "chunk_count",
    "chunk_digest",
    "chunk_size",
    "chunk_start",
    "chunks_covering",
    "commit_of",
    "peers_grade",
    "piece_hash",
]
