"""Uploads through a real daemon, as huggingface_hub words them, and what a second node then has of them."""

import base64
import hashlib
import json

import pytest
from daemons import MIB, House, Site, until
from noise import noise

from p2pmodel.limits import DISCLOSURE_BYTES

TOKEN = "hf_aliceAliceAlice"
WEIGHTS = noise(1, 9 * MIB)
OID = hashlib.sha256(WEIGHTS).hexdigest()


def ask(node, method, path, body, **headers):
    connection = node.door(20.0)
    try:
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Host": f"localhost:{node.port}", "Authorization": f"Bearer {TOKEN}", **headers}
        connection.request(method, path.removeprefix(node.url), sent, given)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def upload(node, *, private):
    """A repo with two files, the large one in two parts; its commit."""
    assert ask(node, "POST", "/api/repos/create", {"name": "new", "private": private})[0] == 200
    batch = {"operation": "upload", "transfers": ["basic", "multipart"], "objects": [{"oid": OID, "size": len(WEIGHTS)}]}
    status, answer = ask(node, "POST", "/alice/new.git/info/lfs/objects/batch", batch)
    upload = json.loads(answer)["objects"][0]["actions"]["upload"]
    size, parts = int(upload["header"].pop("chunk_size")), []
    for number, place in upload["header"].items():
        start = (int(number) - 1) * size
        piece = WEIGHTS[start : start + size]
        assert place.startswith(node.url)
        assert ask(node, "PUT", place, piece)[0] == 200
        parts.append({"partNumber": int(number), "etag": f'"{hashlib.md5(piece, usedforsecurity=False).hexdigest()}"'})
    assert len(parts) == 2
    assert ask(node, "POST", upload["href"], {"oid": OID, "parts": parts})[0] == 200
    small = {"path": "config.json", "content": base64.b64encode(b"{}").decode(), "encoding": "base64"}
    lines = [
        {"key": "header", "value": {"summary": "all"}},
        {"key": "file", "value": small},
        {"key": "lfsFile", "value": {"path": "w.bin", "algo": "sha256", "oid": OID, "size": len(WEIGHTS)}},
    ]
    status, answer = ask(
        node, "POST", "/api/models/alice/new/commit/main", b"\n".join(json.dumps(one).encode() for one in lines)
    )
    assert status == 200, answer
    return json.loads(answer)["commitOid"]


def public_blobs(node):
    """What everybody on that machine may read."""
    return [path.name for path in node.state.joinpath("blobs").rglob("*") if path.is_file()]


@pytest.fixture
def site():
    with Site() as site:
        site.hub.add_user(TOKEN, "alice")
        yield site


def test_a_public_upload_is_the_clusters_before_the_hub_is_asked(site, tmp_path):
    with House(tmp_path / "house", site) as house:
        one = house.daemon("one")
        two = house.daemon("two", [one])
        commit = upload(one, private=False)
        until(lambda: len(public_blobs(one)) == 2, "both files to be public at the first node")
        assert two.fetch("alice/new", "config.json", "w.bin")["upstream"] == 0
        assert two.ask("/alice/new/resolve/main/w.bin").body == WEIGHTS
        assert two.ask("/alice/new/resolve/main/config.json").headers["x-repo-commit"] == commit
        assert site.sent == DISCLOSURE_BYTES + len(b"{}")  # whether it gives them to strangers


def test_a_private_upload_is_given_to_its_owner_alone_and_without_the_hubs_bytes(site, tmp_path):
    with House(tmp_path / "house", site) as house:
        one = house.daemon("one")
        two = house.daemon("two", [one])
        upload(one, private=True)

        def sources():
            answer = one.ask("/alice/new/resolve/main/w.bin", Authorization=f"Bearer {TOKEN}", Range="bytes=0-99")
            return answer.headers["x-p2pmodel-source"]

        until(lambda: sources() == "store", "the file to be kept")
        assert one.ask("/alice/new/resolve/main/w.bin").status == 404
        assert two.ask("/alice/new/resolve/main/w.bin").status == 404
        assert public_blobs(one) == []
