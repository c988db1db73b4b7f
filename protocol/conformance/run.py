"""Does a running node keep the protocol? Talks to its peer port and prints a table; exit 1 if a case failed.

    python protocol/conformance/run.py HOST PORT [--token-file FILE] [--blob NAME --size BYTES]

Without a token the node is taken to be in the open cluster. Without --blob the first sealed blob of its inventory is
fetched from, if there is one. Needs msgpack and cryptography, and blake3 to check chunks; imports nothing of p2pmodel.
"""

from __future__ import annotations

import argparse
import base64
import datetime as dt
import functools
import hashlib
import json
import os
import re
import socket
import ssl
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

try:
    import blake3
except ImportError:
    blake3 = None  # type: ignore[assignment]  # chunks are then received and not checked

SCHEMA = json.loads((Path(__file__).parents[1] / "schema/messages.json").read_text())["$defs"]
CHUNK = 4 << 20
PIECE_MAX = 128 << 10
PATIENCE_S = 5.0
HANDSHAKE_S = 5.0  # what opening.md allows a silent connection
CHUNKS_TO_GET = 4
UNKNOWN_BLOB = b"\1" + hashlib.sha256(b"no node holds this").digest()
Fields = dict[str, Any]


class Broken(Exception):  # noqa: N818  # a promise, not an error of ours
    """The node did not do what the protocol says."""


class Skipped(Exception):  # noqa: N818
    """The case needs something that is not there."""


class Closed(Exception):  # noqa: N818
    """The node closed the connection."""


def expect(fact: object, otherwise: str) -> None:
    if not fact:
        raise Broken(otherwise)


# Who we are, as opening.md says


def secret_of(token: str | None) -> bytes:
    if token is None:
        return hashlib.sha256(b"p2pmodel open cluster v1").digest()
    digits = token.strip().lower().removeprefix("p2pm1-").upper()
    raw = base64.b32decode(digits + "=" * (-len(digits) % 8))
    if raw[32:] != hashlib.sha256(b"p2pmodel join token v1" + raw[:32]).digest()[:4]:
        raise SystemExit("that is not a join token")
    return raw[:32]


def node_id(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(b"p2pmodel node v1" + key.public_bytes_raw()).hexdigest()[:40]


def usage(*, signs_certificates: bool) -> x509.KeyUsage:
    ours = signs_certificates
    return x509.KeyUsage(not ours, False, False, False, False, ours, ours, False, False)


def builder(subject: str, issuer: str, key: Ed25519PublicKey, serial: int) -> x509.CertificateBuilder:
    begin, end = dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime(2119, 1, 1, tzinfo=dt.UTC)
    return x509.CertificateBuilder(named(issuer), named(subject), key, serial, begin, end)


def named(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


@dataclass(frozen=True)
class Cluster:
    """The CA that every member can derive."""

    key: Ed25519PrivateKey

    @classmethod
    def of(cls, secret: bytes) -> Cluster:
        derived = HKDF(hashes.SHA256(), 32, None, b"p2pmodel cluster ca v1 epoch 1").derive(secret)
        return cls(Ed25519PrivateKey.from_private_bytes(derived))

    @property
    def name(self) -> str:
        return f"p2pmodel-{hashlib.sha256(self.key.public_key().public_bytes_raw()).hexdigest()[:16]}-e1"

    def certificate(self) -> x509.Certificate:
        public = self.key.public_key()
        made = builder(self.name, self.name, public, 1)
        made = made.add_extension(x509.BasicConstraints(True, 0), True)
        made = made.add_extension(usage(signs_certificates=True), True)
        return made.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False).sign(self.key, None)

    def member(self, key: Ed25519PrivateKey, name: str = "") -> x509.Certificate:
        """A node's certificate; with a `name` that is not its id, an impostor's."""
        public = key.public_key()
        made = builder(name or node_id(public), self.name, public, x509.random_serial_number())
        made = made.add_extension(x509.BasicConstraints(False, None), True)
        made = made.add_extension(usage(signs_certificates=False), True)
        purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
        made = made.add_extension(purposes, False)
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
        made = made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False)
        return made.sign(self.key, None)


def tls_context(trusted: Cluster, own: x509.Certificate | None, key: Ed25519PrivateKey) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.set_alpn_protocols(["p2pmodel/1"])
    context.load_verify_locations(cadata=trusted.certificate().public_bytes(serialization.Encoding.PEM).decode())
    if own is not None:
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        with tempfile.NamedTemporaryFile() as file:
            file.write(own.public_bytes(serialization.Encoding.PEM) + private)
            file.flush()
            context.load_cert_chain(file.name)
    return context


# Connections, as framing.md says


def frame(fields: Fields) -> bytes:
    body: bytes = msgpack.packb(fields)
    return struct.pack(">I", len(body)) + body


def complaints(value: Any, schema: Fields) -> Iterator[str]:  # noqa: ANN401  # whatever came
    """How a decoded value breaks its part of schema/messages.json, where bytes are counted as hex."""
    kinds: dict[str, Any] = {
        "object": dict,
        "array": list,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "string": str,
    }
    kind = bytes if "contentEncoding" in schema else kinds[schema["type"]] if "type" in schema else str
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        yield f"{value!r} is no {schema.get('type', 'tag')}"
    elif isinstance(value, dict):
        yield from (f"{name} is missing" for name in schema["required"] if name not in value)
        for name in value.keys() & schema["properties"].keys() - {"t"}:
            yield from (f"{name}: {why}" for why in complaints(value[name], schema["properties"][name]))
    else:
        size: Any = 2 * len(value) if isinstance(value, bytes) else len(value) if isinstance(value, str | list) else value
        least = schema.get("minLength", schema.get("minimum", 0))
        most = schema.get("maxLength", schema.get("maxItems", schema.get("maximum", size)))
        if not least <= size <= most or (isinstance(value, str) and not re.search(schema.get("pattern", ""), value)):
            yield f"{value!r} is out of bounds"
        for item in value if isinstance(value, list) else ():
            yield from complaints(item, schema["items"])


class Connection:
    """Frames over a socket, each checked against the schema as it comes."""

    def __init__(self, raw: socket.socket) -> None:
        self.socket = raw
        self.request = 0

    def send(self, **fields: Any) -> None:  # noqa: ANN401
        self.send_bytes(frame(fields))

    def send_bytes(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Closed(str(error)) from None

    def receive_bytes(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            try:
                piece = self.socket.recv(min(count - len(data), 1 << 18))
            except TimeoutError:
                raise Broken(f"said nothing for {PATIENCE_S:g} s") from None
            except OSError as error:
                raise Closed(str(error)) from None
            if not piece:
                raise Closed("end of the stream")
            data += piece
        return bytes(data)

    def receive(self) -> Fields:
        (length,) = struct.unpack(">I", self.receive_bytes(4))
        expect(1 <= length <= 65536, f"sent a frame of {length} bytes")
        fields = msgpack.unpackb(self.receive_bytes(length))
        expect(isinstance(fields, dict) and fields.get("t") in SCHEMA, f"sent {fields!r}")
        for why in complaints(fields, SCHEMA[fields["t"]]):
            raise Broken(f"sent a {fields['t']} whose {why}")
        return dict(fields)

    def until(self, *tags: str, **wanted: object) -> Fields:
        """The next message of these tags with these fields; gossip in between is passed over, pings are answered."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            fields = self.receive()
            if fields["t"] in tags and all(fields.get(name) == value for name, value in wanted.items()):
                return fields
            if fields["t"] == "ping":
                self.send(t="pong", nonce=fields["nonce"])
        raise Broken(f"said no {' or '.join(tags)} within {PATIENCE_S:g} s")

    def ask(self, tag: str, *answers: str, **fields: Any) -> Fields:  # noqa: ANN401
        self.request += 1
        self.send(t=tag, request=self.request, **fields)
        return self.until(*answers, "problem", request=self.request)

    def is_alive(self) -> None:
        nonce = int.from_bytes(os.urandom(4), "big")
        self.send(t="ping", nonce=nonce, sequence=0, digest=bytes(16))
        self.until("pong", nonce=nonce)

    def is_closed_by_peer(self) -> None:
        """Raises Broken unless the node closes, perhaps with last words."""
        deadline = time.monotonic() + PATIENCE_S
        try:
            while time.monotonic() < deadline:
                self.receive()
        except Closed:
            return
        raise Broken(f"did not close within {PATIENCE_S:g} s")


@dataclass
class Node:
    """The node under test. Every connection comes from a node of its own, so that they do not replace each other."""

    host: str
    port: int
    cluster: Cluster
    blob: tuple[bytes, int] | None = None
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def plain(self) -> Iterator[Connection]:
        with socket.create_connection((self.host, self.port), PATIENCE_S) as raw:
            yield Connection(raw)

    @contextmanager
    def tls(self, context: ssl.SSLContext | None = None) -> Iterator[Connection]:
        if context is None:
            key = Ed25519PrivateKey.generate()
            context = tls_context(self.cluster, self.cluster.member(key), key)
        with (
            socket.create_connection((self.host, self.port), PATIENCE_S) as raw,
            context.wrap_socket(raw) as secured,
        ):
            yield Connection(secured)

    @contextmanager
    def link(self) -> Iterator[Connection]:
        with self.tls() as connection:
            greeting(connection)
            yield connection
            connection.send(t="bye", reason="conformance")


def greeting(connection: Connection, *abilities: str) -> Fields:
    hello = connection.receive()
    expect(hello["t"] == "hello", f"said {hello['t']} first")
    connection.send(t="hello", version=1, version_min=1, abilities=list(abilities), boot=os.urandom(8), port=0)
    return hello


def ticket(link: Connection) -> Fields:
    answer = link.ask("ask_ticket", "ticket")
    expect(answer["t"] == "ticket", f"no ticket: {answer}")
    return answer


def attach(connection: Connection, spent: bytes) -> None:
    connection.send(t="attach", ticket=spent)
    answer = connection.receive()
    expect(answer["t"] == "attached", f"answered {answer}")


# The cases: each checks one promise

Case = Callable[[Node], None]
CASES: list[tuple[str, Case]] = []


def case(promise: str) -> Callable[[Case], Case]:
    def add(function: Case) -> Case:
        CASES.append((promise, function))
        return function

    return add


@case("TLS 1.3 with ALPN p2pmodel/1; the certificate is named by its key")
def _(node: Node) -> None:
    with node.tls() as connection:
        secured = connection.socket
        assert isinstance(secured, ssl.SSLSocket)
        expect(secured.version() == "TLSv1.3", f"speaks {secured.version()}")
        expect(secured.selected_alpn_protocol() == "p2pmodel/1", "chose no ALPN")
        certificate = x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")
        key = certificate.public_key()
        expect(isinstance(key, Ed25519PublicKey), "the key is not Ed25519")
        assert isinstance(key, Ed25519PublicKey)
        name = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        expect(name == node_id(key), "the common name is not the node id")
        node.notes.append(f"node {node_id(key)}")


def refused(node: Node, context: ssl.SSLContext) -> None:
    """In TLS 1.3 a client learns that it was refused when it first reads."""
    try:
        with node.tls(context) as connection:
            said = connection.receive()
    except (Closed, ssl.SSLError, OSError):
        return
    raise Broken(f"let it in and said {said['t']}")


@case("a client without a certificate is refused")
def _(node: Node) -> None:
    refused(node, tls_context(node.cluster, None, Ed25519PrivateKey.generate()))


@case("a member of another cluster is refused")
def _(node: Node) -> None:
    key = Ed25519PrivateKey.generate()
    refused(node, tls_context(node.cluster, Cluster.of(os.urandom(32)).member(key), key))


@case("a certificate with another node's name is refused")
def _(node: Node) -> None:
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    refused(node, tls_context(node.cluster, node.cluster.member(key, node_id(other.public_key())), key))


@case("TLS 1.2 is refused")
def _(node: Node) -> None:
    key = Ed25519PrivateKey.generate()
    context = tls_context(node.cluster, node.cluster.member(key), key)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    refused(node, context)


@case("the listener says hello first; versions meet; a link answers ping")
def _(node: Node) -> None:
    with node.tls() as connection:
        hello = greeting(connection)
        expect(hello["version_min"] <= 1 <= hello["version"], "does not speak version 1")
        connection.is_alive()


@case("no version in common: the node closes")
def _(node: Node) -> None:
    with node.tls() as connection:
        connection.receive()
        connection.send(t="hello", version=65535, version_min=65535, boot=bytes(8), port=0)
        connection.is_closed_by_peer()


@case("unknown fields are ignored")
def _(node: Node) -> None:
    with node.link() as link:
        link.send(t="ping", nonce=5, sequence=0, digest=bytes(16), mood={"fine": [1, None]})
        link.until("pong", nonce=5)


@case("unknown messages are answered with a problem, and the link goes on")
def _(node: Node) -> None:
    with node.link() as link:
        link.send(t="flood", water=b"\0")
        link.until("problem", request=0, code="unknown_message")
        answer = link.ask("ask_flood")
        expect(answer["code"] == "unknown_message", f"answered {answer}")
        link.is_alive()


@case("the inventory comes in pages that fit together, then as changes")
def _(node: Node) -> None:
    with node.link() as link:
        entries, page = b"", link.ask("ask_inventory", "inventory", boot=os.urandom(8), since=0)
        first = page
        while True:
            expect(page["t"] == "inventory", f"answered {page}")
            expect(page["whole"], "a foreign boot was answered with changes")
            expect((page["boot"], page["sequence"]) == (first["boot"], first["sequence"]), "pages of two inventories")
            entries += page["entries"]
            if page["last"]:
                break
            page = link.until("inventory", "problem", request=link.request)
        expect(len(entries) % 42 == 0, "entries are cut off")
        sealed = [(name, size) for name, size, state in struct.iter_unpack(">33sQB", entries) if state == 2 and size]
        node.blob = node.blob or (sealed[0] if sealed else None)
        node.notes.append(f"{len(entries) // 42} blobs held, {len(sealed)} sealed")
        changes = link.ask("ask_inventory", "inventory", boot=first["boot"], since=first["sequence"])
        expect(changes["t"] == "inventory", f"answered {changes}")


@case("interest in a blob that nobody holds is answered with an empty map")
def _(node: Node) -> None:
    with node.link() as link:
        link.send(t="interest", blob=UNKNOWN_BLOB, size=3 * CHUNK, on=True)
        have = link.until("have", blob=UNKNOWN_BLOB)
        expect(have["chunks"] == b"\0" and not have["sealed"], f"answered {have}")
        link.send(t="interest", blob=UNKNOWN_BLOB, size=3 * CHUNK, on=False)
        link.is_alive()


@case("gossip in order is taken")
def _(node: Node) -> None:
    with node.link() as link:
        link.send(t="have", blob=UNKNOWN_BLOB, size=3 * CHUNK, sealed=False, wanted=False, chunks=b"\5")
        link.send(t="held", blob=UNKNOWN_BLOB, chunks=bytes([0, 0, 0, 1]))
        link.send(t="claims", blob=UNKNOWN_BLOB, runs=b"")
        link.send(t="bad_chunk", blob=UNKNOWN_BLOB, chunk=2)
        link.send(t="peers", nodes=[])
        link.is_alive()


@case("the manifest and the listing of unknown things are problems")
def _(node: Node) -> None:
    with node.link() as link:
        answer = link.ask("ask_manifest", "manifest", blob=UNKNOWN_BLOB)
        expect(answer["t"] == "problem" and answer["code"] == "not_held", f"answered {answer}")
        answer = link.ask("ask_snapshot", hub="huggingface", kind="model", name="nobody/nothing", revision="main")
        expect(answer["t"] == "problem", f"answered {answer}")


def data_over(node: Node, *, plain: bool) -> None:
    with node.link() as link:
        got = ticket(link)
        if plain and not got["plain"]:
            raise Skipped("the node takes no plain data connections")
        with node.plain() if plain else own_tls(link) as data:
            if not plain:
                expect(data.receive()["t"] == "hello", "did not say hello")
            attach(data, got["ticket"])
            answer = data.ask("get", "chunk", blob=UNKNOWN_BLOB, size=CHUNK, first=0, count=1)
            expect(answer["t"] == "problem" and answer["code"] == "not_held", f"answered {answer}")


def own_tls(link: Connection) -> Any:  # noqa: ANN401  # a context manager
    """Another TLS connection of the same node as the link's."""
    assert isinstance(link.socket, ssl.SSLSocket)
    host, port = link.socket.getpeername()[:2]
    return _second(host, port, link.socket.context)


@contextmanager
def _second(host: str, port: int, context: ssl.SSLContext) -> Iterator[Connection]:
    with socket.create_connection((host, port), PATIENCE_S) as raw, context.wrap_socket(raw) as secured:
        yield Connection(secured)


CASES.append(("a ticket opens a data connection over TLS", functools.partial(data_over, plain=False)))
CASES.append(("a ticket opens a plain data connection", functools.partial(data_over, plain=True)))


def bad_ticket(connection: Connection, spent: bytes) -> None:
    connection.send(t="attach", ticket=spent)
    answer = connection.receive()
    expect((answer["t"], answer.get("code")) == ("problem", "bad_ticket"), f"answered {answer}")
    connection.is_closed_by_peer()


@case("a forged ticket is refused")
def _(node: Node) -> None:
    with node.tls() as data:
        data.receive()
        bad_ticket(data, os.urandom(16))


@case("a ticket is good once")
def _(node: Node) -> None:
    with node.link() as link:
        got = ticket(link)["ticket"]
        for spend in (attach, bad_ticket):
            with own_tls(link) as data:
                data.receive()
                spend(data, got)


@case("a ticket is good for the node that got it")
def _(node: Node) -> None:
    with node.link() as link, node.tls() as other:
        other.receive()
        bad_ticket(other, ticket(link)["ticket"])


@case("a sealed blob: map, manifest, seal and chunks agree")
def _(node: Node) -> None:
    blob, size = sealed_blob(node)
    count = -(-size // CHUNK)
    with node.link() as link:
        link.send(t="interest", blob=blob, size=size, on=True)
        have = link.until("have", blob=blob)
        expect(have["sealed"] and have["chunks"] == ((1 << count) - 1).to_bytes(-(-count // 8), "little"), "is not all there")
        digests = manifest(link, blob, size)
        with own_tls(link) as data:
            data.receive()
            attach(data, ticket(link)["ticket"])
            fetch(data, blob, size, digests)


def sealed_blob(node: Node) -> tuple[bytes, int]:
    """Name and size of one whose manifest can be checked."""
    if node.blob is None:
        raise Skipped("the node holds no sealed blob, and none was named")
    if blake3 is None:
        raise Skipped("needs the blake3 package")
    return node.blob


def manifest(link: Connection, blob: bytes, size: int) -> bytes:
    """The digests of a sealed blob, their root and seal checked (manifest.md)."""
    digests = b""
    page = link.ask("ask_manifest", "manifest", blob=blob)
    while True:
        expect(page["t"] == "manifest" and page["first"] * 32 == len(digests), f"answered {page}")
        digests += bytes(page["digests"])
        if page["last"]:
            break
        page = link.until("manifest", "problem", request=link.request)
    expect(root_of(page["blob"], size, digests) == page["root"], "the root is not the manifest's")
    try:
        Ed25519PublicKey.from_public_bytes(page["signer"]).verify(page["signature"], b"p2pmodel seal v1\0" + page["root"])
    except InvalidSignature:
        raise Broken("the seal's signature is wrong") from None
    return digests


def root_of(blob: bytes, size: int, digests: bytes) -> bytes:
    hasher = blake3.blake3(derive_key_context="p2pmodel manifest v1")
    hasher.update(blob + size.to_bytes(8, "big") + digests)
    return bytes(hasher.digest())


@case("a voucher is the node's own, for the link's cluster and the manifest; without the ability there is none")
def _(node: Node) -> None:
    blob, size = sealed_blob(node)
    with node.tls() as link:
        secured = link.socket
        assert isinstance(secured, ssl.SSLSocket)
        shown = x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")
        able = "voucher" in greeting(link, "voucher")["abilities"]
        answer = link.ask("ask_voucher", "voucher", blob=blob)
        if not able:
            expect(answer["t"] == "problem", f"answered {answer}")
            return
        root = root_of(blob, size, manifest(link, blob, size))
        signer = shown.public_key().public_bytes_raw()  # type: ignore[union-attr]  # Ed25519, or the link would not stand
        body = bytes.fromhex(node.cluster.name.split("-")[1]) + blob + size.to_bytes(8, "big") + root + signer
        packed = bytes(answer["voucher"])
        expect(packed[:-64] == body, "the voucher says something else")
        try:
            Ed25519PublicKey.from_public_bytes(signer).verify(packed[-64:], b"p2pmodel voucher v1\0" + body)
        except InvalidSignature:
            raise Broken("the voucher's signature is wrong") from None
        link.send(t="bye", reason="conformance")


@case("a list of pieces has the file's length, and ends; without the ability there is none")
def _(node: Node) -> None:
    blob, size = sealed_blob(node)
    with node.tls() as link:
        able = "pieces" in greeting(link, "pieces")["abilities"]
        first = covered = 0
        while (answer := link.ask("ask_pieces", "pieces", blob=blob, first=first))["t"] == "pieces":
            expect(able and answer["first"] == first and covered < size, f"answered {answer}")
            entries = bytes(answer["pieces"])
            lengths = [int.from_bytes(entries[at + 32 : at + 36], "little") for at in range(0, len(entries), 36)]
            expect(
                lengths and not len(entries) % 36 and all(0 < length <= PIECE_MAX for length in lengths), "no page of pieces"
            )
            first, covered = first + len(lengths), covered + sum(lengths)
        expect(covered in {0, size}, f"a list of {covered} bytes for a file of {size}")
        link.send(t="bye", reason="conformance")


def fetch(data: Connection, blob: bytes, size: int, digests: bytes) -> None:
    """The first chunks and the last one, in two requests sent together."""
    count = -(-size // CHUNK)
    runs = [(0, min(CHUNKS_TO_GET, count)), (count - 1, 1)]
    for request, (first, length) in enumerate(runs, 1):
        data.send(t="get", request=request, blob=blob, size=size, first=first, count=length)
    due = {(request, index) for request, (first, length) in enumerate(runs, 1) for index in range(first, first + length)}
    while due:
        chunk = data.receive()
        expect(chunk["t"] == "chunk" and (chunk["request"], chunk["index"]) in due, f"answered {chunk}")
        due.remove((chunk["request"], chunk["index"]))
        expect(chunk["size"] == min(CHUNK, size - chunk["index"] * CHUNK), "a chunk of the wrong size")
        digest = blake3.blake3(data.receive_bytes(chunk["size"])).digest()
        expect(digest == chunk["digest"], f"chunk {chunk['index']} has other bytes than its frame says")
        expect(digest == digests[32 * chunk["index"] :][:32], f"chunk {chunk['index']} is not that of the manifest")
    data.request = len(runs)
    answer = data.ask("get", "chunk", blob=blob, size=size + 1, first=0, count=1)
    expect(answer["t"] == "problem", "served a blob of another size than was asked for")


# Offences: after each of these the node closes the connection, and lives


def nested(levels: int) -> bytes:
    body = b"\x82\xa1t\xa4pong\xa1x" + b"\x91" * levels + b"\xc0"
    return struct.pack(">I", len(body)) + body


PING = {"t": "ping", "nonce": 1, "sequence": 0, "digest": bytes(16)}
HELLO = {"t": "hello", "version": 1, "version_min": 1, "boot": bytes(8), "port": 0}
ON_A_LINK = {
    "an empty frame": bytes(4),
    "a length of 64 KiB + 1": struct.pack(">I", 65537),
    "a length of 4 GiB": b"\xff\xff\xff\xff",
    "garbage": b"\0\0\0\x08" + os.urandom(7) + b"\xc1",
    "no map": frame([1, 2]),  # type: ignore[arg-type]
    "no tag": frame({"nonce": 1}),
    "2,000 nested arrays": nested(2000),
    "60,000 nested arrays": nested(60_000),
    "an array of 65 items": frame({"t": "pong", "nonce": 1, "x": [None] * 65}),
    "an extension type": frame({"t": "pong", "nonce": 1, "x": msgpack.ExtType(5, b"x")}),
    "a negative nonce": frame(PING | {"nonce": -1}),
    "a missing field": frame({"t": "pong"}),
    "text where bytes belong": frame(PING | {"digest": "x" * 16}),
    "a digest that is too short": frame(PING | {"digest": bytes(15)}),
    "a map beyond its blob": frame(
        {"t": "have", "blob": UNKNOWN_BLOB, "size": 5, "sealed": False, "wanted": False, "chunks": b"\2"}
    ),
    "a peer with a host name": frame({"t": "peers", "nodes": [{"node": "a" * 40, "host": "example.org", "port": 1}]}),
    "a second hello": frame(HELLO),
    "attach": frame({"t": "attach", "ticket": bytes(16)}),
    "get": frame({"t": "get", "request": 1, "blob": UNKNOWN_BLOB, "size": 5, "first": 0, "count": 1}),
    "an answer to no question": frame({"t": "ticket", "request": 7, "ticket": bytes(16), "plain": False}),
    "a problem with no question": frame({"t": "problem", "request": 7, "code": "failed"}),
    "request ids that fall": frame({"t": "ask_flood", "request": 9}) + frame({"t": "ask_flood", "request": 8}),
}
ON_A_NEW_PLAIN_CONNECTION = {
    "a hello": frame(HELLO),
    "a ping": frame(PING),
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a length of 4 GiB": b"\xff\xff\xff\xff",
}
ON_A_NEW_TLS_CONNECTION = {
    "a ping before hello": frame(PING),
    "attach with a short ticket": frame({"t": "attach", "ticket": b""}),
}
ON_A_DATA_CONNECTION = {
    "a ping": frame(PING),
    "chunks beyond the blob": frame({"t": "get", "request": 1, "blob": UNKNOWN_BLOB, "size": 5, "first": 0, "count": 2}),
    "a chunk from the dialler": frame({"t": "chunk", "request": 1, "index": 0, "size": 5, "digest": bytes(32)}),
}


def on_a_link(offence: bytes, node: Node) -> None:
    with node.tls() as connection:
        greeting(connection)
        offend(connection, offence)


def on_a_new_plain_connection(offence: bytes, node: Node) -> None:
    with node.plain() as connection:
        offend(connection, offence)


def on_a_new_tls_connection(offence: bytes, node: Node) -> None:
    with node.tls() as connection:
        connection.receive()
        offend(connection, offence)


def on_a_data_connection(offence: bytes, node: Node) -> None:
    with node.link() as link, own_tls(link) as data:
        data.receive()
        attach(data, ticket(link)["ticket"])
        offend(data, offence)


def offend(connection: Connection, offence: bytes) -> None:
    try:
        connection.send_bytes(offence)
    except Closed:
        return
    connection.is_closed_by_peer()


for where, offences, commit in (
    ("a link", ON_A_LINK, on_a_link),
    ("a new TLS connection", ON_A_NEW_TLS_CONNECTION, on_a_new_tls_connection),
    ("a new plain connection", ON_A_NEW_PLAIN_CONNECTION, on_a_new_plain_connection),
    ("a data connection", ON_A_DATA_CONNECTION, on_a_data_connection),
):
    for what, offence in offences.items():
        CASES.append((f"{what} on {where} ends it", functools.partial(commit, offence)))


@case("after all this a new link works")
def _(node: Node) -> None:
    with node.link() as link:
        link.is_alive()


def silence(_node: Node, raw: socket.socket, since: float) -> None:
    """A connection on which nothing was said since the run began."""
    raw.settimeout(max(0.1, since + HANDSHAKE_S + 2 - time.monotonic()))
    try:
        said = raw.recv(1)
    except TimeoutError:
        raise Broken(f"kept it for more than {HANDSHAKE_S + 2:g} s") from None
    except OSError:
        return
    expect(not said, "spoke first on a plain connection")


def run(node: Node, *, quick: bool) -> bool:
    """Print a line for each case; whether none failed."""
    results = {"PASS": 0, "FAIL": 0, "SKIP": 0}
    with socket.create_connection((node.host, node.port), PATIENCE_S) as silent:
        patient = functools.partial(silence, raw=silent, since=time.monotonic())
        slow: list[tuple[str, Case]] = [] if quick else [("a connection that stays silent is closed", patient)]
        for promise, check in [*CASES, *slow]:
            result, why = judge(check, node)
            results[result] += 1
            print(f"{result}  {promise}{f'  ({why})' if why else ''}", flush=True)
    print("; ".join(node.notes))
    print(", ".join(f"{count} {result}" for result, count in results.items()))
    return not results["FAIL"]


def judge(check: Case, node: Node) -> tuple[str, str]:
    try:
        check(node)
    except Skipped as reason:
        return "SKIP", str(reason)
    except (Broken, Closed, OSError, ValueError) as reason:
        return "FAIL", str(reason)[:200] or type(reason).__name__
    return "PASS", ""


def blob_name(text: str) -> bytes:
    algorithm, _, digits = text.partition(":")
    return bytes([{"sha256": 1, "git-sha1": 2}[algorithm]]) + bytes.fromhex(digits).ljust(32, b"\0")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Check that a running node keeps the p2pmodel protocol.")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--token-file", type=Path, help="file with the cluster's join token; without it: the open cluster")
    parser.add_argument("--token", help="the join token itself (other users of this machine can see it)")
    parser.add_argument("--blob", type=blob_name, help="sha256:… or git-sha1:… of a sealed blob that the node holds")
    parser.add_argument("--size", type=int, help="its size in bytes")
    parser.add_argument("--quick", action="store_true", help="leave out what waits for seconds")
    given = parser.parse_args(arguments)
    token = given.token_file.read_text().split()[0] if given.token_file else given.token
    if (given.blob is None) != (given.size is None):
        parser.error("--blob and --size go together")
    blob = None if given.blob is None else (given.blob, given.size)
    node = Node(given.host, given.port, Cluster.of(secret_of(token)), blob)
    return 0 if run(node, quick=given.quick) else 1


if __name__ == "__main__":
    sys.exit(main())
