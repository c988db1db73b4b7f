"""The vectors of protocol/ hold for this implementation, and the files are what the code makes today."""

from __future__ import annotations

import hashlib
import json
import re
import runpy
from pathlib import Path

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from p2pmodel.content import (
    Attestation,
    Blob,
    BlobHasher,
    BlobId,
    ChunkMap,
    Circle,
    Hub,
    Manifest,
    NodeId,
    Repo,
    RepoKind,
    Seal,
    Voucher,
    chunk_digest,
)
from p2pmodel.delivery.listings import read_listing
from p2pmodel.errors import PeerProtocolError
from p2pmodel.wire import LocalProtocolError, Role, Secrecy, Session, Unknown, decode, encode
from p2pmodel.wire.codec import tag_of
from p2pmodel.wire.messages import MESSAGES, Chunk

PROTOCOL = Path(__file__).parents[2] / "protocol"
GENERATOR = runpy.run_path(str(PROTOCOL / "generate.py"))


def vectors(name: str):
    return json.loads((PROTOCOL / "vectors" / f"{name}.json").read_text())


MESSAGE_VECTORS = vectors("messages")


def test_the_files_are_what_the_code_makes():
    stale = [path.name for path, text in GENERATOR["outputs"]().items() if path.read_text() != text]
    assert not stale, "run `python protocol/generate.py` and read the diff: it may break other implementations"


def test_a_private_name_its_ranges_and_a_proof_are_what_the_chapter_says():
    given = vectors("private")
    secret, blob = bytes.fromhex(given["secret"]), bytes.fromhex(given["blob"])
    key = HKDF(SHA256(), 32, None, b"p2pmodel private sharing v1").derive(secret)
    assert key.hex() == given["key"]

    def keyed(purpose, data):
        return blake3(data, key=blake3(key, derive_key_context=purpose).digest()).digest()

    assert keyed("p2pmodel private blob name v1", blob).hex() == given["name"]
    starts = [keyed("p2pmodel private blob range v1", blob + bytes([n]))[:16] for n in range(4)]
    starts = [int.from_bytes(start, "big") % (given["size"] - 16_383) for start in starts]
    assert given["ranges"] == [[start, start + 16_384] for start in starts]
    pieces = b"".join(bytes([n]) * 16_384 for n in range(4))
    evidence = blake3(pieces, derive_key_context="p2pmodel private blob evidence v1").digest()
    assert evidence.hex() == given["evidence"]
    for proof, ids in (("question_proof", ("asker", "answerer")), ("answer_proof", ("answerer", "asker"))):
        said = b"".join(given[each].encode() + b"\0" for each in ids) + blob
        assert blake3(said, key=evidence).hexdigest() == given[proof]


def test_every_message_has_a_good_and_a_bad_vector():
    for kind in ("good", "bad"):
        assert {vector["message"] for vector in MESSAGE_VECTORS[kind]} == {tag_of(message) for message in MESSAGES}


@pytest.mark.parametrize("vector", MESSAGE_VECTORS["good"], ids=lambda v: f"{v['message']}: {v['what']}")
def test_a_good_frame_means_its_fields(vector):
    message = decode(bytes.fromhex(vector["frame"])[4:])
    assert GENERATOR["plain"](GENERATOR["fields_of"](message)) == vector["fields"]
    assert encode(message).hex() == vector["frame"]
    assert not list(schema_complaints(vector["fields"], SCHEMA["$defs"][vector["message"]]))


@pytest.mark.parametrize("vector", MESSAGE_VECTORS["bad"], ids=lambda v: f"{v['message']}: {v['why']}")
def test_a_bad_frame_is_refused(vector):
    with pytest.raises(PeerProtocolError):
        decode(bytes.fromhex(vector["frame"])[4:])


@pytest.mark.scorecard("S33")
@pytest.mark.parametrize("vector", MESSAGE_VECTORS["tolerated"], ids=lambda v: v["what"])
def test_what_a_newer_version_sends_is_tolerated(vector):
    message = decode(bytes.fromhex(vector["frame"])[4:])
    if isinstance(message, Unknown):
        assert {"tag": message.tag, "request": message.request} == vector["unknown"]
    else:
        assert GENERATOR["fields_of"](message) == vector["fields"]


@pytest.mark.parametrize("vector", vectors("framing")["refused"], ids=lambda v: v["why"])
def test_a_bad_stream_is_refused(vector):
    session = Session(Role.LISTENER, Secrecy.PLAIN)
    session.receive_bytes(bytes.fromhex(vector["bytes"]))
    with pytest.raises(PeerProtocolError):
        session.next_event()


@pytest.mark.parametrize("talk", vectors("sessions"), ids=lambda talk: talk["what"])
def test_a_conversation_goes_as_its_vector_says(talk):
    """Both sides of it are ours; the last line of one that is not allowed is refused by who speaks and by who hears."""
    secrecy = Secrecy(talk["connection"])
    sides = {">": Session(Role.DIALLER, secrecy), "<": Session(Role.LISTENER, secrecy)}
    *frames, (speaker, last) = talk["frames"]
    for who, frame in frames:
        said = decode(bytes.fromhex(frame)[4:])
        hearer = sides["<" if who == ">" else ">"]
        hearer.receive_bytes(sides[who].send(said))
        assert hearer.next_event() == said
        if isinstance(said, Chunk):
            hearer.body_received(said.size)
            sides[who].body_sent(said.size)
    hearer, said = sides["<" if speaker == ">" else ">"], decode(bytes.fromhex(last)[4:])
    hearer.receive_bytes(bytes.fromhex(last))
    if talk["allowed"]:
        sides[speaker].send(said)
        assert hearer.next_event() == said
    else:
        with pytest.raises(LocalProtocolError):
            sides[speaker].send(said)
        with pytest.raises(PeerProtocolError):
            hearer.next_event()


CONTENT = vectors("content")


@pytest.mark.parametrize("vector", CONTENT["blob_names"], ids=lambda v: v["name"])
def test_a_blob_has_one_name_in_text_and_on_the_wire(vector):
    data, name = bytes.fromhex(vector["bytes"]), BlobId.parse(vector["name"])
    hasher = BlobHasher(name.algorithm, len(data))
    hasher.update(data)
    assert hasher.id() == name == BlobId.from_bytes(bytes.fromhex(vector["wire"]))


@pytest.mark.parametrize("vector", CONTENT["bad_blob_names"], ids=lambda v: v["why"])
def test_a_bad_blob_name_is_refused(vector):
    with pytest.raises(ValueError, match=r"\w"):
        BlobId.from_bytes(bytes.fromhex(vector["wire"]))


@pytest.mark.parametrize("vector", CONTENT["bad_chunk_maps"], ids=lambda v: v["why"])
def test_a_bad_chunk_map_is_refused(vector):
    with pytest.raises(ValueError, match="chunk"):
        ChunkMap.from_bytes(vector["count"], bytes.fromhex(vector["wire"]))


def test_chunk_maps_and_digests_are_read_as_written():
    for vector in CONTENT["chunk_maps"]:
        assert list(ChunkMap.from_bytes(vector["count"], bytes.fromhex(vector["wire"]))) == vector["chunks"]
    for vector in CONTENT["chunk_digests"]:
        assert chunk_digest(bytes.fromhex(vector["bytes"])).hex() == vector["digest"]


ATTESTATIONS = vectors("attestations")


def circle_and_blob(vector):
    blob = Blob(BlobId.parse(ATTESTATIONS["blob"]), vector["size"])
    past = frozenset(bytes.fromhex(tag) for tag in vector.get("past", ()))
    return blob, Circle(bytes.fromhex(vector["cluster"]), past=past)


@pytest.mark.parametrize("vector", ATTESTATIONS["words"], ids=lambda v: v["level"])
def test_a_signed_word_is_heard_in_its_cluster(vector):
    [word] = Attestation.take_all(bytes.fromhex(vector["packed"]))
    assert word.to_bytes().hex() == vector["packed"]
    assert (word.first, word.level.name.lower(), word.digests.hex()) == (vector["first"], vector["level"], vector["digests"])
    blob, circle = circle_and_blob(ATTESTATIONS)
    assert word.refusal(blob, circle) is None


@pytest.mark.parametrize("vector", ATTESTATIONS["refused"], ids=lambda v: v["reason"])
def test_a_word_from_elsewhere_is_refused_for_its_own_reason(vector):
    [word] = Attestation.take_all(bytes.fromhex(vector["packed"]))
    blob, circle = circle_and_blob(vector)
    assert word.refusal(blob, circle) == vector["reason"]


VOUCHERS = vectors("vouchers")


def test_a_voucher_counts_when_its_signer_shows_it():
    voucher = Voucher.from_bytes(bytes.fromhex(VOUCHERS["packed"]))
    assert (voucher.to_bytes().hex(), voucher.root.hex()) == (VOUCHERS["packed"], VOUCHERS["root"])
    blob = Blob(BlobId.parse(VOUCHERS["blob"]), VOUCHERS["size"])
    assert voucher.refusal(blob, NodeId(VOUCHERS["node_id"]), Circle(bytes.fromhex(VOUCHERS["cluster"]))) is None


@pytest.mark.parametrize("vector", VOUCHERS["refused"], ids=lambda v: v["reason"])
def test_a_voucher_that_is_no_vote_is_refused_for_its_own_reason(vector):
    voucher = Voucher.from_bytes(bytes.fromhex(vector["packed"]))
    blob, circle = circle_and_blob(vector)
    assert voucher.refusal(blob, NodeId(vector["giver"]), circle) == vector["reason"]


def test_seals_vouch_for_their_manifests_and_for_no_other():
    vector = vectors("manifest")
    manifests = [Manifest(Blob(BlobId.parse(m["blob"]), m["size"]), bytes.fromhex(m["digests"])) for m in vector["manifests"]]
    for stated, manifest in zip(vector["manifests"], manifests, strict=True):
        seal = Seal(bytes.fromhex(stated["root"]), bytes.fromhex(vector["public_key"]), bytes.fromhex(stated["signature"]))
        assert [seal.vouches_for(other) for other in manifests] == [other is manifest for other in manifests]
        assert seal.node == vector["node_id"]


def test_a_signed_listing_is_read():
    vector = vectors("snapshot")
    told = vector["listing"]
    snapshot = read_listing(bytes.fromhex(vector["document"]), Repo(Hub.HUGGINGFACE, RepoKind.MODEL, told["name"]), "main")
    assert snapshot.commit == told["commit"]
    assert [[f.path, f.size, str(f.blob.id) if f.blob else None] for f in snapshot.files] == told["files"]


def test_the_open_cluster_has_the_secret_that_the_spec_states():
    opened = vectors("identity")["clusters"][0]
    assert opened["secret"] == hashlib.sha256(b"p2pmodel open cluster v1").hexdigest()


# Schema

SCHEMA = json.loads((PROTOCOL / "schema/messages.json").read_text())
_TYPES = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}


def schema_complaints(value, schema):
    """The part of JSON Schema that the schema uses."""
    if "const" in schema:
        if value != schema["const"]:
            yield f"{value!r} is not {schema['const']!r}"
        return
    if not isinstance(value, _TYPES[schema["type"]]):
        yield f"{value!r} is no {schema['type']}"
        return
    sized = len(value) if isinstance(value, str | list) else value if not isinstance(value, dict | bool) else 0
    least = schema.get("minLength", schema.get("minimum", 0))
    most = schema.get("maxLength", schema.get("maxItems", schema.get("maximum", sized)))
    if not least <= sized <= most or not re.search(schema.get("pattern", ""), value if isinstance(value, str) else ""):
        yield f"{value!r} is out of bounds"
    if isinstance(value, dict):
        yield from (f"{name} is missing" for name in schema["required"] if name not in value)
        for name, inner in schema["properties"].items():
            if name in value:
                yield from schema_complaints(value[name], inner)
    if isinstance(value, list):
        for item in value:
            yield from schema_complaints(item, schema["items"])


def test_the_schema_has_every_message_and_bounds_every_field():
    assert set(SCHEMA["$defs"]) == {tag_of(kind) for kind in MESSAGES}
    assert list(schema_complaints({"t": "pong", "nonce": -1}, SCHEMA["$defs"]["pong"]))
