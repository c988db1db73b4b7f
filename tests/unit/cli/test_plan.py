"""`p2pmodel plan`: simulated, so no daemon is there."""

import json

from p2pmodel.cli import main

SMALL = ["plan", "--nodes", "4", "--size", "128MiB", "--link", "1Gbit", "--uplink", "100Mbit"]


def test_a_plan_compares_with_and_without_us_and_names_the_bottleneck(capsys):
    assert main(SMALL) == 0
    told = capsys.readouterr().out
    assert "4 machines, none of them with it; 134.2 MB; links of 1 Gbit/s, uplink of 100 Mbit/s" in told
    assert "134.2 MB (1.00 ×)" in told
    assert "536.9 MB" in told
    assert "the uplink, busy for" in told


def test_the_json_has_what_the_table_has_and_says_the_same_twice(capsys):
    documents = []
    for _ in range(2):
        assert main([*SMALL, "--json", "--holders", "1"]) == 0
        documents.append(json.loads(capsys.readouterr().out))
    assert documents[0] == documents[1]
    plan = documents[0]
    assert plan["hub_bytes"] == 0
    assert plan["scenario"]["nodes"] == 4
    assert plan["finished"] == 4
    assert plan["alone"]["hub_bytes"] == 3 * (128 << 20)


def test_a_rate_without_a_unit_is_a_usage_error(capsys):
    assert main([*SMALL[:-1], "100"]) == 2
    assert "25Gbit" in capsys.readouterr().err


def test_somebody_must_want_it(capsys):
    assert main([*SMALL, "--holders", "4"]) == 2
    assert "wants it" in capsys.readouterr().err
