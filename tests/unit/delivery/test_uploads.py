"""What is uploaded through a node: kept when it is what its name says, and public when the hub says so."""

import pytest
import trio
from fakes.hub import NOBODY, REPO, MemoryHub, blob_of
from fakes.node import cluster
from noise import noise

from p2pmodel.content import Access, Blob
from p2pmodel.limits import CHUNK_BYTES, DISCLOSURE_BYTES, UPLOADS_MAX

WEIGHTS = noise(1, 2 * CHUNK_BYTES + 777)
BLOB = blob_of(WEIGHTS)


async def upload(node, data, *, start=0, blob=None, accepted=True, piece=100_000):
    async with node.delivery.part(blob or blob_of(data), start) as part:
        for at in range(0, len(data), piece):
            await part.put(data[at : at + piece])
        if accepted:
            part.accept()
    await trio.sleep(1)


async def test_an_upload_is_held_as_private_once_all_of_it_was_taken(autojump_clock):
    async with cluster(MemoryHub(), "a") as [a]:
        await upload(a, WEIGHTS)
        assert a.bytes_of(BLOB) == WEIGHTS
        assert a.store.find(BLOB.id).private


async def test_parts_may_come_in_any_order_and_twice(autojump_clock):
    half = CHUNK_BYTES + 5
    async with cluster(MemoryHub(), "a") as [a]:
        await upload(a, WEIGHTS[half:], start=half, blob=BLOB)
        assert a.store.find(BLOB.id) is None
        await upload(a, WEIGHTS[:half], blob=BLOB, accepted=False)
        await upload(a, WEIGHTS[:half], blob=BLOB)
        assert a.bytes_of(BLOB) == WEIGHTS


async def test_parts_that_come_side_by_side_make_one_file(autojump_clock):
    async with cluster(MemoryHub(), "a") as [a]:
        async with trio.open_nursery() as nursery:
            for start in range(0, len(WEIGHTS), 1_000_000):

                async def send(start=start):
                    await upload(a, WEIGHTS[start : start + 1_000_000], start=start, blob=BLOB)

                nursery.start_soon(send)
        assert a.bytes_of(BLOB) == WEIGHTS


@pytest.mark.parametrize(
    "lie", [WEIGHTS[:-1] + b"x", WEIGHTS + b"more"], ids=["a byte that is wrong", "more bytes than the name has"]
)
async def test_what_is_not_what_its_name_says_is_not_kept(autojump_clock, lie):
    async with cluster(MemoryHub(), "a") as [a]:
        await upload(a, lie, blob=BLOB)
        assert a.store.find(BLOB.id) is None
        await upload(a, WEIGHTS)
        assert a.bytes_of(BLOB) == WEIGHTS


async def test_what_the_hub_did_not_take_is_not_kept(autojump_clock):
    async with cluster(MemoryHub(), "a") as [a]:
        await upload(a, WEIGHTS, accepted=False)
        assert a.store.find(BLOB.id) is None


async def test_after_a_public_commit_a_neighbour_gets_it_from_here_alone(autojump_clock):
    hub = MemoryHub()
    async with cluster(hub, "a", "b") as [a, b]:
        await upload(a, WEIGHTS)
        commit = hub.publish({"w.bin": WEIGHTS}).commit
        a.delivery.committed(REPO, commit, NOBODY, [])
        await trio.sleep(1)
        assert not a.store.find(BLOB.id).private
        assert (await b.read("w.bin"))[0] == WEIGHTS
        assert hub.bytes_sent == DISCLOSURE_BYTES


async def test_who_asks_at_once_waits_for_the_hash_and_not_for_the_hub(autojump_clock):
    hub = MemoryHub()
    hub.publish({"w.bin": WEIGHTS})
    async with cluster(hub, "a") as [a]:
        async with a.delivery.part(BLOB, 0) as part:
            await part.put(WEIGHTS)
            part.accept()
        assert a.store.find(BLOB.id) is None
        assert (await a.read("w.bin")) == (WEIGHTS, "store")
        assert (await a.fetch()).upstream == 0
        assert hub.bytes_sent == DISCLOSURE_BYTES


async def test_after_a_private_commit_it_stays_private(autojump_clock):
    hub = MemoryHub()
    async with cluster(hub, "a") as [a]:
        await upload(a, WEIGHTS)
        commit = hub.publish({"w.bin": WEIGHTS}, tokens=["hf_alice"]).commit
        a.delivery.committed(REPO, commit, Access("hf_alice"), [])
        await trio.sleep(1)
        assert a.store.find(BLOB.id).private


async def test_a_commit_that_the_hub_does_not_show_changes_nothing(autojump_clock):
    async with cluster(MemoryHub(), "a") as [a]:
        await upload(a, WEIGHTS)
        a.delivery.committed(REPO, "0" * 40, NOBODY, [])
        await trio.sleep(1)
        assert a.store.find(BLOB.id).private


async def test_small_files_of_a_commit_are_kept_under_both_names(autojump_clock):
    async with cluster(MemoryHub(), "a") as [a]:
        a.delivery.committed(REPO, "0" * 40, NOBODY, [b"{}", b""])
        await trio.sleep(1)
        assert a.bytes_of(blob_of(b"{}")) == b"{}"
        assert a.store.find(blob_of(b"").id).sealed


async def test_after_a_change_a_branch_is_asked_for_anew(autojump_clock):
    hub = MemoryHub()
    hub.publish({"a": b"1"})
    async with cluster(hub, "a") as [a]:
        assert (await a.read("a"))[0] == b"1"
        hub.publish({"a": b"2"})
        assert (await a.read("a"))[0] == b"1"  # its commit is remembered for seconds
        a.delivery.changed(REPO)
        assert (await a.read("a"))[0] == b"2"


async def test_so_many_unfinished_uploads_are_waited_for_and_the_oldest_makes_way(autojump_clock):
    async with cluster(MemoryHub(), "a") as [a]:
        await upload(a, WEIGHTS[:-1], blob=BLOB)
        for number in range(UPLOADS_MAX):
            name = blob_of(b"%d" % number).id
            await upload(a, b"x", blob=Blob(name, 2))
        await upload(a, WEIGHTS[-1:], start=len(WEIGHTS) - 1, blob=BLOB)
        assert a.store.find(BLOB.id) is None
