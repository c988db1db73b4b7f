"""Everything of ours that reads bytes which others wrote, as functions of bytes: each raises what it may raise, or nothing.

`python tests/attacks/targets.py NAME SECONDS [DIRECTORY]` lets atheris (`pip install atheris`) look for inputs that make one
fail, led by coverage; what it finds interesting is kept in DIRECTORY. The seeds are small and well formed.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

if __name__ == "__main__":
    import atheris

    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
    with atheris.instrument_imports(include=["p2pmodel", "h11"]):
        import p2pmodel.process  # noqa: F401  # all of it

import msgspec
import trio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from fakes.gateway import FakeDelivery, FakeUpstreams
from fakes.xet import shard, xorb

from p2pmodel.content import Blob, BlobId, Grade, Hub, Manifest, Repo, RepoKind, Seal
from p2pmodel.content.attestation import Attestation, Circle, Level
from p2pmodel.content.blob_filter import FILTER_BYTES, BlobFilter
from p2pmodel.content.cutting import Cutter
from p2pmodel.content.pieces import PieceList, piece_entry
from p2pmodel.content.xet import ShardReader, XorbReader, unpack
from p2pmodel.delivery import publications
from p2pmodel.delivery.listings import read_listing
from p2pmodel.delivery.manifests import assemble_manifest, manifest_pages
from p2pmodel.discovery import Announcement
from p2pmodel.errors import P2pmodelError, PeerProtocolError
from p2pmodel.gateway import Gateway
from p2pmodel.gateway.connection import ClientConnection, Desk
from p2pmodel.gateway.gate import Gate, hosts_of
from p2pmodel.gateway.ranges import UnsatisfiableError, choose
from p2pmodel.limits import CHUNK_BYTES
from p2pmodel.peering import DenyList, Identity, Membership, Memberships, remembered
from p2pmodel.peering.membership import read_certificate
from p2pmodel.store import record
from p2pmodel.store.record import Claim
from p2pmodel.upstream.client import Document
from p2pmodel.upstream.dialect import without_xet
from p2pmodel.upstream.huggingface import HuggingFace
from p2pmodel.upstream.modelscope import ModelScope
from p2pmodel.upstream.url import Url
from p2pmodel.wire import CLOSED, NEED_DATA, Role, Secrecy, Session, decode, encode
from p2pmodel.wire.messages import Hello, ManifestPage

VECTORS = Path(__file__).parents[2] / "protocol/vectors"
BLOB = Blob(BlobId("sha256", "ab" * 32), 2 * CHUNK_BYTES + 7)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
HUB_MARK = b"\0HUB\0"
CIRCLE = Circle(bytes(8))
REPO = {hub: Repo(hub, RepoKind.MODEL, "org/model") for hub in Hub}
SCRATCH = Path(tempfile.gettempdir())


@dataclass(frozen=True)
class Target:
    attack: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]


# Peers


def frames(data: bytes) -> None:
    """All that a connection says, at each place where it may begin; the first byte chooses."""
    place = data[0] % 4 if data else 0
    session = Session(Role.LISTENER if place % 2 else Role.DIALLER, Secrecy.TLS if place < 2 else Secrecy.PLAIN)
    if place == 1:
        session.send(Hello(version=1, version_min=1, boot=bytes(8), port=1))
    with suppress(PeerProtocolError):
        for piece in (data[1:700], data[700:60_000]):
            session.receive_bytes(piece or b"\0")
            while not session.body_remaining and session.next_event() not in (NEED_DATA, CLOSED):
                pass


def frame_seeds() -> list[bytes]:
    vectors = json.loads((VECTORS / "messages.json").read_text())
    said = [bytes.fromhex(vector["frame"]) for vector in vectors["good"]]
    hello = encode(Hello(version=1, version_min=1, boot=bytes(8), port=1))
    return [bytes([place]) + hello + frame for frame in said for place in range(2)]


def manifest(data: bytes) -> None:
    pages = []
    with suppress(PeerProtocolError, ValueError):
        while data:
            size = int.from_bytes(data[:2], "big")
            pages.append(decode(data[2 : 2 + size]))
            data = data[2 + size :]
        assemble_manifest(BLOB, [page for page in pages if isinstance(page, ManifestPage)])


def manifest_seeds() -> list[bytes]:
    whole = Manifest(BLOB, bytes(range(96)))
    bodies = [encode(page)[4:] for page in manifest_pages(1, whole, Seal.sign(whole, KEY))]
    return [b"".join(len(body).to_bytes(2, "big") + body for body in bodies)]


def attestations(data: bytes) -> None:
    with suppress(ValueError):
        for word in Attestation.take_all(data):
            assert len(word.signature) == 64
            word.refusal(BLOB, CIRCLE)
            word.digest(word.first)
            assert Attestation.take(word.to_bytes()) == (word, b"")


def attestation_seeds() -> list[bytes]:
    words = [Attestation.sign(BLOB, first, bytes(32) * 2, Level.WITNESS, circle=CIRCLE, key=KEY).to_bytes() for first in (0, 1)]
    return [words[0], b"".join(words)]


def certificate(data: bytes) -> None:
    with suppress(ValueError), warnings.catch_warnings(action="ignore"):  # `cryptography` does not like all that it takes
        found, node = read_certificate(data)
        assert len(node) == 40
        Memberships(_stranger()).trusts(found, dt.datetime(2026, 1, 1, tzinfo=dt.UTC))


def certificate_seeds() -> list[bytes]:
    return [_stranger().certificate.public_bytes(Encoding.DER), _authority().public_bytes(Encoding.DER)]


@cache
def _stranger() -> Membership:
    return Membership.open(Identity(KEY))


def deny_list(data: bytes) -> None:
    with suppress(ValueError):
        found = DenyList.parse(data, _authority())
        assert found.serials == {7, 8}  # nobody else can sign one


def deny_list_seeds() -> list[bytes]:
    name, now = x509.Name([]), dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateRevocationListBuilder(name, now, now).add_extension(x509.CRLNumber(300), critical=False)
    for serial in (7, 8):
        builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder(serial, now).build())
    partial = builder.add_extension(x509.DeltaCRLIndicator(1), critical=True)
    return [each.sign(KEY, None).public_bytes(Encoding.DER) for each in (builder, partial)]


@cache
def _authority() -> x509.Certificate:
    name, now = x509.Name([]), dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return x509.CertificateBuilder(name, name, KEY.public_key(), 1, now, now).sign(KEY, None)


def listing(data: bytes) -> None:
    """A member signs what it likes: the bytes under the signature are the attack."""
    body = zlib.compress(data, 1)
    document = KEY.public_key().public_bytes_raw() + KEY.sign(b"p2pmodel listing v1\0" + body) + body
    for packed in (document, data):
        with suppress(ValueError):
            read_listing(packed, REPO[Hub.HUGGINGFACE], "main")
    published = KEY.public_key().public_bytes_raw() + KEY.sign(publications._PREFIX + body) + body
    with suppress(ValueError):
        publications.read(published, REPO[Hub.HUGGINGFACE])


def listing_seeds() -> list[bytes]:
    said = {"hub": "huggingface", "kind": "model", "name": "org/model", "revision": "main", "commit": "c" * 40}
    files = [["a/b.json", 3, None], ["w.safetensors", 9, "sha256:" + "0" * 64]]
    published = {"kind": "model", "name": "org/model", "files": files[1:], "published": 1, "expires": 99}
    return [json.dumps({**said, "files": files, "listing": "W10="}).encode(), json.dumps(published).encode()]


def txt(data: bytes) -> None:
    pairs: dict[bytes, bytes | None] = {}
    for entry in data.split(b"\n"):
        key, equals, value = entry.partition(b"=")
        pairs[key] = value if equals else None
    with suppress(ValueError):
        assert 0 < Announcement.from_txt(pairs).port < 1 << 16


def txt_seeds() -> list[bytes]:
    said = Announcement("a" * 40, "b" * 16, 7277, bytes(8), 3, bytes(16), BlobFilter(bytes(FILTER_BYTES)))
    return [b"\n".join(key.encode() + b"=" + value for key, value in said.to_txt(1).items())]


# Hubs


class SaidByAHub:
    """An upstream's client whose every answer is the next part of the input."""

    home = Url.parse("http://hub.example")

    def __init__(self, data: bytes) -> None:
        self._answers = data.split(b"\0\n", 8)

    async def document(self, target: str, *, token: str | None) -> Document:
        del target, token
        await trio.lowlevel.checkpoint()
        head, _, body = (self._answers.pop(0) if self._answers else b"").partition(b"\n")
        headers = {"link": head.decode("latin-1")} if head.startswith(b"<") else {"x-error-code": head.decode("latin-1")}
        status = 200 if not head or head.startswith(b"<") else 404
        return Document(status, headers, body, Url.parse("http://hub.example/api/models/org/model/tree/main"))

    def home_target(self, location: str) -> str | None:
        try:
            url = self.home.join(location)
        except ValueError:
            return None
        return url.target if url.origin == self.home.origin else None

    def open(self, *_: object, **__: object) -> object:
        raise P2pmodelError("not asked here")


def hub_json(data: bytes) -> None:
    for hub, dialect in ((Hub.HUGGINGFACE, HuggingFace()), (Hub.MODELSCOPE, ModelScope())):
        with suppress(P2pmodelError):
            listed = trio.run(dialect.listing, SaidByAHub(data), REPO[hub], "main", "token")
            msgspec.json.decode(listed.entries)
    with suppress(P2pmodelError):
        without_xet(Document(200, {}, data, SaidByAHub.home).decode(object))


def hub_seeds() -> list[bytes]:
    huggingface = [
        {"sha": "c" * 40, "id": "org/model", "gated": False, "private": False},
        [
            {"type": "file", "path": "config.json", "size": 2, "oid": "0" * 40},
            {"type": "file", "path": "w.bin", "size": 9, "oid": "1" * 40, "lfs": {"oid": "2" * 64, "size": 9}, "xetHash": "3"},
            {"type": "directory", "path": "sub", "size": 0, "oid": "0" * 40},
        ],
    ]
    modelscope = [
        {"Code": 200, "Data": {"Commit": [{"Id": "c" * 40}]}},
        {"Code": 200, "Data": {"Files": [{"Path": "w.bin", "Size": 9, "Sha256": "2" * 64, "Type": "blob"}], "TotalCount": 1}},
    ]
    pages = [b"\0\n".join(b"\n" + json.dumps(answer).encode() for answer in hub) for hub in (huggingface, modelscope)]
    return [*pages, pages[0].replace(b"\0\n\n", b'\0\n<http://hub.example/next>; rel="next"\n'), b"EntryNotFound\n{}"]


# Clients


class Wire:
    """A client's connection that says the input and takes whatever is answered."""

    gone = False

    def __init__(self, data: bytes) -> None:
        self._left = data
        self.answered = bytearray()

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        said, self._left = self._left[:500], self._left[500:]
        return said

    async def send_all(self, data: bytes, *, more: bool = False) -> None:
        del more
        await trio.lowlevel.checkpoint()
        self.answered += data

    async def send_file(self, fd: int, offset: int, count: int, *, head: bytes = b"") -> None:
        del fd, offset
        await self.send_all(head + bytes(count))

    async def finish(self) -> None:
        await trio.lowlevel.checkpoint()

    def try_send(self, data: bytes) -> None:
        self.answered += data

    def close(self) -> None:
        pass


HUB = FakeUpstreams()


@cache
def desk() -> Desk:
    delivery = FakeDelivery()
    for hub, repo in REPO.items():
        delivery.repos[repo] = {"config.json": b"{}", "w.bin": bytes(999)}
        delivery.infos[repo] = b'{"siblings": [], "Data": {}}' if hub is Hub.HUGGINGFACE else b'{"Code": 200, "Data": {}}'
    gateway = Gateway(delivery, HUB, ready=lambda: None, render_metrics=lambda: b"", report={})
    gate = Gate(hosts_of(7276), None)
    return Desk(gate, gateway._routes, gateway._vigil, gateway._reception, gateway.statistics)


def http(data: bytes) -> None:
    """What a client says and, after a mark, what the hub answers where the gateway asks it on the client's behalf."""
    said, _, HUB.body = data.partition(HUB_MARK)
    wire = Wire(said)
    trio.run(ClientConnection(wire, desk()).run)
    answers = bytes(wire.answered)
    assert not answers or answers.startswith(b"HTTP/1.1 ")
    assert b"access-control-" not in answers.lower()


def posted(path: bytes, kind: bytes, body: bytes, answer: bytes = b"{}") -> bytes:
    head = b"POST " + path + b" HTTP/1.1\r\nHost: localhost:7276\r\nAuthorization: Bearer hf_x\r\nContent-Type: " + kind
    return head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body + HUB_MARK + answer


def upload_seeds() -> list[bytes]:
    one = {"oid": "0" * 64, "size": 9}
    batch = {"operation": "upload", "transfers": ["basic", "multipart"], "objects": [one], "hash_algo": "sha256"}
    action = {"href": "http://cdn.example/x", "header": {"chunk_size": "5", "1": "http://cdn.example/1"}}
    granted = {"transfer": "multipart", "objects": [{**one, "actions": {"upload": action, "verify": action}}]}
    lines = [
        {"key": "header", "value": {"summary": "s"}},
        {"key": "file", "value": {"path": "a.json", "content": "e30=", "encoding": "base64"}},
        {"key": "lfsFile", "value": {"path": "w.bin", "algo": "sha256", **one}},
    ]
    commit = b"\n".join(json.dumps(line).encode() for line in lines)
    made = json.dumps({"commitOid": "c" * 40, "commitUrl": "http://hub.example/x"}).encode()
    lfs, answer = json.dumps(batch).encode(), json.dumps(granted).encode()
    return [
        posted(b"/org/model.git/info/lfs/objects/batch", b"application/vnd.git-lfs+json", lfs, answer),
        posted(b"/api/models/org/model/commit/main", b"application/x-ndjson", commit, made),
        posted(b"/api/v1/repos/models/org/model/info/lfs/objects/batch", b"application/json", lfs, answer),
        posted(
            b"/api/v1/repos/models/org/model/commit/master", b"application/json", json.dumps({"actions": []}).encode(), made
        ),
        posted(b"/api/repos/create", b"application/json", b'{"name": "model"}', b'{"url": "http://hub.example/org/model"}'),
    ]


def http_seeds() -> list[bytes]:
    host = b"Host: localhost:7276\r\n"
    return [
        *upload_seeds(),
        b"GET /org/model/xet-read-token/main HTTP/1.1\r\n" + host + b"\r\n",
        b"GET /org/model/resolve/main/w.bin HTTP/1.1\r\n" + host + b"Range: bytes=5-9\r\nAuthorization: Bearer hf_x\r\n\r\n",
        b"HEAD /org/model/resolve/main/config.json HTTP/1.1\r\n" + host + b"Range: bytes=-7\r\n\r\n" * 2,
        b"GET /api/models/org/model/tree/main?recursive=1 HTTP/1.1\r\n" + host + b"Cookie: m_session_id=x\r\n\r\n",
        b"GET /api/v1/models/org/model/repo?Revision=master&FilePath=w.bin HTTP/1.0\r\n" + host + b"\r\n",
        b"GET /-/api/fetch?repo=org/model&file=w.bin HTTP/1.1\r\n" + host + b"Origin: http://evil.example\r\n\r\n",
        b"POST /api/models/org/model/paths-info/main HTTP/1.1\r\n" + host + b"Content-Type: application/json\r\n"
        b'Content-Length: 27\r\n\r\n{"paths": ["a"], "expand":1}',
        b"PUT /org/model HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
        b"3\r\nabc\r\n0\r\n\r\n",
    ]  # fmt: skip


def ranges(data: bytes) -> None:
    size = int.from_bytes(data[:4], "big")
    with suppress(UnsatisfiableError):
        chosen = choose(data[4:].decode("latin-1"), size)
        assert 0 <= chosen.start <= chosen.stop <= size
        assert chosen.partial or (chosen.start, chosen.stop) == (0, size)


def range_seeds() -> list[bytes]:
    return [b"\0\0\1\0" + value for value in (b"bytes=0-9", b"bytes=-5", b"bytes=7-", b"bytes=0-1,2-3", b"items=1-2")]


# Our own disk


def state_files(data: bytes) -> None:
    path = SCRATCH / f"p2pmodel-fuzzed-{id(state_files)}"
    path.write_bytes(data)
    try:
        remembered.load(path)
        found = record.parse(data)
    finally:
        path.unlink()
    if found is not None:
        assert 0 < found.length <= len(data)
        assert all(index * CHUNK_BYTES < found.blob.size for index in found.claims)


def state_seeds() -> list[bytes]:
    grades = [grade for grade in Grade if grade is not Grade.QUORUM]  # which is a matter of the moment
    claims = [record.entry(BLOB, index, Claim(bytes(32), grade)) for index, grade in enumerate(grades)]
    peers = {"version": 1, "peers": [{"node": "a" * 40, "host": "10.0.0.1", "port": 7277}]}
    return [record.header(BLOB) + b"".join(claims), json.dumps(peers).encode()]


def xet(data: bytes) -> None:
    """Uploads by Xet: a xorb and its chunks, or a shard."""
    for reader in (XorbReader(), ShardReader()):
        with suppress(ValueError):
            reader.feed(data[:50])
            reader.feed(data[50:])
        if isinstance(reader, ShardReader):
            assert all(file.size == sum(term.size for term in file.terms()) for file in reader.files)
            continue
        for (start, stop), (first, last) in zip(pairwise(reader.starts), pairwise(reader.offsets), strict=True):
            with suppress(ValueError):
                assert len(unpack(memoryview(data)[start:stop])) == last - first


def xet_seeds() -> list[bytes]:
    chunks = [b"one chunk" * 9, b"another"]
    files = shard(("ab" * 32, [("cd" * 32, 88, 0, 2)]), ("ef" * 32, []))
    return [*(xorb(chunks, scheme) for scheme in range(3)), files]


def pieces(data: bytes) -> None:
    """A list that a peer gives, and a file to cut with whatever is in it."""
    with suppress(ValueError):
        listed = PieceList.read(data)
        assert len(listed.root()) == 32
        assert [listed.overlapping(*ends) for ends in pairwise(listed.starts)] == [range(n, n + 1) for n in range(len(listed))]
    cutter = Cutter()
    cutter.feed(data[:9_000])
    cutter.feed(data[9_000:])
    cut = cutter.finish()
    assert (cut.size, cut.check(0, data)) == (len(data), None)


def pieces_seeds() -> list[bytes]:
    return [b"".join(piece_entry(bytes(size)) for size in (8_192, 131_072, 1)), b"", bytes(range(256)) * 200]


TARGETS = {
    "frames": Target(frames, frame_seeds),
    "manifest": Target(manifest, manifest_seeds),
    "attestations": Target(attestations, attestation_seeds),
    "certificate": Target(certificate, certificate_seeds),
    "deny-list": Target(deny_list, deny_list_seeds),
    "listing": Target(listing, listing_seeds),
    "txt": Target(txt, txt_seeds),
    "hub-json": Target(hub_json, hub_seeds),
    "http": Target(http, http_seeds),
    "ranges": Target(ranges, range_seeds),
    "state-files": Target(state_files, state_seeds),
    "xet": Target(xet, xet_seeds),
    "pieces": Target(pieces, pieces_seeds),
}


def main(name: str, seconds: str, directory: str = "") -> None:
    target = TARGETS[name]
    corpus = Path(directory or tempfile.mkdtemp())
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    flags = [f"-max_total_time={seconds}", "-timeout=5", "-rss_limit_mb=1024", "-max_len=65536", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], target.attack)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
