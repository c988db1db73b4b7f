"""The same over real sockets on loopback, where a reset is a reset."""

from __future__ import annotations

from random import Random

import pytest

from p2pmodel.content import Access
from p2pmodel.demo.hub import Hub as DemoHub
from p2pmodel.demo.hub import serve
from p2pmodel.errors import UnavailableError
from p2pmodel.limits import CHUNK_BYTES
from p2pmodel.upstream import Router


@pytest.fixture
def hub():
    return DemoHub()


async def test_a_file_arrives_over_real_connections_with_one_reset(hub, put, big, sink, make_upstream):
    file = put(big)
    hub.fault("blobs", host="cdn", times=1, reset_at=CHUNK_BYTES + 5)
    async with serve(hub) as running, Router([make_upstream(endpoint=running.url)], rng=Random(1)) as router:
        assert (await router.snapshot(file.repo, "main", Access())).commit == file.commit
        await router.source([file.location]).fetch(file.order(), sink)
    assert sink.body == big


async def test_a_closed_port_is_an_error_at_once(hub, hf, anyone, make_upstream):
    async with serve(hub) as running:
        endpoint = running.url
    async with Router([make_upstream(endpoint=endpoint)], rng=Random(1)) as router:
        with pytest.raises(UnavailableError, match=r"cannot be reached \(Connection refused\)"):
            await router.snapshot(hf, "main", anyone)
