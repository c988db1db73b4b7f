"""Bytes that HTTP, JSON or a query can carry and that we once could not: one request must never end the daemon."""

import pytest
import trio

from p2pmodel.errors import RevisionNotFoundError

NESTED = b"[" * 100_000


async def lives(rig):
    return (await rig.get("/healthz")).status == 200


async def test_an_error_that_quotes_what_no_header_can_hold_is_told_all_the_same(rig, monkeypatch):
    async def unknown(repo, revision, path, access):
        await trio.lowlevel.checkpoint()
        raise RevisionNotFoundError(f"The hub does not know {repo} at {revision}.")

    monkeypatch.setattr(rig.delivery, "entry", unknown)
    answer = await rig.get("/org/model/resolve/%00%01%0d%0aX-Evil:1%7f/a.json")
    assert answer.status == 404
    assert answer.headers["x-error-code"] == "RevisionNotFound"
    assert "x-evil" not in answer.headers
    assert await lives(rig)


async def test_a_name_with_a_nul_in_a_query_or_path_ends_nothing(rig):
    rig.add("org/model", {"a.json": b"{}"})
    assert (await rig.get("/api/models/org/model/tree/main/%00")).status == 404
    assert (await rig.get("/org/model/resolve/main/%00")).status == 404
    assert await lives(rig)


async def test_a_header_of_the_hub_beyond_ascii_is_handed_on(rig):
    rig.upstreams.headers = [("Content-Type", "application/json"), ("X-Author", "Ren\xe9e")]
    answer = await rig.get("/api/whoami-v2")
    assert answer.status == 200
    assert answer.headers["x-author"] == "Ren\xe9e"
    assert await lives(rig)


@pytest.mark.parametrize("value", ["a\0b", " ", "a\r\nX-Evil: 1"])
async def test_an_answer_of_the_hub_that_is_no_http_is_the_hubs_failure(rig, value):
    rig.upstreams.headers = [("X-Odd", value)]
    answer = await rig.get("/api/whoami-v2")
    assert answer.status in {200, 502}
    assert "x-evil" not in answer.headers
    assert await lives(rig)


async def test_a_parameter_whose_name_is_written_in_percent_is_read(rig):
    answer = await rig.get("/api/v1/models/org/model/repo?File%50ath=a+b.json")
    assert answer.status == 404
    assert await lives(rig)


async def test_json_nested_without_end_is_a_bad_request(rig):
    rig.add("org/model", {"a.json": b"{}"})
    body = b'{"x":' + NESTED
    answer = await rig.get(
        "/api/models/org/model/paths-info/main",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        method="POST",
        body=body,
    )
    assert answer.status == 400
    assert await lives(rig)


@pytest.mark.parametrize("depth", [600, 100_000])
async def test_json_of_the_hub_nested_without_end_ends_nothing(rig, depth):
    rig.add("org/model", {"a.json": b"{}"})
    rig.upstreams.body = b"[" * depth + b"]" * depth
    assert (await rig.get("/api/models/org/model?expand=x")).status in {200, 502}
    assert await lives(rig)


@pytest.mark.scorecard("S15")
@pytest.mark.parametrize("method", ["HEAD", "GET", "CONNECT", "OPTIONS"])
@pytest.mark.parametrize(
    ("target", "header", "status"),
    [
        ("no/path", "A: b", 400),
        ("/", "Transfer-Encoding: chunked\r\nContent-Length: 3", 400),
        ("/", f"A: {'x' * 40_000}", 431),
        ("/", "Content-Length: x", 400),
    ],
    ids=["no path", "two lengths", "too long", "no length"],
)
async def test_a_request_that_is_refused_unread_ends_nothing_whatever_its_method(rig, method, target, header, status):
    client = await rig.connect()
    answer = await client.get(target, header, method=method)
    assert answer.status == status
    assert await lives(rig)
