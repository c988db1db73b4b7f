"""Delivery on fakes: several nodes, one hub, virtual time."""

import pytest
import trio
from fakes.hub import REPO, MemoryHub, blob_of
from fakes.neighbours import Lan
from fakes.node import cluster
from noise import noise

from p2pmodel.content import Access, FileEntry, Hub, Repo, RepoKind, Snapshot
from p2pmodel.delivery.fetching import select
from p2pmodel.delivery.ports import Selection
from p2pmodel.errors import (
    EntryNotFoundError,
    NotAuthorisedError,
    RepoNotFoundError,
    RevisionNotFoundError,
    UnavailableError,
    WrongBytesError,
)
from p2pmodel.limits import CHUNK_BYTES
from p2pmodel.store import MemoryStore

WEIGHTS = noise(0, 5 * CHUNK_BYTES + 12345)
FILES = {"config.json": b"{}", "empty": b"", "model.safetensors": WEIGHTS}
BLOB = blob_of(WEIGHTS)


@pytest.fixture
def hub():
    made = MemoryHub()
    made.publish(FILES)
    return made


async def test_the_first_node_takes_a_snapshot_from_the_hub_once(hub, autojump_clock):
    async with cluster(hub, "a") as [a]:
        report = await a.fetch()
        assert report.path is not None
        assert report.upstream == sum(map(len, FILES.values()))
        assert all(a.bytes_of(blob_of(data)) == data for data in FILES.values())
        await a.fetch()
    assert hub.bytes_sent == sum(map(len, FILES.values()))


async def test_the_next_nodes_take_nothing_from_the_hub(hub, autojump_clock):
    async with cluster(hub, "a", "b", "c") as [a, b, c]:
        await a.fetch()
        sent = hub.bytes_sent
        for node in (b, c):
            report = await node.fetch()
            assert (report.upstream, report.peers) == (0, sent)
            assert node.bytes_of(BLOB) == WEIGHTS
    assert hub.bytes_sent == sent


async def test_nodes_that_start_together_share_the_hub(hub, autojump_clock):
    hub.rate = 20e6
    async with cluster(hub, "a", "b", "c", "d") as nodes:
        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(node.fetch)
        assert all(node.bytes_of(BLOB) == WEIGHTS for node in nodes)
    assert hub.sent[BLOB.id] == BLOB.size


async def test_a_reader_alone_streams_before_the_file_is_complete(hub, autojump_clock):
    hub.rate = 1e6
    async with cluster(hub, "a") as [a]:
        snapshot, entry = await a.delivery.entry(REPO, "main", "model.safetensors", Access())
        async with a.delivery.read(snapshot, entry, 0, entry.size, Access()) as reader:
            await reader.ready()
            assert trio.current_time() < 10
            assert reader.sources == "upstream"
        assert a.bytes_of(BLOB) is None


async def test_what_a_peer_gave_does_not_leave_before_the_whole_file_is_checked(hub, autojump_clock):
    lan = Lan(rate=4e6)
    async with cluster(hub, "a", "b", lan=lan) as [a, b]:
        await a.fetch()
        data, sources = await b.read("model.safetensors")
        assert data == WEIGHTS
        assert sources == "peers"
        began = trio.current_time()
        assert (await b.read("model.safetensors", 10, 20))[0] == WEIGHTS[10:20]
        assert trio.current_time() - began < 0.1
    assert hub.sent[BLOB.id] == BLOB.size


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 0), (0, 1), (CHUNK_BYTES - 1, CHUNK_BYTES + 1), (7, len(WEIGHTS)), (len(WEIGHTS) - 1, len(WEIGHTS))]
)
async def test_any_range_has_the_hubs_bytes_cold_and_warm(hub, autojump_clock, start, stop):
    async with cluster(hub, "a") as [a]:
        for _ in range(2):
            assert (await a.read("model.safetensors", start, stop))[0] == WEIGHTS[start:stop]
            await a.fetch()


async def test_a_small_range_of_a_large_cold_file_is_read_at_once(hub, autojump_clock):
    large = noise(1, 9 * CHUNK_BYTES)
    other = Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/large")
    hub.publish({"model.safetensors": large}, repo=other)
    hub.rate = 1e6
    async with cluster(hub, "a", "b") as [a, b], trio.open_nursery() as nursery:
        nursery.start_soon(a.fetch, other)
        await trio.sleep(5)
        began = trio.current_time()
        data, _ = await b.read("model.safetensors", 0, 100, repo=other)
        assert data == large[:100]
        assert trio.current_time() - began < 15, "not the 36 s that the whole file takes"


@pytest.mark.scorecard("S5")
async def test_a_peer_that_flips_bits_loses_its_standing_and_the_fetch_goes_on(hub, autojump_clock):
    lan = Lan()
    async with cluster(hub, "a", "b", "c", lan=lan) as [a, b, c]:
        await a.fetch()
        await b.fetch()
        lan.flippers.add("a")
        await c.fetch()
        assert c.bytes_of(BLOB) == WEIGHTS
        assert c.delivery.downloads.statistics.chunks["peer", "wrong"] >= 1
    assert hub.sent[BLOB.id] == BLOB.size, "b had it all"


async def test_a_peer_whose_bytes_are_not_what_it_sealed_itself_loses_its_standing(hub, autojump_clock):
    lan = Lan()
    async with cluster(hub, "a", "b", lan=lan) as [a, b]:
        await a.fetch()
        lan.liars.add("a")
        await b.fetch()
        assert b.bytes_of(BLOB) == WEIGHTS
        assert b.delivery.downloads.statistics.chunks["peer", "wrong"] >= 1


async def test_a_liar_costs_at_most_one_more_copy_and_no_wrong_byte(hub, autojump_clock):
    lan = Lan()
    async with cluster(hub, "a", "b", lan=lan) as [a, b]:
        await a.fetch()
        lan.liars.add("a")
        lan.mute.add("a")
        await b.fetch()
        assert b.bytes_of(BLOB) == WEIGHTS
        assert b.around.standing.is_doubted("a", trio.current_time()), "nobody signed: it cannot be held to account"
    assert hub.sent[BLOB.id] <= 2 * BLOB.size


async def test_a_liar_among_readers_never_reaches_a_client(hub, autojump_clock):
    lan = Lan()
    async with cluster(hub, "a", "b", lan=lan) as [a, b]:
        await a.fetch()
        lan.liars.add("a")
        assert (await b.read("model.safetensors"))[0] == WEIGHTS


async def test_a_peer_that_says_nothing_does_not_hold_up_a_fetch(hub, autojump_clock):
    lan = Lan()
    async with cluster(hub, "a", "b", "c", lan=lan) as [a, b, c]:
        await a.fetch()
        await b.fetch()
        lan.silent.add("a")
        began = trio.current_time()
        await c.fetch()
        assert trio.current_time() - began < 15
    assert hub.sent[BLOB.id] == BLOB.size


async def test_when_the_only_holder_dies_the_hub_gives_the_rest(hub, autojump_clock):
    lan = Lan(rate=4e6)
    async with cluster(hub, "a", "b", lan=lan) as [a, b]:
        await a.fetch()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b.fetch)
            await trio.sleep(2.5)
            lan.drop("a")
        assert b.bytes_of(BLOB) == WEIGHTS
    assert BLOB.size < hub.sent[BLOB.id] < 2 * BLOB.size


async def test_when_one_of_two_cold_fetchers_dies_the_other_finishes(hub, autojump_clock):
    hub.rate = 2e6
    lan = Lan()
    async with cluster(hub, "a", "b", lan=lan) as [a, b]:
        async with trio.open_nursery() as nursery:
            killed = trio.CancelScope()

            async def victim():
                with killed:
                    await b.fetch()

            nursery.start_soon(a.fetch)
            nursery.start_soon(victim)
            await trio.sleep(4)
            lan.drop("b")
            killed.cancel()
        assert a.bytes_of(BLOB) == WEIGHTS


async def test_a_fetch_that_was_given_up_resumes_where_it_stood(hub, autojump_clock):
    hub.rate = 5e6
    async with cluster(hub, "a") as [a]:
        with trio.move_on_after(3):
            await a.fetch()
        sent = hub.sent[BLOB.id]
        assert 0 < sent < BLOB.size
        await a.fetch()
        assert a.bytes_of(BLOB) == WEIGHTS
    assert hub.sent[BLOB.id] <= BLOB.size + 4 * CHUNK_BYTES


async def test_a_hub_that_goes_away_in_the_middle_is_unavailable_and_not_a_bad_source(hub, autojump_clock):
    hub.breaks_every = 6
    async with cluster(hub, "a") as [a]:
        with pytest.raises(UnavailableError, match="broke off"):
            await a.fetch()


@pytest.mark.parametrize("_attempt", range(6))
async def test_what_was_durable_before_a_crash_is_not_asked_of_the_hub_again(hub, autojump_clock, _attempt):
    """Whichever of the download's tasks happens to run first, hence the attempts."""
    hub.rate = 5e6
    store = MemoryStore()
    async with cluster(hub, "a", store=store) as [a]:
        with trio.move_on_after(3.5):
            await a.fetch()
    store.crash()
    async with cluster(hub, "a", store=store) as [a]:
        await a.fetch()
        assert a.bytes_of(BLOB) == WEIGHTS
    assert hub.sent[BLOB.id] <= BLOB.size + 1.5 * CHUNK_BYTES


async def test_without_the_hub_what_is_at_a_peer_still_comes(hub, autojump_clock):
    async with cluster(hub, "a", "b") as [a, b]:
        await a.fetch()
        await b.delivery.snapshot(REPO, "main", Access())
        hub.down = True
        report = await b.fetch()
        assert report.peers == sum(map(len, FILES.values()))
        assert b.bytes_of(BLOB) == WEIGHTS


async def test_in_a_closed_cluster_a_members_listing_stands_in_for_the_hub(hub, autojump_clock):
    async with cluster(hub, "a", "b", closed=True) as [a, b]:
        await a.fetch()
        hub.down = True
        await b.fetch()
        assert b.bytes_of(BLOB) == WEIGHTS


async def test_in_an_open_cluster_nobody_believes_a_peers_listing(hub, autojump_clock):
    async with cluster(hub, "a", "b") as [a, b]:
        await a.fetch()
        hub.down = True
        with pytest.raises(UnavailableError):
            await b.fetch()


async def test_what_nobody_can_give_is_an_error_within_five_seconds(hub, autojump_clock):
    async with cluster(hub, "a", "b") as [a, _]:
        await a.delivery.snapshot(REPO, "main", Access())
        hub.down = True
        began = trio.current_time()
        with pytest.raises(UnavailableError):
            await a.read("model.safetensors")
        with pytest.raises(UnavailableError):
            await a.delivery.entry(Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/unknown"), "main", "x", Access())
        assert trio.current_time() - began < 5


async def test_a_hub_that_sends_wrong_bytes_once_is_read_again(hub, autojump_clock):
    hub.corrupt[BLOB.id, 2] = 1
    async with cluster(hub, "a") as [a]:
        await a.fetch()
        assert a.bytes_of(BLOB) == WEIGHTS


async def test_a_hub_that_contradicts_itself_is_an_error_and_nothing_is_sealed(hub, autojump_clock):
    hub.corrupt[BLOB.id, 2] = 99
    async with cluster(hub, "a") as [a]:
        with pytest.raises(WrongBytesError):
            await a.fetch()
        assert a.bytes_of(BLOB) is None


async def test_a_mirrors_bytes_wait_for_the_whole_files_hash(hub, autojump_clock):
    hub.trusted = False
    hub.rate = 2e6
    async with cluster(hub, "a") as [a]:
        data, _ = await a.read("model.safetensors", 0, 100)
        assert data == WEIGHTS[:100]
        assert a.bytes_of(BLOB) == WEIGHTS, "complete and sealed before the first byte left"


@pytest.mark.parametrize(
    ("repo", "revision", "path", "error"),
    [
        ("org/unknown", "main", "config.json", RepoNotFoundError),
        ("org/model", "nonsense", "config.json", RevisionNotFoundError),
        ("org/model", "main", "nonsense", EntryNotFoundError),
    ],
)
async def test_what_does_not_exist_is_said_by_its_own_name(hub, autojump_clock, repo, revision, path, error):
    async with cluster(hub, "a") as [a]:
        with pytest.raises(error):
            await a.read(path, repo=Repo(Hub.HUGGINGFACE, RepoKind.MODEL, repo), revision=revision)
        with pytest.raises(error):
            await a.fetch(Repo(Hub.HUGGINGFACE, RepoKind.MODEL, repo), revision, selection=Selection(paths=(path,)))


PRIVATE = Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/private")


async def test_a_private_file_is_given_only_to_those_whom_the_hub_lets_in(hub, autojump_clock):
    secret = noise(2, 1000)
    hub.publish({"w.bin": secret}, repo=PRIVATE, tokens={"good"})
    async with cluster(hub, "a", "b") as [a, b]:
        assert (await a.read("w.bin", repo=PRIVATE, access=Access("good")))[0] == secret
        for access in (Access(), Access("bad")):
            with pytest.raises((RepoNotFoundError, NotAuthorisedError)):
                await a.read("w.bin", repo=PRIVATE, access=access)
        assert a.store.inventory_since(0) in ([], None) or all(e.blob != blob_of(secret).id for e in a.store.inventory_since(0))
        assert await a.delivery.seeding.seed("b", blob_of(secret), 0) is None
        with pytest.raises((RepoNotFoundError, NotAuthorisedError)):
            await b.read("w.bin", repo=PRIVATE, access=Access("bad"))
        await b.read("w.bin", repo=PRIVATE, access=Access("good"))
    assert hub.sent[blob_of(secret).id] == 2 * len(secret), "each from the hub: private blobs do not travel between peers"


async def test_a_listing_that_all_may_see_does_not_open_the_files(hub, autojump_clock):
    """A gated repo: the hub lists it for everybody and gives it to some."""
    hub.publish({"w.bin": b"secret"}, repo=PRIVATE, tokens={"good"})
    hub.listed.add(PRIVATE)
    async with cluster(hub, "a") as [a]:
        assert not (await a.delivery.snapshot(PRIVATE, "main", Access())).public
        with pytest.raises(NotAuthorisedError):
            await a.delivery.entry(PRIVATE, "main", "w.bin", Access())
        assert await a.delivery.entry(PRIVATE, "main", "w.bin", Access("good"))


async def test_a_revoked_token_stops_working_when_its_verdict_runs_out(hub, autojump_clock):
    hub.publish({"w.bin": b"secret"}, repo=PRIVATE, tokens={"good"})
    async with cluster(hub, "a") as [a]:
        await a.read("w.bin", repo=PRIVATE, access=Access("good"))
        hub.tokens[PRIVATE].clear()
        await a.read("w.bin", repo=PRIVATE, access=Access("good"))
        await trio.sleep(601)
        with pytest.raises((RepoNotFoundError, NotAuthorisedError)):
            await a.read("w.bin", repo=PRIVATE, access=Access("good"))


def test_a_snapshot_is_fetched_in_the_order_in_which_a_loader_needs_it():
    sizes = {"model-00002-of-00002.safetensors": 30 << 20, "model-00001-of-00002.safetensors": 40 << 20, "config.json": 600}
    sizes |= {"tokenizer.json": 2 << 20, "model.safetensors.index.json": 24_000}
    files = tuple(FileEntry(path, size, None) for path, size in sizes.items())
    snapshot = Snapshot(REPO, "0" * 40, files, b"[]", public=True)
    assert [entry.path for entry in select(snapshot, Selection())] == [
        "config.json",
        "model.safetensors.index.json",
        "tokenizer.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]


async def test_many_clients_of_one_file_cause_one_download_and_few_questions(hub, autojump_clock):
    async with cluster(hub, "a") as [a], trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(a.read, "model.safetensors")
    assert hub.sent[BLOB.id] == BLOB.size
    assert hub.asked["snapshot"] == 1


async def test_a_pinned_commit_needs_no_hub_at_all(hub, autojump_clock):
    async with cluster(hub, "a") as [a]:
        report = await a.fetch()
        hub.down = True
        asked = sum(hub.asked.values())
        assert (await a.fetch(revision=report.commit)).here == sum(map(len, FILES.values()))
        assert sum(hub.asked.values()) == asked


async def test_a_damaged_chunk_on_disk_is_never_served_and_is_fetched_again(hub, autojump_clock):
    async with cluster(hub, "a") as [a]:
        await a.fetch()
        a.store.damage(BLOB.id, 1)
        try:
            data, _ = await a.read("model.safetensors")
        except Exception as error:  # noqa: BLE001  # any refusal will do: no wrong byte
            assert "changed on disk" in str(error)  # noqa: PT017
            data, _ = await a.read("model.safetensors")
        assert data == WEIGHTS


async def test_a_file_that_a_client_has_read_to_its_end_is_sealed_though_the_client_leaves_at_once(hub, autojump_clock):
    async with cluster(hub, "a", "b") as [a, b]:
        await a.read("model.safetensors")
        await b.read("model.safetensors")
        assert a.bytes_of(BLOB) == WEIGHTS
    assert hub.sent[BLOB.id] == BLOB.size


async def test_what_a_client_gave_up_half_way_is_still_given_to_peers(hub, autojump_clock):
    hub.rate = CHUNK_BYTES
    async with cluster(hub, "a", "b") as [a, b]:
        with trio.move_on_after(3.5):
            await a.fetch()
        left_here = len(a.store.open(BLOB, private=False).held)
        assert left_here
        assert (await b.fetch()).peers >= left_here * CHUNK_BYTES


async def test_a_chunk_that_its_only_holder_has_lost_comes_from_the_hub(hub, autojump_clock):
    async with cluster(hub, "a", "b") as [a, b]:
        await a.fetch()
        a.store.damage(BLOB.id, 1)
        with trio.fail_after(30):
            await b.fetch()
        assert b.bytes_of(BLOB) == WEIGHTS
    assert hub.sent[BLOB.id] == BLOB.size + CHUNK_BYTES
