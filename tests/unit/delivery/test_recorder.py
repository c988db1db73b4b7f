"""The flight recorder: never in the way, and what it tells afterwards."""

import pytest
import trio
import trio.testing
from fakes.hub import REPO, MemoryHub, blob_of
from fakes.neighbours import Lan
from fakes.node import Node, inline
from noise import noise

from p2pmodel.content import Access, BlobId, Hub, Repo, RepoKind
from p2pmodel.delivery.recorder import FlightRecord, Recorder
from p2pmodel.delivery.why import runs_of, tally, tell_file, tell_totals
from p2pmodel.errors import StoreFullError, UnavailableError
from p2pmodel.limits import CHUNK_BYTES, FLIGHTS_WAITING_MAX
from p2pmodel.swarm import HubReason

WEIGHTS = noise(0, 3 * CHUNK_BYTES)
BLOB = blob_of(WEIGHTS)
NOW = 1_800_000_000.0


class Lines:
    """A log in memory."""

    def __init__(self):
        self.kept = []
        self.full = False

    def append(self, lines):
        if self.full:
            raise StoreFullError("No room.")
        self.kept += lines

    def lines(self):
        return self.kept


@pytest.fixture
def log():
    return Lines()


@pytest.fixture
def recorder(log):
    return Recorder(log, blocking=inline, clock=lambda: NOW)


def flight(first=0, count=1, **fields):
    given = {"came": count, "source": "hub", "place": "huggingface", "bytes": count * 1000, "seconds": 2.0} | fields
    return FlightRecord(blob=str(BLOB.id), first=first, count=count, **given)


async def test_what_was_recorded_is_told_with_the_time_at_which_it_began(recorder):
    recorder.record(flight())
    [told] = await recorder.flights([BLOB.id])
    assert (told.at, told.bytes) == (NOW - 2.0, 1000)
    assert await recorder.flights([BlobId("sha256", "0" * 64)]) == []


async def test_records_reach_the_disk_in_batches(recorder, log, autojump_clock, nursery):
    nursery.start_soon(recorder.run)
    for first in range(5):
        recorder.record(flight(first))
    await trio.testing.wait_all_tasks_blocked()
    assert log.kept == []
    await trio.sleep(2)
    assert len(log.kept) == 5


async def test_what_waits_at_the_end_is_written_even_when_all_is_cancelled(recorder, log):
    with trio.CancelScope() as scope:
        async with recorder:
            recorder.record(flight())
            scope.cancel()
            await trio.sleep_forever()
    assert len(log.kept) == 1


async def test_a_torn_line_and_one_of_another_version_are_passed_over(recorder, log):
    recorder.record(flight())
    await recorder.flights([])
    log.kept += [log.kept[0][:-9], b'{"blob": 7}', b"\xff", log.kept[0]]
    assert len(await recorder.flights([BLOB.id])) == 2


async def test_a_full_disk_fails_nothing_but_the_record(recorder, log):
    log.full = True
    recorder.record(flight())
    assert await recorder.flights([BLOB.id]) == []
    assert recorder.lost == 1


async def test_a_disk_that_does_not_keep_up_costs_records_and_no_memory(recorder):
    for _ in range(FLIGHTS_WAITING_MAX + 7):
        recorder.record(flight())
    assert recorder.lost == 7


async def test_private_flights_are_not_told(recorder):
    recorder.record(flight(private=True))
    assert await recorder.flights([BLOB.id]) == []


# What a summary makes of them


def test_orders_side_by_side_of_one_source_and_reason_are_one_run():
    runs = runs_of([flight(4, 4), flight(0, 4), flight(8, 2, source="p" * 40, place="10.0.0.2:7277"), flight(10, 1)])
    assert [(run.first, run.stop, run.source) for run in runs] == [(0, 8, "hub"), (8, 10, "p" * 40), (10, 11, "hub")]
    assert (runs[0].bytes, runs[0].seconds) == (8000, 4.0)


def test_another_reason_is_another_run():
    runs = runs_of([flight(0, reason=HubReason.MY_TURN), flight(1, reason=HubReason.STALLED)])
    assert [run.reason for run in runs] == ["my_turn", "stalled"]


def test_of_an_order_that_broke_what_came_is_a_run_and_the_rest_a_failure():
    told = tell_file([flight(0, 8, came=3, outcome="ShortAnswerError", at=5.0)])
    assert [(run["first"], run["last"]) for run in told["runs"]] == [(0, 2)]
    assert told["failures"] == [
        {"kind": "hub", "source": "huggingface", "address": "", "outcome": "ShortAnswerError", "orders": 1, "last": 5.0}
    ]
    assert told["recorded"] == 3


def test_a_chunk_that_came_twice_counts_once_as_known():
    assert tell_file([flight(0, 2), flight(1, 2)])["recorded"] == 3


def test_totals_are_by_source_most_first_and_by_reason_for_hubs():
    peer = {"source": "p" * 40, "place": "10.0.0.2:7277"}
    told = tell_totals(
        [flight(0, 1, reason="my_turn"), flight(1, 4, **peer), flight(5, 1, came=0, bytes=0, outcome="X", **peer)]
    )
    assert [(each["kind"], each["bytes"], each["orders"], each["failed"]) for each in told["sources"]] == [
        ("peer", 4000, 2, 1),
        ("hub", 1000, 1, 0),
    ]
    assert told["sources"][0]["rate"] == 1000.0
    assert told["reasons"] == [{"reason": "my_turn", "orders": 1, "bytes": 1000}]
    assert tally([]) == {}


# In delivery


def recording(name, lan, hub):
    node = Node(name, lan, hub, recorder=Recorder(Lines(), blocking=inline, clock=lambda: NOW))
    return node, node.around.recorder


async def test_a_fetch_leaves_a_record_of_every_chunk_and_why_the_hub_was_asked(autojump_clock, nursery):
    hub = MemoryHub()
    hub.publish({"w.bin": WEIGHTS})
    lan = Lan()
    a, first = recording("a", lan, hub)
    b, second = recording("b", lan, hub)
    async with a.running(nursery):
        await a.fetch()
        async with b.running(nursery):
            await b.fetch()
    of_a, of_b = await first.flights([BLOB.id]), await second.flights([BLOB.id])
    assert tell_file(of_a)["recorded"] == tell_file(of_b)["recorded"] == 3
    assert {(each.source, each.place, each.reason) for each in of_a} == {("hub", "memory", HubReason.NO_PEERS)}
    assert {(each.source, each.place, each.reason) for each in of_b} == {("a", "a.lan", "")}
    assert sum(each.bytes for each in of_b) == len(WEIGHTS)


async def test_an_order_that_fails_is_recorded_by_the_name_of_its_error(autojump_clock, nursery):
    hub = MemoryHub(breaks_every=7)
    hub.publish({"w.bin": WEIGHTS})
    node, recorder = recording("a", Lan(), hub)
    async with node.running(nursery):
        with pytest.raises(UnavailableError):
            await node.fetch()
    assert "ShortAnswerError" in {each.outcome for each in await recorder.flights([BLOB.id])}


async def test_private_downloads_are_recorded_and_not_told(autojump_clock, nursery):
    hub = MemoryHub()
    hub.publish({"w.bin": WEIGHTS}, repo=Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/private"), tokens={"good"})
    node, recorder = recording("a", Lan(), hub)
    async with node.running(nursery):
        await node.fetch(repo=Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/private"), access=Access("good"))
    assert await recorder.flights([BLOB.id]) == []
    assert b'"private"' in recorder._log.kept[0]


async def test_status_tells_the_live_swarm_of_a_download(autojump_clock, nursery):
    hub = MemoryHub(rate=4e6)
    hub.publish({"w.bin": WEIGHTS})
    lan = Lan(rate=4e6)
    a, _ = recording("a", lan, hub)
    b, _ = recording("b", lan, hub)
    async with a.running(nursery), b.running(nursery), trio.open_nursery() as fetches:
        fetches.start_soon(a.fetch)
        fetches.start_soon(b.fetch)
        await trio.sleep(2.5)
        [told] = a.delivery.status()["downloads"]
        assert told["files"] == [{"hub": "huggingface", "type": "model", "repo": REPO.name, "path": "w.bin"}]
        assert told["rate"] > 0
        assert told["eta_s"] > 0
        assert told["cluster"]["nodes"] == 2
        assert {source["kind"] for source in told["sources"]} <= {"hub", "peer"}
        assert sum(source["orders"] for source in told["sources"]) == told["orders"] > 0
