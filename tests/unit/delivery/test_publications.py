"""Repos of the cluster alone: who is believed about them, and what they cannot do. Whole daemons: tests/e2e."""

import zlib
from types import SimpleNamespace

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fakes.stores import sample, seal_of

from p2pmodel.content import Grade, Hub, NodeId, Repo, RepoKind
from p2pmodel.delivery.listings import listing_pages
from p2pmodel.delivery.publications import Publication, Publications, read, sign
from p2pmodel.errors import ConfigError, RepoNotFoundError, RevisionNotFoundError, StoreError, UnavailableError
from p2pmodel.store import MemoryStore

REPO = Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "_lan/tiny")
FILE = sample(1, 5000)
LISTED = [("deep/w.bin", FILE.blob.size, str(FILE.blob.id))]
KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in range(1, 4)]


def publication(*, name="_lan/tiny", files=LISTED, published=1000, expires=2000):
    return Publication("model", name, files, published, expires)


class Neighbours:
    """Members that answer with these documents, in their order."""

    def __init__(self, *documents):
        self.documents = dict(enumerate(documents))
        self.asked = 0

    def linked(self):
        return [NodeId(str(peer)) for peer in self.documents]

    async def ask(self, peer, question):
        self.asked += 1
        return listing_pages(question.request, self.documents[int(peer)])


def node(*documents, key=KEYS[0], closed=True, now=1500):
    async def inline(function, *arguments):
        return function(*arguments)

    return SimpleNamespace(
        store=MemoryStore(), key=key, closed=closed, neighbours=Neighbours(*documents), blocking=inline, wall=lambda: now
    )


def hold(store, *, private):
    stored = store.open(FILE.blob, private=private)
    FILE.write(stored, grade=Grade.OWN)
    stored.finish(None, seal_of(stored))
    stored.close()


def test_what_is_signed_is_read_again():
    signed = read(sign(publication(), KEYS[0]), REPO)
    assert signed.publication == publication()
    snapshot = signed.publication.snapshot()
    assert (snapshot.entry("deep/w.bin").blob, snapshot.public) == (FILE.blob, True)
    entries = msgspec.json.decode(snapshot.listing)
    assert [(entry["type"], entry["path"]) for entry in entries] == [("directory", "deep"), ("file", "deep/w.bin")]


def resigned(change):
    body = zlib.compress(change)
    return KEYS[0].public_key().public_bytes_raw() + KEYS[0].sign(b"p2pmodel publication v1\0" + body) + body


@pytest.mark.parametrize(
    "document",
    [
        b"",
        bytes(500),
        sign(publication(), KEYS[0])[:-1],
        sign(publication(name="_lan/other"), KEYS[0]),
        sign(publication(name="org/model"), KEYS[0]),
        sign(publication(expires=1000), KEYS[0]),
        sign(publication(expires=10**9), KEYS[0]),
        sign(publication(files=[("../up", 1, str(FILE.blob.id))]), KEYS[0]),
        sign(publication(files=[("a", 1, "sha256:short")]), KEYS[0]),
        sign(publication(files=[("a", -1, str(FILE.blob.id))]), KEYS[0]),
        resigned(b"[1]"),
        resigned(b"[" * 100_000),
    ],
)
def test_what_cannot_be_a_publication_is_refused(document):
    with pytest.raises(ValueError, match=r".+"):
        read(document, REPO)


async def test_a_member_is_told_and_remembers_until_its_time_is_over():
    around = node(sign(publication(), KEYS[1]))
    found = await Publications(around).find(REPO, "main")
    assert found == publication().snapshot()
    assert await Publications(around).find(REPO, found.commit) == found
    around.neighbours.documents.clear()
    assert await Publications(around).find(REPO, "main") == found
    with pytest.raises(RevisionNotFoundError):
        await Publications(around).find(REPO, "v1")
    around.wall = lambda: 2000
    with pytest.raises(RepoNotFoundError):
        await Publications(around).find(REPO, "main")
    assert Publications(around).over() == [(REPO, found.commit)]


async def test_the_newest_of_the_one_whose_name_it_is():
    old, new = (publication(published=when) for when in (1000, 1200))
    thief = sign(publication(published=1400), KEYS[2])
    around = node(sign(new, KEYS[1]), sign(old, KEYS[1]))
    assert (await Publications(around).find(REPO, "main")).commit == new.commit
    around.neighbours = Neighbours(thief)
    assert (await Publications(around).find(REPO, "main")).commit == new.commit


async def test_two_publishers_of_one_name_are_both_not_believed():
    around = node(*(sign(publication(), key) for key in KEYS[1:]))
    with pytest.raises(UnavailableError, match="Two nodes"):
        await Publications(around).find(REPO, "main")


async def test_a_member_cannot_make_public_what_is_private_here():
    around = node(sign(publication(), KEYS[1]))
    hold(around.store, private=True)
    with pytest.raises(UnavailableError, match="private"):
        await Publications(around).find(REPO, "main")
    assert around.store.find(FILE.blob.id).private


async def test_in_an_open_cluster_nobody_is_asked_or_told():
    around = node(sign(publication(), KEYS[1]), closed=False)
    with pytest.raises(RepoNotFoundError):
        await Publications(around).find(REPO, "main")
    with pytest.raises(ConfigError, match="closed cluster"):
        await Publications(around).publish(REPO, [], 60.0)
    assert around.neighbours.asked == 0


async def test_publishing_makes_public_and_takes_whole_files_and_free_names_only():
    around = node()
    with pytest.raises(StoreError, match="not whole"):
        await Publications(around).publish(REPO, [("w.bin", FILE.blob)], 60.0)
    hold(around.store, private=True)
    snapshot = await Publications(around).publish(REPO, [("w.bin", FILE.blob)], 60.0)
    assert not around.store.find(FILE.blob.id).private
    assert around.store.ref(REPO, "main") == snapshot.commit
    taken = node(sign(publication(), KEYS[1]))
    hold(taken.store, private=True)
    with pytest.raises(ConfigError, match="publishes _lan/tiny"):
        await Publications(taken).publish(REPO, [("w.bin", FILE.blob)], 60.0)
    assert taken.store.find(FILE.blob.id).private
