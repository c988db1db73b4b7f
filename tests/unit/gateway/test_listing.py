"""Listings as the gateway remembers them."""

from dataclasses import replace

from p2pmodel.content import Hub, Repo, RepoKind, Snapshot
from p2pmodel.gateway.listing import HuggingFaceEntry, Listings

REPO = Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "acme/tiny")


async def test_a_listing_that_proved_false_is_not_remembered_for_its_commit():
    """A member told it while the hub was gone; the hub's own takes its place."""
    told = Snapshot(REPO, "c" * 40, (), b'[{"path":"a","type":"file","size":1}]', public=True)
    true = replace(told, listing=b'[{"path":"a","type":"file","size":2}]')
    listings = Listings(HuggingFaceEntry)
    for snapshot in (told, told, true, true):
        [line] = (await listings.of(snapshot)).lines
        assert line.raw in snapshot.listing
