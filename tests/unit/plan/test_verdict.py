from dataclasses import replace

from p2pmodel.limits import MIB
from p2pmodel.plan import Scenario, simulate
from p2pmodel.plan.verdict import Bottleneck, advice, bottleneck, disk_rate

COLD = Scenario(nodes=4, size=128 * MIB, link=125e6, uplink=12.5e6)


def test_a_slow_uplink_is_the_bottleneck_of_cold_nodes_and_the_links_where_one_has_it():
    cold = simulate(COLD)
    assert bottleneck(cold) is Bottleneck.UPLINK
    assert "10 times" in advice(cold)[0]
    assert bottleneck(simulate(replace(COLD, holders=1, link=2.5e6))) is Bottleneck.LINKS


def test_neither_is_where_settling_takes_longer_than_the_bytes():
    outcome = simulate(replace(COLD, nodes=40, uplink=1e9, link=10e9, neighbours=8, readers=4))
    assert bottleneck(outcome) is Bottleneck.SPREADING
    assert any("over in seconds" in sentence for sentence in advice(outcome))
    assert any("8 neighbours" in sentence for sentence in advice(outcome))


def test_a_model_beyond_the_default_quota_and_a_fast_disk_are_told():
    outcome = simulate(Scenario(nodes=2, size=600 * 10**9, link=3e9, uplink=1e9, chunks_max=64))
    assert disk_rate(outcome) > 500e6
    told = " ".join(advice(outcome))
    assert "store.quota" in told
    assert "Every disk" in told
