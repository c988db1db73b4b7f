"""What is uploaded by Xet through a node: put together from its xorbs, kept if it is what its name says."""

import hashlib

import pytest
import trio
from fakes.hub import NOBODY, REPO, MemoryHub, blob_of
from fakes.neighbours import Lan
from fakes.node import Node, cluster
from fakes.xet import GROUPED, LZ4, PLAIN, cut, frame, shard, xorb
from noise import noise

from p2pmodel.content.xet import xet_bytes
from p2pmodel.delivery import assembling, xorbs
from p2pmodel.limits import CHUNK_BYTES, DISCLOSURE_BYTES, UPLOAD_IDLE_S, XET_SPENT_S, XET_XORB_BYTES_MAX

WEIGHTS = noise(1, CHUNK_BYTES + 300_000) + b"packs well " * 50_000 + bytes(CHUNK_BYTES // 2)
BLOB = blob_of(WEIGHTS)
CHUNKS = cut(WEIGHTS)
HALF = len(CHUNKS) // 2


def name(number):
    return hashlib.sha256(b"%d" % number).hexdigest()


async def send(node, number, data, *, session="s", size=None, accepted=True, piece=100_000):
    async with node.delivery.xorb(session, name(number), len(data) if size is None else size) as part:
        for at in range(0, len(data), piece):
            await part.put(data[at : at + piece])
        if accepted:
            part.accept()


async def tell(node, *files, session="s", accepted=True, data=None):
    async with node.delivery.shard(session) as part:
        await part.put(data or shard(*files))
        if accepted:
            part.accept()


def run(number, chunks, first=0, stop=None):
    """A term."""
    stop = len(chunks) if stop is None else stop
    return name(number), sum(len(chunk) for chunk in chunks[first:stop]), first, stop


WHOLE = (BLOB.id.hex, [run(1, CHUNKS[:HALF]), run(2, CHUNKS[HALF:])])


async def upload(node, scheme=PLAIN):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, node, 2, xorb(CHUNKS[HALF:], scheme))
        nursery.start_soon(send, node, 1, xorb(CHUNKS[:HALF], scheme))
    await tell(node, WHOLE)


@pytest.mark.parametrize("scheme", [PLAIN, LZ4, GROUPED])
async def test_a_file_is_put_together_from_its_xorbs_and_held_as_private(autojump_clock, scheme):
    async with cluster(MemoryHub(), "a") as [a]:
        await upload(a, scheme)
        await trio.sleep(1)
        assert a.bytes_of(BLOB) == WEIGHTS
        assert a.store.find(BLOB.id).private


async def test_files_may_share_xorbs_repeat_chunks_and_come_in_a_later_shard(autojump_clock):
    mixed = b"".join(CHUNKS[2:4] + CHUNKS[2:4] + CHUNKS[HALF:] + CHUNKS[:1])
    terms = [run(1, CHUNKS, 2, 4), run(1, CHUNKS, 2, 4), run(2, CHUNKS[HALF:]), run(1, CHUNKS, 0, 1)]
    async with cluster(MemoryHub(), "a") as [a]:
        await upload(a)
        await trio.sleep(XET_SPENT_S / 2)
        await tell(a, (blob_of(mixed).id.hex, terms), (blob_of(b"").id.hex, []), session="another")
        await trio.sleep(1)
        assert a.bytes_of(blob_of(mixed)) == mixed
        assert a.store.find(blob_of(b"").id).sealed


async def test_who_asks_at_once_waits_for_the_hash_and_not_for_the_hub(autojump_clock):
    hub = MemoryHub()
    hub.publish({"w.bin": WEIGHTS})
    async with cluster(hub, "a") as [a]:
        await upload(a)
        assert a.store.find(BLOB.id) is None
        assert (await a.read("w.bin")) == (WEIGHTS, "store")
        assert hub.bytes_sent == DISCLOSURE_BYTES


async def test_after_a_public_commit_at_once_a_neighbour_gets_it_from_here_alone(autojump_clock):
    hub = MemoryHub()
    async with cluster(hub, "a", "b") as [a, b]:
        await upload(a)
        commit = hub.publish({"w.bin": WEIGHTS}).commit
        a.delivery.committed(REPO, commit, NOBODY, [])
        await trio.sleep(1)
        assert not a.store.find(BLOB.id).private
        assert (await b.read("w.bin"))[0] == WEIGHTS
        assert hub.bytes_sent == DISCLOSURE_BYTES


async def test_a_file_of_which_the_hub_had_a_part_is_left_out_and_the_others_are_kept(autojump_clock):
    other = b"".join(CHUNKS[:3])
    async with cluster(MemoryHub(), "a") as [a]:
        await send(a, 1, xorb(CHUNKS[:HALF]))
        await tell(a, WHOLE, (blob_of(other).id.hex, [run(1, CHUNKS, 0, 3)]))
        await trio.sleep(1)
        assert a.store.find(BLOB.id) is None
        assert a.bytes_of(blob_of(other)) == other


NEWER = b"".join([*CHUNKS[:5], b"new" * 9000, *CHUNKS[7:]])
NEWER_TERMS = [run(1, CHUNKS[:HALF], 0, 5), (name(9), 27_000, 0, 1), run(1, CHUNKS[:HALF], 7), run(2, CHUNKS[HALF:])]


async def send_newer(node):
    await send(node, 9, xorb([b"new" * 9000]), session="later")
    await tell(node, (blob_of(NEWER).id.hex, NEWER_TERMS), session="later")
    await trio.sleep(1)


async def test_what_is_not_sent_again_is_taken_from_the_file_that_brought_it(autojump_clock):
    async with cluster(MemoryHub(), "a") as [a]:
        await upload(a)
        await trio.sleep(3 * XET_SPENT_S)
        assert not a.delivery._xorbs._sessions
        await send_newer(a)
        assert a.bytes_of(blob_of(NEWER)) == NEWER
        assert a.bytes_of(BLOB) == WEIGHTS
        assert a.store.find(BLOB.id).private


async def test_a_file_that_is_gone_gives_nothing(autojump_clock):
    async with cluster(MemoryHub(), "a") as [a]:
        await upload(a)
        await trio.sleep(3 * XET_SPENT_S)
        a.store._remove(a.store._files[BLOB.id])
        await send_newer(a)
        assert a.store.find(blob_of(NEWER).id) is None
        places = a.delivery._xorbs._stored._kept
        assert (places[xet_bytes(name(1))], len(places[xet_bytes(name(2))])) == ([], 1)  # nobody has asked for the second


async def test_after_a_restart_it_is_still_known_where_they_lie(autojump_clock):
    async with cluster(MemoryHub(), "a") as [a]:
        await upload(a)
        await trio.sleep(1)
    async with trio.open_nursery() as nursery:
        again = Node("a", Lan(), MemoryHub(), store=a.store)
        async with again.running(nursery):
            await send_newer(again)
            assert again.bytes_of(blob_of(NEWER)) == NEWER


@pytest.mark.parametrize(
    "document",
    [
        b"no json",
        b"[" * 9999,
        b"[{}]",
        b'[{"sha256": "x", "size": 1, "start": 0, "first": 0, "offsets": ""}]',
        b'[{"sha256": "%s", "size": 1, "start": -1, "first": 0, "offsets": "AAAAAAEAAAA="}]' % (b"ab" * 32),
        b'[{"sha256": "%s", "size": 1, "start": 0, "first": 0, "offsets": "AAA="}]' % (b"ab" * 32),
        b'[{"sha256": "%s", "size": 1, "start": 0, "first": 0, "offsets": "AQAAAAAAAAA="}]' % (b"ab" * 32),
        b'[{"sha256": "%s", "size": 1, "start": 0, "first": 0, "offsets": ""}]' % (b"ab" * 32),
    ],
)
async def test_what_another_version_kept_is_passed_over(autojump_clock, document):
    async with cluster(MemoryHub(), "a") as [a]:
        a.store.put_document(f"xet-xorb {xet_bytes(name(1)).hex()}", document)
        await send_newer(a)
        assert a.store.find(blob_of(NEWER).id) is None


async def test_a_file_that_was_damaged_since_spoils_no_other(autojump_clock):
    async with cluster(MemoryHub(), "a") as [a]:
        await upload(a)
        await trio.sleep(3 * XET_SPENT_S)
        a.store.damage(BLOB.id, 0)
        await send_newer(a)
        assert a.store.find(blob_of(NEWER).id) is None


async def test_only_so_much_is_remembered_of_what_came(autojump_clock, monkeypatch):
    monkeypatch.setattr(assembling, "XET_CHUNKS_KEPT_MAX", 250)
    async with cluster(MemoryHub(), "a") as [a]:
        for number in range(4):
            data = CHUNKS[number : number + 2]
            await send(a, number, xorb(data))
            await tell(a, (blob_of(b"".join(data)).id.hex, [run(number, data)]))
            await trio.sleep(1)
        stored = a.delivery._xorbs._stored
        assert list(stored._kept) == [xet_bytes(name(number)) for number in (1, 2, 3)]
        assert stored._chunks <= 250


async def test_of_a_xorb_so_many_places_are_remembered(autojump_clock, monkeypatch):
    monkeypatch.setattr(assembling, "XET_PLACES_MAX", 2)
    async with cluster(MemoryHub(), "a") as [a]:
        await send(a, 1, xorb(CHUNKS[:5]))
        await tell(a, *[(blob_of(CHUNKS[n]).id.hex, [run(1, CHUNKS[:5], n, n + 1)]) for n in range(5)])
        await trio.sleep(1)
        assert len(a.delivery._xorbs._stored._kept[xet_bytes(name(1))]) == 2


@pytest.mark.parametrize("refused", ["xorb", "shard"])
async def test_what_the_hub_did_not_take_is_not_kept(autojump_clock, refused):
    async with cluster(MemoryHub(), "a") as [a]:
        await send(a, 1, xorb(CHUNKS), accepted=refused != "xorb")
        await tell(a, (BLOB.id.hex, [run(1, CHUNKS)]), accepted=refused != "shard")
        await trio.sleep(1)
        assert a.store.find(BLOB.id) is None


async def test_a_xorb_that_comes_again_lies_where_it_lay(autojump_clock):
    async with cluster(MemoryHub(), "a") as [a]:
        for accepted in (False, False, True):
            await send(a, 1, xorb(CHUNKS), accepted=accepted)
        [session] = a.delivery._xorbs._sessions.values()
        assert session.size == len(xorb(CHUNKS))
        await tell(a, (BLOB.id.hex, [run(1, CHUNKS)]))
        await trio.sleep(1)
        assert a.bytes_of(BLOB) == WEIGHTS


async def test_a_stream_that_breaks_off_leaves_nothing(autojump_clock):
    async with cluster(MemoryHub(), "a") as [a]:
        with trio.CancelScope() as scope:
            async with a.delivery.xorb("s", name(1), 100) as part:
                await part.put(b"\0")
                scope.cancel()
                await trio.sleep_forever()
        await send(a, 1, xorb(CHUNKS))
        await tell(a, (BLOB.id.hex, [run(1, CHUNKS)]))
        await trio.sleep(1)
        assert a.bytes_of(BLOB) == WEIGHTS


BAD = xorb(CHUNKS[:3]) + frame(b"not LZ4", LZ4, 500)


@pytest.mark.parametrize(
    ("sent", "size", "terms"),
    [
        (xorb([*CHUNKS[:-1], b"x" * len(CHUNKS[-1])]), None, [run(1, CHUNKS)]),
        (xorb(CHUNKS) + b"more", len(xorb(CHUNKS)), [run(1, CHUNKS)]),
        (xorb(CHUNKS), len(xorb(CHUNKS)) + 5, [run(1, CHUNKS)]),
        (xorb(CHUNKS)[:-5], None, [run(1, CHUNKS)]),
        (xorb(CHUNKS), XET_XORB_BYTES_MAX + 1, [run(1, CHUNKS)]),
        (b"\0\xff\xff\xff\0\xff\xff\xff" + xorb(CHUNKS), None, [run(1, CHUNKS)]),
        (BAD, None, [(name(1), sum(map(len, CHUNKS[:3])) + 500, 0, 4)]),
        (xorb(CHUNKS), None, [(name(1), BLOB.size, 0, len(CHUNKS) + 1)]),
        (xorb(CHUNKS), None, [(name(1), BLOB.size - 1, 0, len(CHUNKS))]),
        (xorb(CHUNKS), None, [(name(1), BLOB.size, 5, 2)]),
        (xorb(CHUNKS), None, [(name(1), 0xFFFFFFFF, 0, 0xFFFFFFFF)] * 300),
        (xorb(CHUNKS), None, []),
    ],
    ids=[
        "other bytes",
        "longer than its head said",
        "shorter than its head said",
        "cut within a chunk",
        "too long a xorb",
        "too long a chunk",
        "no LZ4",
        "more chunks than there are",
        "another length",
        "backwards",
        "a terabyte",
        "a file of nothing",
    ],
)
async def test_what_is_not_what_its_name_says_is_not_kept_and_disturbs_nobody(autojump_clock, sent, size, terms):
    async with cluster(MemoryHub(), "a") as [a]:
        await send(a, 1, sent, size=size)
        await tell(a, (BLOB.id.hex, terms))
        await trio.sleep(1)
        assert a.store.find(BLOB.id) is None
        await upload(a)
        await trio.sleep(1)
        assert a.bytes_of(BLOB) == WEIGHTS


@pytest.mark.parametrize("data", [b"", b"no shard at all" * 10, shard(WHOLE)[:-48], shard(WHOLE)[:100]])
async def test_what_is_no_shard_is_left_to_the_hub(autojump_clock, data):
    async with cluster(MemoryHub(), "a") as [a]:
        await send(a, 1, xorb(CHUNKS[:HALF]))
        await send(a, 2, xorb(CHUNKS[HALF:]))
        async with a.delivery.shard("s") as part:
            await part.put(data)
            part.accept()
        await trio.sleep(1)
        assert a.store.find(BLOB.id) is None


async def test_files_of_many_times_what_came_are_not_hashed(autojump_clock, monkeypatch):
    chunk = bytes(131_072)
    many = chunk * 40
    async with cluster(MemoryHub(), "a") as [a]:
        monkeypatch.setattr(xorbs, "XET_EXPANSION_MAX", 40)
        await send(a, 1, xorb([chunk]))
        more = many + chunk
        await tell(a, (blob_of(more).id.hex, [(name(1), len(chunk), 0, 1)] * 41))
        await trio.sleep(1)
        assert a.store.find(blob_of(more).id) is None
        await tell(a, (blob_of(many).id.hex, [(name(1), len(chunk), 0, 1)] * 40))
        await trio.sleep(1)
        assert a.bytes_of(blob_of(many)) == many


async def test_a_full_disk_costs_the_copy_and_nothing_else(autojump_clock):
    async with cluster(MemoryHub(), "a") as [a]:
        a.store.full = True
        await upload(a)
        await trio.sleep(1)
        a.store.full = False
        assert a.store.find(BLOB.id) is None
        await upload(a)
        await trio.sleep(1)
        assert a.bytes_of(BLOB) == WEIGHTS


async def test_xorbs_are_kept_for_a_while_and_for_a_short_one_once_they_were_of_use(autojump_clock):
    async with cluster(MemoryHub(), "a") as [a]:
        await upload(a)
        await send(a, 3, xorb(CHUNKS), session="other")
        await trio.sleep(2 * XET_SPENT_S)
        assert list(a.delivery._xorbs._sessions) == ["other"]
        await trio.sleep(UPLOAD_IDLE_S)
        assert not a.delivery._xorbs._sessions


async def test_so_many_sessions_are_waited_for_and_the_oldest_makes_way(autojump_clock, monkeypatch):
    monkeypatch.setattr(xorbs, "XET_SESSIONS_MAX", 2)
    async with cluster(MemoryHub(), "a") as [a]:
        for session in ("one", "two", "three"):
            await send(a, 1, xorb(CHUNKS[:1]), session=session)
        assert list(a.delivery._xorbs._sessions) == ["two", "three"]
        async with a.delivery.xorb("two", name(2), 9), a.delivery.xorb("three", name(3), 9):
            await send(a, 4, xorb(CHUNKS[:1]), session="four")
        assert list(a.delivery._xorbs._sessions) == ["two", "three"]


async def test_only_so_many_chunks_are_remembered(autojump_clock, monkeypatch):
    monkeypatch.setattr(xorbs, "XET_CHUNKS_KEPT_MAX", 100)
    async with cluster(MemoryHub(), "a") as [a]:
        for number in range(4):
            await send(a, number, xorb(CHUNKS[:2]))
        [session] = a.delivery._xorbs._sessions.values()
        assert len(session.xorbs) == 2


async def test_what_came_in_the_lfs_way_as_well_is_taken_in_once(autojump_clock):
    async with cluster(MemoryHub(), "a") as [a]:
        async with a.delivery.part(BLOB, 0) as part:
            await part.put(WEIGHTS)
            part.accept()
            await upload(a)
        await trio.sleep(1)
        assert a.bytes_of(BLOB) == WEIGHTS
        assert not a.delivery._uploads._open
