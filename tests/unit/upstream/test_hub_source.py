"""Reading chunks from a hub, and everything a hub can do wrong while it gives them."""

from __future__ import annotations

import pytest
import trio
from blake3 import blake3

from p2pmodel.content import Blob, BlobId, Grade, Hub
from p2pmodel.delivery.ports import Order
from p2pmodel.errors import (
    RateLimitedError,
    ShortAnswerError,
    SourceError,
    UnavailableError,
    WrongAnswerError,
    WrongBytesError,
)
from p2pmodel.limits import CHUNK_BYTES, HUB_READ_TIMEOUT_S, HUB_TRIES_MAX

pytestmark = pytest.mark.scorecard("S9")

HUBS = pytest.mark.parametrize("on", [Hub.HUGGINGFACE, Hub.MODELSCOPE])


def ranges(hub, host="cdn"):
    return [seen.range for seen in hub.log if seen.host == host]


@HUBS
async def test_a_run_of_chunks_is_one_ranged_request(on, hub, put, big, sink, router):
    file = put(big, hub=on)
    async with router() as opened:
        await opened.source([file.location]).fetch(file.order(1, 2), sink)
    assert sink.body == big[CHUNK_BYTES : 3 * CHUNK_BYTES]
    assert ranges(hub) == [f"bytes={CHUNK_BYTES}-{3 * CHUNK_BYTES - 1}"]
    assert hub.stats()["requests_total"] == 2  # the redirect is the other
    assert hub.stats()["file_bytes"] == 2 * CHUNK_BYTES
    assert sink.received == 2 * CHUNK_BYTES
    assert sink.digests[1] == blake3(big[CHUNK_BYTES : 2 * CHUNK_BYTES]).digest()
    assert sink.grades == {Grade.OWN}


@HUBS
async def test_the_last_chunk_is_as_long_as_the_file_has_bytes_left(on, hub, put, big, sink, router):
    file = put(big, hub=on)
    async with router() as opened:
        await opened.source([file.location]).fetch(file.order(3), sink)
    assert sink.body == big[3 * CHUNK_BYTES :]


@HUBS
async def test_a_small_file_comes_from_the_hub_itself(on, hub, put, sink, router):
    file = put(b'{"a": 1}', path="sub dir/con+fig&.json", hub=on)
    async with router() as opened:
        await opened.source([file.location]).fetch(file.order(), sink)
    assert sink.body == file.body


async def test_bytes_that_the_hub_calls_otherwise_are_not_its_word_for_the_blob_that_a_listing_says_they_are(
    hub, put, sink, router
):
    """Else a member whose listing leads to another file of that size has this node sign for false digests, and be banned."""
    file = put(b'{"a": 1}', path="small.json")
    claimed = Blob(BlobId("sha256", "ab" * 32), file.blob.size)
    async with router() as opened:
        await opened.source([file.location]).fetch(Order(claimed, 0, 1), sink)
        assert sink.grades == {Grade.MIRROR}
        sink.chunks.clear()
        await opened.source([file.location]).fetch(file.order(), sink)
    assert sink.grades == {Grade.MIRROR, Grade.OWN}


async def test_connections_are_used_again(internet, hub, put, big, sink, router):
    file = put(big)
    async with router() as opened:
        source = opened.source([file.location])
        for index in range(4):
            await source.fetch(file.order(index, 1), sink)
    assert sink.body == big
    assert len(internet.dialled) == 2  # one to the hub, one to its storage


@pytest.mark.parametrize("effect", ["truncate_at", "reset_at"])
async def test_a_broken_connection_goes_on_at_the_next_missing_chunk(autojump_clock, effect, hub, put, big, sink, router):
    file = put(big)
    hub.fault("blobs", host="cdn", times=1, **{effect: CHUNK_BYTES + 100})
    async with router() as opened:
        await opened.source([file.location]).fetch(file.order(), sink)
        assert opened.statistics.retries == 1
    assert sink.body == big
    assert ranges(hub)[1] == f"bytes={CHUNK_BYTES}-{len(big) - 1}"


async def test_a_stalled_hub_is_given_up_after_the_read_timeout(autojump_clock, hub, put, big, sink, router):
    file = put(big)
    hub.fault("blobs", host="cdn", times=1, stall_at=CHUNK_BYTES + 100)
    begun = trio.current_time()
    async with router() as opened:
        await opened.source([file.location]).fetch(file.order(), sink)
    assert sink.body == big
    assert HUB_READ_TIMEOUT_S <= trio.current_time() - begun < HUB_READ_TIMEOUT_S + 3


async def test_a_hub_that_always_breaks_off_is_tried_five_times(autojump_clock, hub, put, big, sink, router):
    file = put(big)
    hub.fault("blobs", host="cdn", truncate_at=1000)
    async with router() as opened:
        with pytest.raises(ShortAnswerError):
            await opened.source([file.location]).fetch(file.order(), sink)
    assert len(ranges(hub)) == HUB_TRIES_MAX
    assert sink.chunks == {}


async def test_tries_are_counted_anew_after_progress(autojump_clock, hub, put, big, sink, router):
    file = put(big)
    for _ in range(3):
        hub.fault("blobs", host="cdn", times=HUB_TRIES_MAX - 1, truncate_at=10)
        hub.fault("blobs", host="cdn", times=1, truncate_at=CHUNK_BYTES)
    async with router() as opened:
        await opened.source([file.location]).fetch(file.order(), sink)
    assert sink.body == big


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_server_errors_are_retried_with_growing_pauses(autojump_clock, status, hub, put, big, sink, router):
    file = put(big)
    hub.fault("resolve", status=status, times=3)
    begun = trio.current_time()
    async with router() as opened:
        await opened.source([file.location]).fetch(file.order(), sink)
    assert sink.body == big
    assert 1.75 < trio.current_time() - begun < 5.25  # 0.5 + 1 + 2 s, each by half more or less


@pytest.mark.parametrize("on_host", ["hub", "cdn"])
async def test_a_429_is_waited_out_and_told(autojump_clock, on_host, hub, put, big, sink, router):
    file = put(big)
    hub.fault("resolve|blobs", host=on_host, status=429, headers={"Retry-After": "20"}, times=1)
    busy = []
    begun = trio.current_time()
    async with router(on_busy=lambda host, seconds: busy.append((host, seconds))) as opened:
        await opened.source([file.location]).fetch(file.order(), sink)
    assert sink.body == big
    assert 20 <= trio.current_time() - begun < 21
    assert busy == [(f"{on_host}.example", 20)]


async def test_a_429_for_longer_than_a_minute_is_the_callers_decision(autojump_clock, hub, put, big, sink, router):
    file = put(big)
    hub.fault("resolve", status=429, headers={"Retry-After": "120"})
    async with router() as opened:
        with pytest.raises(RateLimitedError) as caught:
            await opened.source([file.location]).fetch(file.order(), sink)
        assert 119 < caught.value.retry_after_s <= 120
        with pytest.raises(RateLimitedError):
            await opened.source([file.location]).fetch(file.order(), sink)
        assert opened.rested_until(Hub.HUGGINGFACE) > trio.current_time() + 119
    assert hub.stats()["requests_total"] == 1


async def test_a_hub_that_says_429_for_ever_is_given_up(autojump_clock, hub, put, big, sink, router):
    file = put(big)
    hub.fault("resolve", status=429, headers={"Retry-After": "1"})
    async with router() as opened:
        with pytest.raises(RateLimitedError):
            await opened.source([file.location]).fetch(file.order(), sink)
    assert hub.stats()["requests_total"] == HUB_TRIES_MAX


@pytest.mark.parametrize(
    "effect",
    [
        {"content_range": "bytes 0-99/1000"},
        {"ignore_range": True},
        {"gzip": True},
        {"extra_bytes": 10},
        {"headers": {"Content-Range": "bytes 12582912-12595256/99999999"}},
        {"status": 416},
    ],
    ids=str,
)
async def test_an_answer_to_another_question_is_refused_before_its_body(effect, hub, put, big, sink, router):
    file = put(big)
    hub.fault("blobs", host="cdn", **effect)
    async with router() as opened:
        with pytest.raises(SourceError):
            await opened.source([file.location]).fetch(file.order(3), sink)
    assert sink.received == 0


async def test_a_body_without_end_is_read_as_far_as_was_asked(hub, put, big, sink, router):
    file = put(big)
    hub.fault("blobs", host="cdn", endless=True)
    async with router() as opened:
        await opened.source([file.location]).fetch(file.order(1, 1), sink)
    assert sink.body == big[CHUNK_BYTES : 2 * CHUNK_BYTES]
    assert sink.received == CHUNK_BYTES


async def test_a_hub_that_ignores_ranges_of_small_files_is_read_past_their_beginning(hub, put, sink, router):
    body = bytes(range(256)) * 20_000  # two chunks
    file = put(body)
    hub.fault("blobs", host="cdn", ignore_range=True)
    async with router() as opened:
        await opened.source([file.location]).fetch(file.order(1), sink)
    assert sink.body == body[CHUNK_BYTES:]


@HUBS
async def test_changed_content_is_noticed_by_the_hubs_own_etag(on, hub, put, big, sink, router):
    file = put(big, hub=on)
    hub.fault("resolve|FilePath", host="hub", etag="0" * 64)
    async with router() as opened:
        with pytest.raises(WrongAnswerError, match="other content"):
            await opened.source([file.location]).fetch(file.order(), sink)
    assert sink.received == 0


async def test_an_etag_of_another_kind_says_nothing(hub, put, sink, router):
    file = put(b"small", path="a.txt")
    hub.fault("a.txt", host="hub", etag="d41d8cd98f00b204e9800998ecf8427e-2")
    async with router() as opened:
        await opened.source([file.location]).fetch(file.order(), sink)
    assert sink.body == b"small"


async def test_wrong_bytes_are_the_sinks_to_judge(hub, put, big, sink, router):
    file = put(big)
    sink.refused = {1}
    async with router() as opened:
        with pytest.raises(WrongBytesError):
            await opened.source([file.location]).fetch(file.order(), sink)
    assert sorted(sink.chunks) == [0]


async def test_a_file_that_is_gone_is_no_retry(hub, put, big, sink, router):
    file = put(big)
    hub.shelf.repos.clear()
    async with router() as opened:
        with pytest.raises(SourceError, match="does not know"):
            await opened.source([file.location]).fetch(file.order(), sink)
    assert hub.stats()["requests_total"] == 1


async def test_a_source_fails_over_to_the_next_upstream(autojump_clock, internet, hub, put, big, sink, router, make_upstream):
    file = put(big)
    first = make_upstream("dead", endpoint="http://dead.example")
    internet.add("dead.example", "151.101.9.9")
    async with router(first, make_upstream(priority=1)) as opened:
        await opened.source([file.location]).fetch(file.order(), sink)
    assert sink.body == big


async def test_a_mirror_with_other_content_leaves_the_field_to_the_hub(internet, hub, put, big, sink, router, make_upstream):
    file = put(big)
    hub.fault("resolve", times=1, etag="0" * 64)
    mirror = make_upstream("mirror", endpoint="http://mirror.example", trusted=False)
    internet.add("mirror.example", "151.101.9.9", hub.server.handle)
    async with router(mirror, make_upstream(priority=1)) as opened:
        await opened.source([file.location]).fetch(file.order(), sink)
    assert sink.body == big


async def test_a_mirrors_bytes_are_hearsay(hub, put, big, sink, router, make_upstream):
    file = put(big)
    async with router(make_upstream(trusted=False)) as opened:
        await opened.source([file.location]).fetch(file.order(), sink)
    assert sink.grades == {Grade.MIRROR}


async def test_one_blob_is_read_from_the_other_hub_when_one_is_gone(
    autojump_clock, internet, hub, put, big, sink, router, make_upstream
):
    file = put(big)
    on_scope = put.func(hub, big, hub=Hub.MODELSCOPE, kind="dataset")
    gone = make_upstream("gone", endpoint="http://gone.example")
    async with router(gone, make_upstream("scope", Hub.MODELSCOPE)) as opened:
        await opened.source([file.location, on_scope.location]).fetch(file.order(), sink)
    assert sink.body == big


async def test_a_location_on_a_hub_without_upstream_is_passed_over(hub, put, big, sink, router, make_upstream):
    elsewhere = put(big, hub=Hub.MODELSCOPE)
    file = put(big, kind="dataset")
    async with router(make_upstream()) as opened:
        await opened.source([elsewhere.location, file.location]).fetch(file.order(), sink)
        with pytest.raises(UnavailableError, match="No upstream"):
            await opened.source([elsewhere.location]).fetch(file.order(), sink)
        with pytest.raises(UnavailableError, match="No hub"):
            await opened.source([]).fetch(file.order(), sink)
    assert sink.body == big


async def test_a_hub_that_is_gone_is_known_to_be_within_five_seconds(autojump_clock, internet, hub, put, big, sink, router):
    file = put(big)
    for address in ("192.0.2.1", "151.101.3.3"):  # a black hole, a refusal
        internet.names["hub.example"] = [address]
        begun = trio.current_time()
        async with router() as opened:
            with pytest.raises((SourceError, UnavailableError)):
                await opened.source([file.location]).fetch(file.order(), sink)
        assert trio.current_time() - begun < 5


async def test_bulk_reads_share_one_limit(autojump_clock, hub, put, big, sink, router):
    file = put(big)
    hub.pace.rate = 50e6
    async with router(connections=2) as opened:
        source = opened.source([file.location])
        async with trio.open_nursery() as nursery:
            for index in range(4):
                nursery.start_soon(source.fetch, file.order(index, 1), sink)
    assert sink.body == big
    assert hub.stats()["connections_max"] <= 4  # two of them wait at the hub's redirect, two at its storage


@HUBS
async def test_a_private_file_takes_the_clients_token(on, hub, put, big, sink, router):
    hub.add_user("hf_alice", "alice")
    file = put(big, hub=on, private=True, token="hf_alice")
    async with router() as opened:
        await opened.source([file.location]).fetch(file.order(), sink)
    assert sink.body == big
    assert hub.stats()["auth_leaks"] == 0


async def test_a_stale_token_does_not_keep_public_files_away(hub, put, big, sink, router):
    file = put(b"{}", path="config.json", token="hf_stale")
    hub.fault("resolve", times=1, status=401, headers={"X-Error-Message": "Invalid credentials in Authorization header"})
    async with router() as opened:
        await opened.source([file.location]).fetch(file.order(), sink)
    assert sink.body == b"{}"
