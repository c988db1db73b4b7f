"""A cluster in virtual time: what must be true of each outcome, and that the cheap ways agree with the exact ones."""

from dataclasses import replace

import pytest

from p2pmodel.limits import CHUNK_BYTES, MIB
from p2pmodel.plan import Scenario, simulate

COLD = Scenario(nodes=8, size=256 * MIB, link=125e6, uplink=12.5e6)
ONE_HOLDER = replace(COLD, link=25e6, holders=1)
BOUNDED = replace(COLD, nodes=48, size=128 * MIB, neighbours=8, readers=4)


def test_cold_nodes_take_one_copy_from_the_hub_in_little_more_than_its_line_needs():
    outcome = simulate(COLD)
    assert outcome.finished == 8
    assert outcome.hub_bytes == pytest.approx(COLD.size)
    assert 1.0 <= outcome.to_bound < 1.1
    assert outcome.first_s <= outcome.mean_s <= outcome.last_s


def test_what_one_node_holds_is_not_read_from_the_hub():
    outcome = simulate(ONE_HOLDER)
    assert (outcome.finished, outcome.hub_bytes) == (8, 0)
    assert 1.0 <= outcome.to_bound < 2.0


def test_a_node_alone_reads_everything_itself():
    outcome = simulate(replace(COLD, nodes=1))
    assert (outcome.finished, outcome.readers) == (1, 1)
    assert outcome.hub_bytes == pytest.approx(COLD.size)


def test_the_same_seed_gives_the_same_trace_and_another_seed_another():
    first, again, other = (simulate(replace(BOUNDED, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first.trace != other.trace


@pytest.mark.parametrize("scenario", [COLD, ONE_HOLDER], ids=["cold", "one holder"])
def test_equal_shares_come_close_to_the_exact_ones(scenario):
    seeds = range(4)
    cheap, exact = (
        sum(simulate(replace(scenario, seed=seed, exact=exact)).to_bound for seed in seeds) / len(seeds)
        for exact in (False, True)
    )
    assert cheap == pytest.approx(exact, rel=0.12)


def test_with_few_neighbours_and_readers_the_hub_still_sends_one_copy():
    outcome = simulate(BOUNDED)
    assert outcome.finished == 48
    assert outcome.hub_ratio <= 1.02
    assert outcome.readers == 4
    assert outcome.neighbours < 9
    assert outcome.to_bound < 1.3


def test_readers_find_a_holder_who_is_no_neighbour_of_theirs():
    outcome = simulate(replace(BOUNDED, link=25e6, holders=1))
    assert (outcome.finished, outcome.hub_bytes) == (48, 0)


def test_nodes_that_come_later_cost_the_hub_nothing_more():
    outcome = simulate(replace(BOUNDED, stagger_s=5.0))
    assert outcome.finished == 48
    assert outcome.hub_ratio <= 1.02


def test_few_neighbours_are_told_less():
    everyone = simulate(replace(BOUNDED, nodes=24, neighbours=None, readers=None))
    few = simulate(replace(BOUNDED, nodes=24))
    assert few.control_bytes < 0.6 * everyone.control_bytes


def test_coarse_chunks_change_the_answer_little():
    fine = simulate(COLD)
    coarse = simulate(replace(COLD, chunks_max=32))
    assert COLD.unit == 1
    assert coarse.scenario.unit == COLD.size / CHUNK_BYTES / 32
    assert coarse.to_bound == pytest.approx(fine.to_bound, rel=0.1)
    assert coarse.control_bytes == pytest.approx(fine.control_bytes, rel=0.5)


def test_the_lower_bound_counts_the_uplink_only_where_nobody_has_it():
    assert COLD.bound_s == COLD.size / COLD.uplink
    assert ONE_HOLDER.bound_s == ONE_HOLDER.size / ONE_HOLDER.link
    assert COLD.alone_s == 8 * COLD.size / COLD.uplink
