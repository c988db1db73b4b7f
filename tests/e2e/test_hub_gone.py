"""With the hub gone, everything that is here or at a peer is served, with the pinned commit; the rest is a clear error
within 5 s.

Node one has all of `acme/kept`; node two has its listing and its smallest file. Then the line to the hub is cut.
"""

import time

import pytest
from daemons import House, Site, files_in, until
from noise import noise

pytestmark = pytest.mark.scorecard("S22")

FILES = {"config.json": b"{}", "model.safetensors": noise(5, 9_000_000), "rest/more.bin": noise(6, 100_000)}


@pytest.fixture(scope="module")
def nodes(site, house):
    site.hub.add_repo("model", "acme/kept", FILES)
    site.hub.add_repo("model", "acme/unseen", FILES)
    one = house.daemon("one")
    two = house.daemon("two", [one])
    one.bring("acme/kept")
    two.bring("acme/kept", file="config.json")
    site.hub.repo("model", "acme/kept").commit({"config.json": b"moved on"})
    site.down()
    return one, two


@pytest.fixture
def commit(nodes, site):
    return next(iter(site.hub.repo("model", "acme/kept").commits))


def test_a_head_says_where_the_bytes_would_come_from(nodes):
    def told(path):
        return nodes[1].ask(f"/acme/kept/resolve/main/{path}", method="HEAD").headers["x-p2pmodel-source"]

    until(lambda: (told("config.json"), told("model.safetensors")) == ("store", "peers"), "node two to know what one has")


@pytest.mark.parametrize("which", [0, 1])
def test_what_is_here_or_at_a_peer_is_served_with_the_pinned_commit(nodes, commit, which):
    node = nodes[which]
    for path, data in FILES.items():
        answer = node.ask(f"/acme/kept/resolve/main/{path}")
        assert (answer.status, answer.headers["x-repo-commit"]) == (200, commit)
        assert answer.body == data
    done = node.bring("acme/kept")
    assert (done["commit"], done["upstream"]) == (commit, 0)
    assert files_in(done["path"]) == FILES


@pytest.mark.parametrize("path", ["/api/models/acme/kept", "/api/models/acme/kept/tree/main?recursive=true"])
def test_listings_that_are_here_are_still_served(nodes, path):
    answer = nodes[0].ask(path)
    assert answer.status == 200
    assert b"model.safetensors" in answer.body


@pytest.mark.parametrize("arguments", [["acme/unseen"], ["acme/unseen", "--hub", "modelscope"], ["acme/kept@no-such-branch"]])
def test_what_nobody_has_is_a_clear_error_within_five_seconds(nodes, arguments):
    started = time.monotonic()
    done = nodes[0].command("fetch", *arguments)
    assert time.monotonic() - started < 5
    assert (done.code, done.out) == (5, "")
    assert "hub" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "path",
    [
        "/acme/unseen/resolve/main/config.json",
        "/api/models/acme/unseen",
        "/api/v1/models/acme/unseen/repo/files?Revision=master",
        "/api/v1/models/acme/unseen/repo?Revision=master&FilePath=config.json",
        "/acme/kept/resolve/no-such-branch/config.json",
    ],
)
def test_a_client_is_told_504_within_five_seconds(nodes, path):
    started = time.monotonic()
    answer = nodes[0].ask(path)
    assert time.monotonic() - started < 5
    assert answer.status == 504
    assert b"hub" in answer.body


def test_a_hub_that_swallows_everything_is_an_error_within_five_seconds(house):
    """Neither refused nor answered: what a firewall does."""
    hole = Site()
    hole.url = "http://192.0.2.1:9"  # TEST-NET-1 leads nowhere (RFC 5737)
    with House(house.folder / "hole", hole) as lost:
        node = lost.daemon("lost")
        started = time.monotonic()
        answer = node.ask("/acme/tiny/resolve/main/config.json")
        assert time.monotonic() - started < 5
        assert answer.status == 504
