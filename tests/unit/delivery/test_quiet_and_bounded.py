"""What a peer may learn, and cost: nothing of a private blob, a bounded memory, never the link by our own disk's trouble."""

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fakes.hub import REPO, MemoryHub, blob_of
from fakes.neighbours import Lan
from fakes.node import Node, cluster
from noise import noise

from p2pmodel.content import Access, BlobId, Hub, Repo, RepoKind, Snapshot
from p2pmodel.delivery.herald import Herald
from p2pmodel.delivery.listings import read_listing, sign_listing
from p2pmodel.delivery.ports import Span
from p2pmodel.errors import P2pmodelError, StoreError, UnavailableError
from p2pmodel.limits import CHUNK_BYTES, WATCHES_PER_PEER_MAX
from p2pmodel.wire.messages import AskManifest, AskSnapshot, Have, Interest, Problem

SECRET = noise(2, 2 * CHUNK_BYTES)
PRIVATE = Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/private")
GOOD = Access("good")


@pytest.fixture
def hub():
    made = MemoryHub()
    made.publish({"w.bin": SECRET}, repo=PRIVATE, tokens={"good"})
    made.publish({"w.bin": b"public"})
    return made


async def test_a_peer_that_knows_a_private_blobs_name_learns_nothing_by_watching_it(hub, autojump_clock, monkeypatch):
    blob = blob_of(SECRET)
    async with cluster(hub, "a", "b") as [a, b]:
        told = []
        monkeypatch.setattr(b.delivery.seeding, "received", lambda peer, message: told.append(message))
        a.delivery.seeding.received("b", Interest(blob=blob.id.to_bytes(), size=blob.size, on=True))
        assert (await a.read("w.bin", repo=PRIVATE, access=GOOD))[0] == SECRET
        await trio.sleep(5)
    assert {type(message) for message in told} <= {Have}
    assert not any(message.sealed or message.wanted or any(message.chunks) for message in told)


def test_a_peer_that_watches_and_watches_fills_no_memory():
    herald = Herald(None)
    for number in range(3 * WATCHES_PER_PEER_MAX):
        herald.wants(BlobId("sha256", f"{number:064x}"), "peer", watch=True)
    assert len(herald._wanted) == WATCHES_PER_PEER_MAX
    assert herald.watchers(BlobId("sha256", f"{3 * WATCHES_PER_PEER_MAX - 1:064x}")) == ["peer"]
    herald.forget("peer")
    assert (herald._wanted, herald._wants) == ({}, {})


async def test_a_question_that_our_disk_cannot_answer_is_a_problem_for_the_peer_alone(hub, autojump_clock, monkeypatch):
    async with cluster(hub, "a", closed=True) as [a]:
        await a.fetch()
        a.store.failing.add("open")

        def broken(repo, revision):
            raise StoreError("The index failed.")

        monkeypatch.setattr(a.store, "ref", broken)
        for question in (
            AskManifest(request=1, blob=blob_of(b"public").id.to_bytes()),
            AskSnapshot(request=1, hub="huggingface", kind="model", name="org/model", revision="main"),
        ):
            [answer] = await a.delivery.seeding.answer("b", question)
            assert isinstance(answer, Problem)
        monkeypatch.undo()


def test_a_span_without_a_descriptor_left_is_the_stores_failure():
    with pytest.raises(StoreError):
        Span(-1, 0, 1)


async def test_a_members_word_makes_nothing_public_that_the_hub_gave_for_a_token(hub, autojump_clock):
    async with cluster(hub, "a", "b", closed=True) as [a, b]:
        await b.fetch(PRIVATE, access=GOOD)
        known = await b.delivery.snapshot(PRIVATE, "main", GOOD)
        a.store.put_snapshot(Snapshot(known.repo, known.commit, known.files, known.listing, public=True))
        a.store.put_ref(PRIVATE, "main", known.commit)
        hub.down = True
        with pytest.raises(P2pmodelError):
            await b.read("w.bin", repo=PRIVATE, access=Access())
        assert b.store.find(blob_of(SECRET).id).private


@pytest.mark.parametrize("commit", ["a\nb", "../x", ""])
def test_a_listing_whose_commit_is_none_is_not_believed(commit):
    document = sign_listing(Snapshot(REPO, commit, (), b"[]", public=True), "main", Ed25519PrivateKey.generate())
    with pytest.raises(ValueError, match="commit"):
        read_listing(document, REPO, "main")


async def test_whoever_comes_while_the_daemon_stops_is_told_so(hub, autojump_clock):
    node = Node("a", Lan(), hub)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.delivery.run)
        snapshot = await node.delivery.snapshot(REPO, "main", Access())
        nursery.cancel_scope.cancel()
    with pytest.raises(UnavailableError, match="stopping"):
        await node.fetch()
    with pytest.raises(UnavailableError, match="stopping"):
        async with node.delivery.downloads.wanted(snapshot.files[0].blob, None, private=False, urgency=1):
            pass
