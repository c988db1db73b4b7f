"""Nobody makes a private blob everybody's by naming it: not a member, not a mirror, not the owner of another repo."""

import os

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fakes.hub import MemoryHub, blob_of
from fakes.neighbours import Lan
from fakes.node import Node, cluster, together
from noise import noise

from p2pmodel.content import Access, Hub, Repo, RepoKind, chunk_digest, chunk_size
from p2pmodel.delivery.listings import listing_pages
from p2pmodel.delivery.ports import Span
from p2pmodel.delivery.publications import Publication, sign
from p2pmodel.errors import EntryNotFoundError, GatedRepoError, NotAuthorisedError, NotFoundError, UnavailableError
from p2pmodel.limits import CHUNK_BYTES, REVISION_FRESH_S
from p2pmodel.wire.messages import AskSnapshot, AskWarm, Have, Interest, Problem

pytestmark = pytest.mark.scorecard("S18")

SECRET = noise(5, 2 * CHUNK_BYTES + 999)
BLOB = blob_of(SECRET)
GATED, OPEN, EVIL = (Repo(Hub.HUGGINGFACE, RepoKind.MODEL, f"org/{name}") for name in ("gated", "open", "evil"))
ALICE = Access("alice")
NO = (NotFoundError, NotAuthorisedError)


@pytest.fixture
def hub():
    """Everybody may list the gated repo, and see the hashes of its files."""
    made = MemoryHub()
    made.publish({"w.bin": SECRET}, repo=GATED, tokens={"alice"})
    made.listed.add(GATED)
    return made


class Primer:
    """A member that lists the gated file as a model of the LAN, and gives one chunk of nothing for it."""

    def __init__(self, events, node):
        self._events, self._node, self._gave = events, node, False

    def __getattr__(self, name):
        return getattr(self._events, name)

    def received(self, peer, message):
        if isinstance(message, Interest) and message.on:
            have = Have(blob=message.blob, size=message.size, sealed=True, wanted=False, chunks=bytes([0b111]))
            self._node.around.neighbours.send(peer, have)

    async def answer(self, _peer, question):
        if not isinstance(question, AskSnapshot):
            return [Problem(code="not_held")]
        listing = Publication("model", "_lan/evil", [("w.bin", BLOB.size, str(BLOB.id))], 1, 3601)
        return listing_pages(1, sign(listing, Ed25519PrivateKey.from_private_bytes(bytes(32))))

    async def seed(self, _peer, blob, index):
        if self._gave:
            return None
        self._gave = True
        data = bytes(chunk_size(blob.size, index))
        file = os.memfd_create("chunk")
        try:
            os.write(file, data)
            return Span(file, 0, len(data), chunk_digest(data))
        finally:
            os.close(file)


async def test_a_member_that_lists_a_gated_file_as_its_own_does_not_have_it_brought_in_for_everybody(hub, autojump_clock):
    """It asks this node to warm that model, gives a chunk of it, and waits until somebody fetches the file by a token."""
    lan = Lan()
    async with together(*[Node(name, lan, hub, closed=True, sharing="prove") for name in ("a", "evil")]) as [a, evil]:
        lan.nodes["evil"] = Primer(lan.nodes["evil"], evil)
        warm = AskWarm(
            request=1, hub="huggingface", kind="model", name="_lan/evil", revision="main", include=[], exclude=[], begin=True
        )
        await a.delivery.seeding.answer("evil", warm)
        await trio.sleep(30)
        begun = a.store.find(BLOB.id)
        assert (begun.private, begun.held) == (False, 1)
        assert (await a.read("w.bin", repo=GATED, access=ALICE))[0] == SECRET
        await trio.sleep(5)
        assert a.bytes_of(BLOB) == SECRET
        assert a.store.find(BLOB.id).private
        assert await a.delivery.seeding.seed("evil", BLOB, 1) is None


def withhold(node, repo):
    """The hub lists that repo to everybody, and has not the file that it names."""
    read_range = node.upstreams.read_range

    async def refuse(location, *args):
        if location.repo == repo:
            raise EntryNotFoundError("no such file")
        return await read_range(location, *args)

    node.upstreams.read_range = refuse


@pytest.mark.parametrize("whole", [True, False])
async def test_a_public_listing_of_a_private_file_opens_it_to_nobody_unless_the_hub_gives_it(hub, autojump_clock, whole):
    hub.publish({"stolen.bin": SECRET}, repo=EVIL)
    async with cluster(hub, "a") as [a]:
        withhold(a, EVIL)
        if whole:
            await a.read("w.bin", repo=GATED, access=ALICE)
            await trio.sleep(5)
        else:
            await a.read("w.bin", 0, 100, repo=GATED, access=ALICE)
        for _ in range(2):
            with pytest.raises(NO):
                await a.delivery.entry(EVIL, "main", "stolen.bin", Access())
            with pytest.raises(NO):
                await a.fetch(EVIL)
        snapshot = await a.delivery.snapshot(EVIL, "main", Access())
        a.delivery.committed(EVIL, snapshot.commit, Access(), [])
        await trio.sleep(5)
        assert a.store.find(BLOB.id).private


async def test_what_a_listing_names_is_compared_at_a_place_that_nobody_can_foresee(hub, autojump_clock):
    """A mirror, or an owner of another repo, has something there under that name."""
    hub.publish({"stolen.bin": SECRET}, repo=EVIL)
    async with cluster(hub, "a") as [a]:
        await a.read("w.bin", repo=GATED, access=ALICE)
        hub.files[BLOB.id] = SECRET[: CHUNK_BYTES // 2].ljust(len(SECRET), b"\0")
        refused = 0
        for _ in range(8):
            try:
                await a.delivery.entry(EVIL, "main", "stolen.bin", Access())
            except GatedRepoError:
                refused += 1
        assert refused


async def test_what_the_hub_gives_to_strangers_as_well_is_everybodys_after_one_small_question(hub, autojump_clock):
    hub.publish({"same.bin": SECRET}, repo=OPEN)
    async with cluster(hub, "a") as [a]:
        await a.read("w.bin", repo=GATED, access=ALICE)
        await trio.sleep(5)
        assert a.store.find(BLOB.id).private
        hub.asked.clear()
        for _ in range(3):
            assert (await a.read("same.bin", repo=OPEN))[0] == SECRET
        assert not a.store.find(BLOB.id).private
        assert hub.asked["range"] == 1


async def test_whoever_follows_a_public_file_gets_no_byte_that_another_users_token_brings(hub, autojump_clock):
    hub.publish({"same.bin": SECRET}, repo=OPEN)
    hub.rate = 2 * CHUNK_BYTES
    async with cluster(hub, "a") as [a], trio.open_nursery() as nursery:
        snapshot, entry = await a.delivery.entry(OPEN, "main", "same.bin", Access())
        async with a.delivery.read(snapshot, entry, 0, entry.size, Access()) as reader:
            await reader.ready()
            with await reader.next_span():
                pass
            nursery.start_soon(lambda: a.read("w.bin", repo=GATED, access=ALICE))
            with pytest.raises(UnavailableError):
                await _to_the_end(reader)
        assert (await a.read("same.bin", repo=OPEN))[0] == SECRET  # the hub gives it to strangers: asked again, it says so
        assert not a.store.find(BLOB.id).private
        assert hub.bytes_sent < 1.6 * len(SECRET)


async def test_the_status_page_names_no_private_repo_whose_file_is_public_elsewhere(hub, autojump_clock):
    hub.publish({"same.bin": SECRET}, repo=OPEN)
    hub.rate = CHUNK_BYTES / 4
    async with cluster(hub, "a") as [a], trio.open_nursery() as nursery:
        nursery.start_soon(a.fetch, GATED, "main", ALICE)
        await trio.sleep(1)
        nursery.start_soon(a.fetch, OPEN)
        await trio.sleep(6)
        [told] = a.delivery.status()["downloads"]
        assert [file["repo"] for file in told["files"]] == ["org/open"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("still_there", [True, False])
async def test_a_repo_that_was_closed_is_closed_here_by_the_first_refusal_whoever_asked(hub, autojump_clock, still_there):
    """By its commit as well, of which the hub is not asked."""
    hub.publish({"a.bin": b"bytes"}, repo=OPEN)
    commit = hub.heads[OPEN, "main"]
    async with cluster(hub, "a") as [a]:
        await a.read("a.bin", repo=OPEN)
        if still_there:
            hub.tokens[OPEN] = {"alice"}
        else:  # a mirror's no, of a repo that the hub goes on giving to all
            a.upstreams.commit = a.upstreams.snapshot = refusing
        await trio.sleep(REVISION_FRESH_S + 1)
        with pytest.raises(NO):
            await a.read("a.bin", repo=OPEN)
        if still_there:
            with pytest.raises(NO):
                await a.read("a.bin", repo=OPEN, revision=commit)
        else:
            assert (await a.read("a.bin", repo=OPEN, revision=commit))[0] == b"bytes"


async def _to_the_end(reader):
    while (span := await reader.next_span()) is not None:
        with span:
            pass


async def refusing(*_):
    raise NotAuthorisedError("not for you")


async def test_a_download_that_nobody_could_ask_the_hub_for_asks_it_when_somebody_comes_who_may(hub, autojump_clock):
    """Begun offline, at a peer that never answers; then a client asks for the same file."""
    hub.publish({"same.bin": SECRET}, repo=OPEN)
    lan = Lan()
    async with together(Node("a", lan, hub), Node("b", lan, hub)) as [a, b], trio.open_nursery() as nursery:
        await b.fetch(OPEN)
        hub.sent.clear()
        lan.silent.add("b")
        snapshot = await a.delivery.snapshot(OPEN, "main", Access())
        [entry] = snapshot.files
        wanted = a.delivery.downloads.wanted(entry.blob, None, private=False, urgency=0)
        await nursery.start(_hold, wanted)
        with trio.fail_after(60):
            assert (await a.read("same.bin", repo=OPEN))[0] == SECRET
        nursery.cancel_scope.cancel()


async def _hold(wanted, task_status):
    async with wanted:
        task_status.started()
        await trio.sleep_forever()
