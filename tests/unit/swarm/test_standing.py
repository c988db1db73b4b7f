"""Who is banned, for how long, and for what."""

from math import inf

import pytest

from p2pmodel.limits import BAN_MAX_S, BAN_MIN_S, PARDON_S, SOURCES_REMEMBERED_MAX, STRIKES_S
from p2pmodel.swarm import Standing, Why

PEER = "a" * 40


@pytest.mark.scorecard("S5")
def test_two_wrong_chunks_of_one_blob_ban_their_giver():
    standing = Standing()
    assert standing.strike(PEER, 0.0, "one") is None
    ban = standing.strike(PEER, 1.0, "one")
    assert (ban.why, ban.until) == (Why.WRONG_BYTES, 1.0 + BAN_MIN_S)


@pytest.mark.scorecard("S5")
def test_three_wrong_chunks_of_different_blobs_do_as_well():
    standing = Standing()
    assert [standing.strike(PEER, 0.0, blob) is None for blob in "abc"] == [True, True, False]


def test_strikes_are_forgotten():
    standing = Standing()
    standing.strike(PEER, 0.0, "one")
    assert standing.strike(PEER, STRIKES_S, "one") is None


def test_each_ban_is_twice_as_long_as_the_one_before_up_to_a_day():
    standing, now, lengths = Standing(), 0.0, []
    for _ in range(10):
        standing.strike(PEER, now, "one")
        ban = standing.strike(PEER, now, "one")
        lengths.append(ban.until - now)
        now = ban.until
    assert lengths[:3] == [BAN_MIN_S, 2 * BAN_MIN_S, 4 * BAN_MIN_S]
    assert lengths[-1] == BAN_MAX_S


def test_a_ban_for_wrong_bytes_runs_out_and_one_by_proof_does_not():
    standing = Standing()
    standing.suspend("sick", Why.WRONG_BYTES, 0.0)
    standing.convict("liar", Why.FALSE_DIGEST)
    assert standing.is_banned("sick", BAN_MIN_S - 1)
    assert standing.next_end(1.0) == BAN_MIN_S
    assert not standing.is_banned("sick", BAN_MIN_S)
    assert [ban.source for ban in standing.bans(1e9)] == ["liar"]
    assert standing.next_end(1e9) == inf


def test_a_proof_counts_once():
    standing = Standing()
    assert standing.convict(PEER, Why.FALSE_DIGEST)
    assert standing.convict(PEER, Why.TWO_DIGESTS) is None
    assert standing.banned == 1


def test_doubt_is_no_ban_and_lasts_longer_each_time():
    standing = Standing()
    standing.doubt(PEER, 0.0)
    assert standing.is_doubted(PEER, BAN_MIN_S - 1)
    assert not standing.is_banned(PEER, 0.0)
    assert not standing.is_doubted(PEER, BAN_MIN_S)
    standing.doubt(PEER, BAN_MIN_S)
    assert standing.is_doubted(PEER, 2.9 * BAN_MIN_S)


@pytest.mark.parametrize(
    "ban", [lambda one: one.convict(PEER, Why.FALSE_DIGEST), lambda one: one.suspend(PEER, Why.WRONG_BYTES, 0.0)]
)
def test_a_forgiven_node_begins_anew(ban):
    standing = Standing()
    ban(standing)
    standing.strike(PEER, 1.0, "one")
    standing.doubt(PEER, 1.0)
    standing.forgive(PEER, 2.0)
    assert not standing.is_banned(PEER, 2.0)
    assert not standing.is_convicted(PEER)
    assert not standing.is_doubted(PEER, 2.0)
    assert standing.bans(2.0) == []
    assert standing.strike(PEER, 3.0, "one") is None, "the strikes before do not count"
    assert standing.strike(PEER, 3.0, "one").until == 3.0 + BAN_MIN_S, "nor does how long it was banned"


def test_a_pardon_runs_out():
    standing = Standing()
    standing.forgive(PEER, 0.0)
    assert standing.is_pardoned(PEER, PARDON_S - 1)
    assert not standing.is_pardoned(PEER, PARDON_S)
    assert not standing.is_pardoned("another", 0.0)


def test_ids_that_are_free_to_mint_do_not_fill_the_memory():
    standing = Standing()
    for number in range(SOURCES_REMEMBERED_MAX + 10):
        standing.strike(str(number), 0.0)
        standing.met(str(number))
    assert len(standing._strikes) == len(standing._met) == SOURCES_REMEMBERED_MAX
