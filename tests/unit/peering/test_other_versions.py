"""What is told of nodes of another version: where they are, not how often they try."""

import structlog
import trio

from p2pmodel.limits import OTHER_VERSION_AGAIN_S, OTHER_VERSION_S, OTHER_VERSIONS_MAX
from p2pmodel.peering.other_versions import OtherVersions


async def test_one_that_tries_on_is_logged_once_an_hour_and_shown_until_it_stops(autojump_clock):
    versions = OtherVersions()
    with structlog.testing.capture_logs() as logged:
        for _ in range(100):
            versions.met("192.0.2.7")
            await trio.sleep(30)
        assert [line["host"] for line in logged] == ["192.0.2.7"]
        assert versions.hosts == ["192.0.2.7"]
        await trio.sleep(OTHER_VERSION_S)
        assert versions.hosts == []
        await trio.sleep(OTHER_VERSION_AGAIN_S)
        versions.met("192.0.2.7")
        assert len(logged) == 2


async def test_of_a_crowd_the_latest_are_remembered(autojump_clock):
    versions = OtherVersions()
    for number in range(3 * OTHER_VERSIONS_MAX):
        versions.met(f"192.0.2.{number}")
    assert len(versions.hosts) == OTHER_VERSIONS_MAX
    assert "192.0.2.0" not in versions.hosts
