"""Rebuilds protocol/schema/ and protocol/vectors/, and the table in state.md, from p2pmodel itself.

    python protocol/generate.py            write what changed
    python protocol/generate.py --check    write nothing; exit 1 if something would change

A vector that changes without a new protocol version is a broken promise to every other implementation: read the diff.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import msgspec
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import inspect

from p2pmodel.content import (
    Attestation,
    Blob,
    BlobHasher,
    BlobId,
    ChunkMap,
    Circle,
    Level,
    Manifest,
    NodeId,
    Seal,
    Voucher,
    access_proof,
    chunk_count,
    chunk_digest,
    chunk_size,
)
from p2pmodel.content.naming import node_id_of
from p2pmodel.content.pieces import piece_entry
from p2pmodel.limits import CHUNK_BYTES
from p2pmodel.peering.identity import Identity
from p2pmodel.peering.membership import Membership, sharing_key
from p2pmodel.wire import Secrecy, State, encode
from p2pmodel.wire import messages as m
from p2pmodel.wire.codec import LENGTH, tag_of
from p2pmodel.wire.packed import InventoryEntry, pack_entries, pack_indices, pack_runs, unpack_entries
from p2pmodel.wire.states import START, TABLE, Way

HERE = Path(__file__).parent
Json = dict[str, Any]
Said = tuple[str, m.Message]  # `>` by the dialler, `<` by the listener

# Everything below is made of these, so that a reader recognises them in hex.
HELLO = b"hello"
BLOB = Blob(BlobId("sha256", hashlib.sha256(HELLO).hexdigest()), 2 * CHUNK_BYTES + 5)  # the name of other bytes: no matter here
SMALL = BlobId("git-sha1", hashlib.sha1(b"blob 5\0" + HELLO, usedforsecurity=False).hexdigest())
NAME = BLOB.id.to_bytes()
BOOT = bytes(range(8))
TICKET = bytes(range(16, 32))
DIGEST = chunk_digest(HELLO)
NODE_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
NODE = node_id_of(NODE_KEY.public_key().public_bytes_raw())
MANIFEST = Manifest(BLOB, DIGEST + chunk_digest(b"") + chunk_digest(b"p2pmodel"))
SEAL = Seal.sign(MANIFEST, NODE_KEY)
CIRCLE = Circle(BOOT)
WORD = Attestation.sign(BLOB, 0, MANIFEST.digests[:64], Level.WITNESS, circle=CIRCLE, key=NODE_KEY)
OTHER_WORD = Attestation.sign(BLOB, 1, MANIFEST.digests[64:], Level.CONFIRMED, circle=CIRCLE, key=NODE_KEY)
VOUCHER = Voucher.sign(BLOB, SEAL.root, circle=CIRCLE, key=NODE_KEY)
PIECES = piece_entry(HELLO) + piece_entry(HELLO[::-1])
PAGE: Json = {"blob": NAME, "size": BLOB.size, "root": SEAL.root, "signer": SEAL.signer, "signature": SEAL.signature}
ENTRIES = pack_entries([InventoryEntry(BLOB.id, BLOB.size, 2), InventoryEntry(SMALL, 5, 1)])

GOOD: list[tuple[str, m.Message]] = [
    ("a listener's or dialler's hello", m.Hello(version=1, version_min=1, abilities=["example"], boot=BOOT, port=7277)),
    ("a node that listens nowhere", m.Hello(version=1, version_min=1, boot=BOOT, port=0)),
    ("a ticket spent", m.Attach(ticket=TICKET)),
    ("the ticket was good", m.Attached()),
    ("a ticket asked for", m.AskTicket(request=1)),
    ("a ticket for a plain connection", m.Ticket(request=1, ticket=TICKET, plain=True)),
    ("a heartbeat", m.Ping(nonce=7, sequence=42, digest=bytes(16))),
    ("a heartbeat in a hardened cluster", m.Ping(nonce=8, sequence=42, digest=bytes(16), deny_list=b"\x01\x02")),
    ("its answer", m.Pong(nonce=7)),
    (
        "two neighbours",
        m.Peers(
            nodes=[
                m.PeerAddress(node=NODE, host="192.0.2.7", port=7277),
                m.PeerAddress(node=NODE[::-1], host="2001:db8::7", port=7277),
            ]
        ),
    ),
    ("no neighbours", m.Peers(nodes=[])),
    ("a deny list asked for", m.AskDenyList(request=8)),
    ("its only page", m.DenyListPage(request=8, data=b"0\x82", last=True)),
    ("changes asked for", m.AskInventory(request=2, boot=BOOT, since=41)),
    ("one page", m.Inventory(request=2, boot=BOOT, sequence=42, whole=False, entries=ENTRIES, last=True)),
    ("nothing held", m.Inventory(request=2, boot=BOOT, sequence=0, whole=True, entries=b"", last=True)),
    ("a blob wanted", m.Interest(blob=NAME, size=BLOB.size, on=True)),
    (
        "two chunks of three",
        m.Have(blob=NAME, size=BLOB.size, sealed=False, wanted=True, chunks=ChunkMap(3, [0, 2]).to_bytes()),
    ),
    ("all of it", m.Have(blob=NAME, size=BLOB.size, sealed=True, wanted=False, chunks=ChunkMap.full(3).to_bytes())),
    ("an empty blob", m.Have(blob=NAME, size=0, sealed=True, wanted=False, chunks=b"")),
    ("two chunks came", m.Held(blob=NAME, chunks=pack_indices([0, 2]))),
    ("a chunk is being given", m.Held(blob=NAME, chunks=b"", given=pack_indices([1]))),
    ("two runs being read", m.Claims(blob=NAME, runs=pack_runs([(0, 16), (32, 1)]))),
    ("no more claims", m.Claims(blob=NAME, runs=b"")),
    ("one run from a hub, one from a peer", m.Claims(blob=NAME, runs=pack_runs([(0, 1)]), coming=pack_runs([(1, 2)]))),
    ("wrong bytes came", m.BadChunk(blob=NAME, chunk=2)),
    ("a hub asked for patience", m.HubBusy(upstream="huggingface.co", retry_after=12.5)),
    ("two words that differ", m.Attest(blob=NAME, size=BLOB.size, words=WORD.to_bytes() + OTHER_WORD.to_bytes())),
    ("an audit begins", m.Audit(blob=NAME, size=BLOB.size, round=1)),
    ("an audit is over", m.Audit(blob=NAME, size=BLOB.size, round=0)),
    ("digests asked for", m.AskManifest(request=3, blob=NAME)),
    ("the first page", m.ManifestPage(request=3, first=0, digests=MANIFEST.digests[:64], last=False, **PAGE)),
    ("the last page", m.ManifestPage(request=3, first=2, digests=MANIFEST.digests[64:], last=True, **PAGE)),
    ("a voucher asked for", m.AskVoucher(request=8, blob=NAME)),
    ("a voucher", m.VoucherPage(request=8, voucher=VOUCHER.to_bytes())),
    ("how a file is cut", m.AskPieces(request=9, blob=NAME, first=2)),
    ("two pieces", m.PiecesPage(request=9, first=2, pieces=PIECES)),
    (
        "a listing asked for",
        m.AskSnapshot(request=4, hub="huggingface", kind="model", name="qwen/Qwen-7B-Chat", revision="main"),
    ),
    ("its only page", m.SnapshotPage(request=4, data=b'{"v":1}', last=True)),
    (
        "a snapshot to be brought in",
        m.AskWarm(
            request=6,
            hub="huggingface",
            kind="model",
            name="qwen/Qwen-7B-Chat",
            revision="main",
            include=["*.json", "*.safetensors"],
            begin=True,
        ),
    ),
    (
        "how far it is",
        m.WarmProgress(
            request=6, state="running", commit="ab" * 20, files=3, files_done=1, bytes=2000, here=500, upstream=700, rate=2.5
        ),
    ),
    ("why it could not be", m.WarmProgress(request=6, state="failed", text="No room left on the device.")),
    ("entry to a private blob's swarm", m.AskPrivate(request=7, name=DIGEST, proof=DIGEST[::-1])),
    ("entry without a proof", m.AskPrivate(request=7, name=DIGEST)),
    ("let in", m.Private(request=7, proof=DIGEST)),
    ("all three chunks", m.Get(request=5, blob=NAME, size=BLOB.size, first=0, count=3)),
    ("the short chunk at the end", m.Chunk(request=5, index=2, size=5, digest=DIGEST)),
    ("a chunk with a word", m.Chunk(request=5, index=1, size=CHUNK_BYTES, digest=WORD.digest(1), attestation=WORD.to_bytes())),
    ("a request that failed", m.Problem(request=5, code="not_held", text="chunk 1 is not here")),
    ("a message not understood", m.Problem(request=0, code="unknown_message", text="flood")),
    ("going", m.Bye(reason="shutting down")),
]

DROP = object()  # leaves a field out

BAD: list[tuple[type[m.Message], Json, str]] = [
    (m.Hello, {"version": 0}, "versions begin at 1"),
    (m.Hello, {"version_min": 2}, "the lowest version is above the highest"),
    (m.Hello, {"boot": bytes(7)}, "boot takes 8 bytes"),
    (m.Hello, {"port": -1}, "a negative port"),
    (m.Hello, {"abilities": [f"a{n}" for n in range(33)]}, "more than 32 abilities"),
    (m.Hello, {"abilities": ["line\nbreak"]}, "an ability is a word"),
    (m.Attach, {"ticket": bytes(15)}, "a ticket takes 16 bytes"),
    (m.Attach, {"ticket": "AAAAAAAAAAAAAAAAAAAAAA=="}, "text where bytes belong"),
    (m.Attached, {"t": 7}, "a tag is text"),
    (m.AskTicket, {"request": 0}, "request ids begin at 1"),
    (m.AskTicket, {"request": 1.0}, "a request id is an integer"),
    (m.Ticket, {"plain": 1}, "plain is a boolean"),
    (m.Ping, {"nonce": -1}, "a negative nonce"),
    (m.Ping, {"sequence": 1 << 63}, "a sequence beyond 2^63 - 1"),
    (m.Ping, {"deny_list": b"\0\1"}, "a number begins with a zero"),
    (m.Ping, {"deny_list": b"\1" * 21}, "a number of more than 20 bytes"),
    (m.Pong, {"nonce": DROP}, "a field is missing"),
    (m.AskDenyList, {"request": 0}, "request ids begin at 1"),
    (m.DenyListPage, {"data": b"", "last": False}, "an empty page that is not the last"),
    (m.Peers, {"nodes": [{"node": NODE, "host": "hub.example.org", "port": 7277}]}, "a host is an IP address, never a name"),
    (m.Peers, {"nodes": [{"node": NODE.upper(), "host": "192.0.2.7", "port": 7277}]}, "a node id is lower-case hex"),
    (m.Peers, {"nodes": [{"node": NODE, "host": "fe80::1%eth0", "port": 7277}]}, "a scope means nothing elsewhere"),
    (m.Peers, {"nodes": [{"node": NODE, "host": "192.0.2.7", "port": 0}]}, "a port is 1 to 65535"),
    (m.AskInventory, {"since": -1}, "a negative sequence"),
    (m.Inventory, {"entries": ENTRIES[:-1]}, "entries are cut off in the middle"),
    (m.Inventory, {"entries": ENTRIES[:-1] + b"\3"}, "an unknown state"),
    (m.Inventory, {"entries": b"", "last": False}, "an empty page that is not the last"),
    (m.Interest, {"blob": b"\x03" + NAME[1:]}, "an unknown hash tag"),
    (m.Interest, {"size": (1 << 40) + 1}, "larger than 1 TiB"),
    (m.Have, {"chunks": b"\x05\x00"}, "more bytes than the blob has chunks"),
    (m.Have, {"chunks": b"\x0d"}, "a bit beyond the last chunk"),
    (m.Have, {"sealed": True}, "sealed, but a chunk is missing"),
    (m.Held, {"chunks": b"\0\0\0"}, "indices are cut off in the middle"),
    (m.Held, {"chunks": b"\xff\xff\xff\xff"}, "a chunk beyond any blob"),
    (m.Held, {"given": b"\xff\xff\xff\xff"}, "a chunk beyond any blob is given"),
    (m.Claims, {"runs": pack_runs([(3, 0)])}, "an empty run"),
    (m.Claims, {"coming": pack_runs([(3, 0)])}, "an empty run on its way"),
    (m.Claims, {"firm": pack_runs([(3, 0)])}, "an empty run that is firm"),
    (m.Claims, {"runs": pack_runs([(1 << 31, 1 << 31)])}, "a run beyond any blob"),
    (m.BadChunk, {"chunk": 1 << 18}, "a chunk beyond any blob"),
    (m.HubBusy, {"retry_after": float("nan")}, "not a number"),
    (m.HubBusy, {"retry_after": -1.0}, "negative patience"),
    (m.HubBusy, {"upstream": "http://169.254.169.254/"}, "a host, not a URL"),
    (m.Attest, {"words": WORD.to_bytes()[:-1]}, "a word is cut off"),
    (m.Attest, {"words": bytes(200)}, "no attestation"),
    (m.Audit, {"round": 4}, "more than 3 rounds"),
    (m.AskManifest, {"blob": SMALL.to_bytes()[:-1] + b"\1"}, "a short hash is padded with zeros"),
    (m.ManifestPage, {"digests": MANIFEST.digests[:63]}, "digests are cut off in the middle"),
    (m.ManifestPage, {"digests": MANIFEST.digests + DIGEST}, "more digests than the blob has chunks"),
    (m.ManifestPage, {"last": True}, "the last page ends at the last chunk"),
    (m.ManifestPage, {"digests": b""}, "a page without digests"),
    (m.ManifestPage, {"signature": bytes(63)}, "a signature takes 64 bytes"),
    (m.AskVoucher, {"blob": NAME[:-1]}, "a name takes 33 bytes"),
    (m.VoucherPage, {"voucher": VOUCHER.to_bytes()[:-1]}, "a voucher is cut off"),
    (m.VoucherPage, {"voucher": bytes(len(VOUCHER.to_bytes()))}, "no voucher"),
    (m.AskPieces, {"first": 1 << 20}, "beyond the longest list"),
    (m.PiecesPage, {"pieces": PIECES[:-1]}, "a piece is cut off"),
    (m.PiecesPage, {"pieces": b""}, "a page without pieces"),
    (m.PiecesPage, {"pieces": PIECES[:32] + b"\0\0\0\0"}, "an empty piece"),
    (m.PiecesPage, {"pieces": PIECES[:32] + b"\1\0\2\0"}, "a piece of more than 128 KiB"),
    (m.AskSnapshot, {"name": "../../etc/passwd"}, "not a repo name"),
    (m.AskSnapshot, {"revision": ""}, "an empty revision"),
    (m.SnapshotPage, {"data": b"", "last": False}, "an empty page that is not the last"),
    (m.AskWarm, {"name": "../../etc/passwd"}, "not a repo name"),
    (m.AskWarm, {"include": ["*"] * 17}, "more than 16 patterns"),
    (m.AskWarm, {"exclude": ["\x1b[2J"]}, "control characters"),
    (m.AskWarm, {"begin": DROP}, "a field is missing"),
    (m.WarmProgress, {"state": "Half Way"}, "a state is a word"),
    (m.WarmProgress, {"rate": -1.0}, "a negative rate"),
    (m.WarmProgress, {"files": -1}, "a negative count"),
    (m.AskPrivate, {"name": bytes(31)}, "a name takes 32 bytes"),
    (m.AskPrivate, {"proof": bytes(31)}, "a proof takes 32 bytes, or none"),
    (m.Private, {"proof": bytes(33)}, "a proof takes 32 bytes, or none"),
    (m.Get, {"count": 0}, "no chunk at all"),
    (m.Get, {"count": 4}, "beyond the end of the blob"),
    (m.Get, {"count": 65, "size": 1 << 30}, "more than 64 chunks"),
    (m.Chunk, {"size": CHUNK_BYTES + 1}, "larger than 4 MiB"),
    (m.Chunk, {"digest": bytes(31)}, "a digest takes 32 bytes"),
    (m.Chunk, {"attestation": WORD.to_bytes() * 2}, "two words with one chunk"),
    (m.Problem, {"code": "Not Held"}, "a code is a word"),
    (m.Problem, {"text": "x" * 501}, "more than 500 characters"),
    (m.Bye, {"reason": "\x1b[2J"}, "control characters"),
]

BAD_LENGTHS: list[tuple[bytes, str]] = [
    (bytes(4), "an empty frame"),
    (b"\x00\x01\x00\x01", "65,537 bytes: refused before they come"),
    (b"\xff\xff\xff\xff", "4 GiB: refused before they come"),
    (b"\x16\x03\x01\x02", "a TLS record where a frame belongs"),
]

BAD_BODIES: list[tuple[bytes, str]] = [
    (b"\xc1", "not msgpack"),
    (b"\x90", "an array, not a map"),
    (b"\x81\xa1t", "cut off inside the map"),
    (b"\x81\xa1t\xa8attached\xc0", "bytes after the map"),
    (b"\x80", "no tag"),
    (b"\x81\xa1t\xa1\xff", "text that is not UTF-8"),
    (b"\x82\xa1t\xa8attached\x01\x01", "a key that is no text"),
    (b"\x82\xa1t\xa8attached\xa1x\xd6\xff\0\0\0\0", "an extension type"),
    (b"\x82\xa1t\xa8attached\xa1x" + b"\x91" * 2000 + b"\xc0", "2,000 nested arrays"),
    (b"\x82\xa1t\xa8attached\xa1x\xdc\x00\x41" + b"\xc0" * 65, "an array of 65 items"),
    (b"\x82\xa1t\xa8attached\xa1x\xdd\xff\xff\xff\xff", "an array of 4 G items"),
    (b"\x82\xa1t\xa8attached\xa1x\xda\x10\x01" + b"x" * 4097, "a string of 4,097 bytes"),
    (b"\x81\xa1t\xa7no\nword", "a tag with a line break"),
]


def frame(body: bytes) -> bytes:
    return LENGTH.pack(len(body)) + body


def plain(value: Any) -> Any:  # noqa: ANN401  # whatever a message holds
    """A message's fields as JSON: bytes become hex."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def fields_of(message: m.Message) -> Json:
    fields: Json = msgspec.to_builtins(message, builtin_types=(bytes,))
    return fields


# Vectors


def message_vectors() -> Json:
    first: dict[type[m.Message], m.Message] = {}
    for _, message in GOOD:
        first.setdefault(type(message), message)
    first[m.Have] = next(message for name, message in GOOD if name == "two chunks of three")
    bad = []
    for kind, wrong, why in BAD:
        fields = {key: value for key, value in {**fields_of(first[kind]), **wrong}.items() if value is not DROP}
        bad.append({"message": tag_of(kind), "why": why, "frame": frame(msgpack.packb(fields)).hex()})
    return {
        "good": [
            {
                "message": tag_of(type(message)),
                "what": what,
                "frame": encode(message).hex(),
                "fields": plain(fields_of(message)),
            }
            for what, message in GOOD
        ],
        "tolerated": list(tolerated_vectors()),
        "bad": bad,
    }


def tolerated_vectors() -> Iterator[Json]:
    """What a newer version may send to an older one."""
    pong = {"t": "pong", "nonce": 7}
    moody = frame(msgpack.packb({**pong, "mood": {"fine": [1, 2, None]}}))
    yield {"what": "an unknown field is ignored", "frame": moody.hex(), "fields": pong}
    bye = {"t": "bye"}
    yield {"what": "an optional field is left out", "frame": frame(msgpack.packb(bye)).hex(), "fields": {**bye, "reason": ""}}
    flood = {"t": "flood", "request": 9, "water": b"\0" * 4}
    yield {
        "what": "an unknown message: answered with problem unknown_message for its request, nothing else happens",
        "frame": frame(msgpack.packb(flood)).hex(),
        "unknown": {"tag": "flood", "request": 9},
    }


def framing_vectors() -> Json:
    refused = [*BAD_LENGTHS, *((frame(body), why) for body, why in BAD_BODIES)]
    return {"refused": [{"why": why, "bytes": data.hex()} for data, why in refused]}


def content_vectors() -> Json:
    sizes = [0, 1, 5, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, BLOB.size, 1 << 40]
    names = []
    for algorithm in ("sha256", "git-sha1"):
        for data in (b"", HELLO):
            hasher = BlobHasher(algorithm, len(data))
            hasher.update(data)
            names.append({"bytes": data.hex(), "name": str(hasher.id()), "wire": hasher.id().to_bytes().hex()})
    return {
        "blob_names": names,
        "bad_blob_names": [
            {"why": "32 bytes", "wire": NAME[:-1].hex()},
            {"why": "unknown tag", "wire": (b"\0" + NAME[1:]).hex()},
            {"why": "a short hash is padded with zeros", "wire": (SMALL.to_bytes()[:-1] + b"\1").hex()},
        ],
        "cutting": [
            {"size": size, "chunks": chunk_count(size), "last": chunk_size(size, chunk_count(size) - 1) if size else None}
            for size in sizes
        ],
        "chunk_digests": [{"bytes": data.hex(), "digest": chunk_digest(data).hex()} for data in (b"", HELLO)],
        "chunk_maps": [
            {"count": count, "chunks": chunks, "wire": ChunkMap(count, chunks).to_bytes().hex()}
            for count, chunks in [(0, []), (3, [0, 2]), (8, list(range(8))), (9, [8]), (20, [1, 9, 19])]
        ],
        "bad_chunk_maps": [
            {"why": "too short", "count": 9, "wire": "ff"},
            {"why": "too long", "count": 8, "wire": "ff00"},
            {"why": "a bit beyond the last chunk", "count": 3, "wire": "08"},
        ],
        "packed": {
            "inventory_entries": {
                "wire": ENTRIES.hex(),
                "entries": [[str(e.blob), e.size, e.state] for e in unpack_entries(ENTRIES)],
            },
            "indices": {"wire": pack_indices([0, 2]).hex(), "indices": [0, 2]},
            "runs": {"wire": pack_runs([(0, 16), (32, 1)]).hex(), "runs": [[0, 16], [32, 1]]},
        },
    }


def manifest_vectors() -> Json:
    empty = Manifest(Blob(SMALL, 0), b"")
    return {
        "private_key": NODE_KEY.private_bytes_raw().hex(),
        "public_key": SEAL.signer.hex(),
        "node_id": NODE,
        "manifests": [
            {
                "blob": str(manifest.blob.id),
                "size": manifest.blob.size,
                "digests": manifest.digests.hex(),
                "root": manifest.root.hex(),
                "signature": Seal.sign(manifest, NODE_KEY).signature.hex(),
            }
            for manifest in (MANIFEST, empty)
        ],
    }


def attestation_vectors() -> Json:
    """Signed words, and what is refused of the blob and cluster that they name, for which reason."""
    later = Circle(BOOT[::-1], past=frozenset({CIRCLE.cluster}))
    forged = Attestation.take(WORD.to_bytes()[:-1] + b"\0")[0]
    refused = [
        (WORD, BLOB, Circle(BOOT[::-1]), "another cluster's"),
        (WORD, BLOB, later, "of this cluster, under a key that was rotated out"),
        (WORD, Blob(BLOB.id, BLOB.size + 1), CIRCLE, "replayed for another size"),
        (forged, BLOB, CIRCLE, "the signature is not the signer's"),
    ]
    return {
        "private_key": NODE_KEY.private_bytes_raw().hex(),
        "cluster": CIRCLE.cluster.hex(),
        "blob": str(BLOB.id),
        "size": BLOB.size,
        "words": [
            {
                "first": word.first,
                "level": word.level.name.lower(),
                "digests": word.digests.hex(),
                "packed": word.to_bytes().hex(),
            }
            for word in (WORD, OTHER_WORD)
        ],
        "refused": [
            {
                "why": why,
                "reason": str(word.refusal(blob, circle)),
                "cluster": circle.cluster.hex(),
                "past": sorted(tag.hex() for tag in circle.past),
                "size": blob.size,
                "packed": word.to_bytes().hex(),
            }
            for word, blob, circle, why in refused
        ],
    }


def voucher_vectors() -> Json:
    """A voucher, and what is refused of the blob, the giver and the cluster that they name, for which reason."""
    stranger = NodeId(NODE[::-1])
    later = Circle(BOOT[::-1], past=frozenset({CIRCLE.cluster}))
    forged = Voucher.from_bytes(VOUCHER.to_bytes()[:-1] + b"\0")
    refused = [
        (VOUCHER, BLOB, NODE, Circle(BOOT[::-1]), "another cluster's"),
        (VOUCHER, BLOB, NODE, later, "of this cluster, under a key that was rotated out"),
        (VOUCHER, Blob(BLOB.id, BLOB.size + 1), NODE, CIRCLE, "replayed for another size"),
        (VOUCHER, BLOB, stranger, CIRCLE, "replayed by another than its signer"),
        (forged, BLOB, NODE, CIRCLE, "the signature is not the signer's"),
    ]
    return {
        "private_key": NODE_KEY.private_bytes_raw().hex(),
        "cluster": CIRCLE.cluster.hex(),
        "blob": str(BLOB.id),
        "size": BLOB.size,
        "node_id": NODE,
        "root": VOUCHER.root.hex(),
        "packed": VOUCHER.to_bytes().hex(),
        "refused": [
            {
                "why": why,
                "reason": str(voucher.refusal(blob, giver, circle)),
                "cluster": circle.cluster.hex(),
                "past": sorted(tag.hex() for tag in circle.past),
                "size": blob.size,
                "giver": giver,
                "packed": voucher.to_bytes().hex(),
            }
            for voucher, blob, giver, circle, why in refused
        ],
    }


def identity_vectors() -> Json:
    """The cluster's authority for two secrets. Certificates are byte for byte the same on every node."""
    identity = Identity(NODE_KEY)
    secrets = {"open": hashlib.sha256(b"p2pmodel open cluster v1").digest(), "closed": TICKET * 2}
    check = hashlib.sha256(b"p2pmodel join token v1" + secrets["closed"]).digest()[:4]
    token = "p2pm1-" + base64.b32encode(secrets["closed"] + check).decode().rstrip("=").lower()
    clusters = {"open": Membership.open(identity), "closed": Membership.closed(identity, token)}
    return {
        "private_key": NODE_KEY.private_bytes_raw().hex(),
        "node_id": identity.node,
        "closed_join_token": token,
        "clusters": [
            {
                "mode": mode,
                "secret": secrets[mode].hex(),
                "ca_public_key": member.authority.public_key().public_bytes_raw().hex(),  # type: ignore[union-attr]  # Ed25519
                "tag": member.tag,
                "ca_certificate": member.authority.public_bytes(serialization.Encoding.DER).hex(),
                "ca_certificate_sha256": member.authority.fingerprint(hashes.SHA256()).hex(),
            }
            for mode, member in clusters.items()
        ],
    }


def snapshot_vectors() -> Json:
    """One signed listing; the body is deflated without compression, so that any zlib makes the same bytes."""
    listing = {
        "hub": "huggingface",
        "kind": "model",
        "name": "qwen/Qwen-7B-Chat",
        "revision": "main",
        "commit": "ab" * 20,
        "files": [["config.json", 5, str(SMALL)], ["model.safetensors", BLOB.size, str(BLOB.id)], ["odd.bin", 9, None]],
        "listing": base64.b64encode(b"[]").decode(),
    }
    body = zlib.compress(json.dumps(listing, separators=(",", ":")).encode(), 0)
    signature = NODE_KEY.sign(b"p2pmodel listing v1\0" + body)
    return {"signer": SEAL.signer.hex(), "listing": listing, "document": (SEAL.signer + signature + body).hex()}


def private_vectors() -> Json:
    """A name, ranges and a proof. The ranges' bytes are made up: each is filled with its number."""
    secret, asker, answerer = bytes(range(32)), NODE, NodeId(NODE[::-1])
    key = sharing_key(secret)
    evidence = access_proof.evidence_of(bytes([n]) * access_proof.RANGE_BYTES for n in range(access_proof.RANGES))
    return {
        "secret": secret.hex(),
        "key": key.hex(),
        "blob": NAME.hex(),
        "size": BLOB.size,
        "name": access_proof.secret_name(BLOB.id, key).hex(),
        "ranges": access_proof.proof_ranges(BLOB, key),
        "evidence": evidence.hex(),
        "asker": asker,
        "answerer": answerer,
        "question_proof": access_proof.prove(evidence, BLOB.id, prover=asker, verifier=answerer).hex(),
        "answer_proof": access_proof.prove(evidence, BLOB.id, prover=answerer, verifier=asker).hex(),
    }


def session_vectors() -> list[Json]:
    """Conversations: `>` is what the dialler says, `<` the listener; the last line of a refused one is the offence."""
    hello = m.Hello(version=1, version_min=1, boot=BOOT, port=7277)
    attach, attached = m.Attach(ticket=TICKET), m.Attached()
    ask, ticket = m.AskTicket(request=1), m.Ticket(request=1, ticket=TICKET, plain=True)
    page = m.SnapshotPage(request=1, data=b"x", last=True)
    get = m.Get(request=1, blob=NAME, size=BLOB.size, first=1, count=2)
    last = m.Chunk(request=1, index=2, size=5, digest=DIGEST)
    not_held = m.Problem(request=1, code="not_held")
    link: list[Said] = [("<", hello), (">", hello)]
    data: list[Said] = [(">", attach), ("<", attached)]
    talks: list[tuple[str, Secrecy, bool, list[Said]]] = [
        ("a link", Secrecy.TLS, True, [*link, (">", ask), ("<", ticket), ("<", m.Bye())]),
        ("a data connection over TLS", Secrecy.TLS, True, [("<", hello), *data, (">", get)]),
        ("a plain data connection", Secrecy.PLAIN, True, [*data, (">", get), ("<", not_held), ("<", m.Bye())]),
        ("a bad ticket", Secrecy.PLAIN, True, [(">", attach), ("<", m.Problem(code="bad_ticket"))]),
        ("no version in common", Secrecy.TLS, False, [("<", m.Hello(version=9, version_min=8, boot=BOOT, port=7277))]),
        ("a heartbeat before the hello", Secrecy.TLS, False, [("<", m.Pong(nonce=1))]),
        ("hello on a plain connection", Secrecy.PLAIN, False, [(">", hello)]),
        ("a second hello", Secrecy.TLS, False, [*link, (">", hello)]),
        ("chunks asked for on a link", Secrecy.TLS, False, [*link, (">", get)]),
        ("gossip on a data connection", Secrecy.PLAIN, False, [*data, (">", m.Pong(nonce=1))]),
        ("the seeding side asks for chunks", Secrecy.PLAIN, False, [*data, ("<", get)]),
        ("chunks out of order", Secrecy.PLAIN, False, [*data, (">", get), ("<", last)]),
        ("a chunk nobody asked for", Secrecy.PLAIN, False, [*data, ("<", last)]),
        ("an answer to no question", Secrecy.TLS, False, [*link, ("<", page)]),
        ("the wrong answer", Secrecy.TLS, False, [*link, (">", ask), ("<", page)]),
        ("a request id twice", Secrecy.TLS, False, [*link, (">", ask), (">", ask)]),
        ("65 questions", Secrecy.TLS, False, [*link, *((">", m.AskTicket(request=n)) for n in range(1, 66))]),
    ]
    return [
        {
            "what": what,
            "connection": secrecy.value,
            "allowed": allowed,
            "frames": [[who, encode(said).hex()] for who, said in talk],
        }
        for what, secrecy, allowed, talk in talks
    ]


# Schema


def schema() -> Json:
    """JSON Schema of the messages in their JSON form, where bytes are hex."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"p2pmodel messages, protocol version {m.PROTOCOL_VERSION}",
        "description": "Bytes are hex here and `bin` in msgpack. Unknown fields are ignored. Rules across fields: messages.md.",
        "oneOf": [{"$ref": f"#/$defs/{tag_of(kind)}"} for kind in m.MESSAGES],
        "$defs": {tag_of(kind): struct_schema(kind) for kind in m.MESSAGES},
    }


def struct_schema(kind: type[msgspec.Struct]) -> Json:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    properties: Json = {"t": {"const": info.tag}} if info.tag else {}
    properties |= {field.encode_name: field_schema(field) for field in info.fields}
    required = (["t"] if info.tag else []) + [field.encode_name for field in info.fields if field.required]
    return {"type": "object", "required": required, "properties": properties}


def field_schema(field: inspect.Field) -> Json:
    made = type_schema(field.type)
    if field.default is not msgspec.NODEFAULT:
        made["default"] = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        made["default"] = field.default_factory()
    return made


def type_schema(info: inspect.Type) -> Json:
    match info:
        case inspect.IntType() | inspect.FloatType():
            top = info.le if info.lt is None else info.lt - 1
            return {"type": "integer" if isinstance(info, inspect.IntType) else "number", "minimum": info.ge, "maximum": top}
        case inspect.BytesType():
            least, most = info.min_length or 0, info.max_length
            assert most is not None, "every field is bounded"
            return {"type": "string", "contentEncoding": "base16", "minLength": 2 * least, "maxLength": 2 * most}
        case inspect.StrType():
            pattern = {"pattern": info.pattern} if info.pattern else {}
            return {"type": "string", "minLength": info.min_length or 0, "maxLength": info.max_length, **pattern}
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.ListType():
            return {"type": "array", "maxItems": info.max_length, "items": type_schema(info.item_type)}
        case inspect.StructType():
            return struct_schema(info.cls)
        case _:
            raise TypeError(f"no schema for {info}")


# State table

STATE_MARK = "<!-- generated: python protocol/generate.py -->"


def state_tables() -> str:
    """The transition table as Markdown: one table for each state."""
    lines = [
        "| connection | side | first state |",
        "|---|---|---|",
        *(f"| {secrecy.value} | {role.value} | `{state.value}` |" for (role, secrecy), state in START.items()),
    ]
    for state in State:
        lines += ["", f"### `{state.value}`", ""]
        if not TABLE[state]:
            lines.append("Nothing is sent and nothing is heard.")
            continue
        lines += ["| | messages | next |", "|---|---|---|"]
        rows: dict[tuple[Way, State], list[str]] = {}
        for (way, event), after in TABLE[state].items():
            rows.setdefault((way, after), []).append(f"`{tag_of(event)}`" if issubclass(event, m.Message) else "*unknown*")
        order = sorted(rows.items(), key=lambda row: (row[0][0].value != "sent", row[0][1] is State.CLOSED))
        lines += [f"| {way.value} | {', '.join(tags)} | `{after.value}` |" for (way, after), tags in order]
    return "\n".join(lines) + "\n"


def _json(document: Json) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False, default=bytes.hex) + "\n"


def outputs() -> dict[Path, str]:
    """Every generated file and what it should hold."""
    documents: dict[str, Any] = {
        "schema/messages.json": schema(),
        "vectors/messages.json": message_vectors(),
        "vectors/framing.json": framing_vectors(),
        "vectors/content.json": content_vectors(),
        "vectors/manifest.json": manifest_vectors(),
        "vectors/attestations.json": attestation_vectors(),
        "vectors/vouchers.json": voucher_vectors(),
        "vectors/identity.json": identity_vectors(),
        "vectors/snapshot.json": snapshot_vectors(),
        "vectors/private.json": private_vectors(),
        "vectors/sessions.json": session_vectors(),
    }
    made = {HERE / name: _json(document) for name, document in documents.items()}
    state = HERE / "state.md"
    prose = state.read_text().partition(STATE_MARK)[0]
    return made | {state: f"{prose}{STATE_MARK}\n\n{state_tables()}"}


def main() -> int:
    stale = [path for path, text in outputs().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        print(path.relative_to(HERE))
        if "--check" not in sys.argv:
            path.write_text(outputs()[path])
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
