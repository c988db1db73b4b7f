"""Whole nodes under virtual time, in processes of their own: there a mebibyte has another size."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SEEDS = 12  # `make simulate` has hundreds
LONG = {  # they run with the houses
    "lost-wake-up-finish_time",
    "claims-ignored-hub_bytes",
    "sealed-unseen-wrong_bytes",
    "claims-ignored-deceit",
    "first-believed-wrong_bytes",
    "unlisted-proven-wrong_bytes",
}
PLANTED = [  # a bug, the check that finds it, and in which worlds
    ("lost-wake-up", "finish_time", range(8)),
    ("claims-ignored", "hub_bytes", range(16, 80)),
    ("hearsay-served", "wrong_bytes", range(30, 90)),
    ("sealed-unseen", "wrong_bytes", range(20, 80)),
    ("watchers-kept", "leaks", range(4)),
    ("never-awake", "endings", range(26, 80)),
    ("honest-blamed", "honest_peers", range(2, 40)),
    ("first-believed", "wrong_bytes", range(230, 270), "--vouch"),
    ("unlisted-proven", "wrong_bytes", range(8, 40), "--prove"),
    ("audited-alone", "deceit", range(1, 4), "--deceit", "one"),
]

pytestmark = pytest.mark.timeout(300)  # a busy machine


def simulate(*arguments, hash_seed=0):
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    command = [sys.executable, "-m", "tests.simulation", *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def worlds():
    return simulate("--json", "--seeds", SEEDS, hash_seed=1)


@pytest.mark.scorecard("S32")
def test_no_world_breaks_a_promise(worlds):
    broken = [line for line in worlds.stdout.splitlines() if json.loads(line)["complaints"]]
    assert worlds.returncode == 0, "\n".join([*broken, worlds.stderr])


@pytest.mark.scorecard("S32")
def test_a_seed_is_the_same_world_in_every_process(worlds):
    again = simulate("--json", "--seeds", 4, hash_seed=2)
    assert again.stdout.splitlines() == worlds.stdout.splitlines()[:4]


def test_every_check_has_a_bug_that_it_finds():
    checks = {file.stem for file in (Path(__file__).parent / "checks").glob("*.py")}
    assert {found_by for _, found_by, *_ in PLANTED} == checks


def test_several_processes_tell_of_the_same_worlds():
    run = simulate("--first", 4, "--seeds", 2, "--processes", 2, "--twice", 1)
    assert (run.returncode, run.stdout.count("\n")) == (0, 1), run.stdout
    assert "2 worlds" in run.stdout
    assert "0 broken, 0 never ended; 1 of them twice, 0 differing" in run.stdout


@pytest.mark.parametrize(
    ("liars", "seed"),
    [
        ("one", 2),
        pytest.param("half", 1, marks=pytest.mark.houses),
        ("blind", 1),
        pytest.param("flips", 2, marks=pytest.mark.houses),
    ],
)
def test_liars_cost_the_hub_little_and_no_honest_node_is_banned(liars, seed):
    run = simulate("--deceit", liars, "--seed", seed)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.houses
@pytest.mark.parametrize("seed", [7, 41])  # one had its file first and read it alone, nineteen settled what was settled
def test_twenty_nodes_find_a_sly_liar_out_for_half_a_file(seed):
    run = simulate("--deceit", "one", "--seed", seed, "--of", 20, "--json")
    assert json.loads(run.stdout)["hub_ratio"] < 1.6, run.stdout


def test_fewer_liars_than_vouchers_are_asked_for_make_no_wrong_byte_leave():
    run = simulate("--vouch", "--seeds", 4)
    assert run.returncode == 0, run.stdout + run.stderr


def test_by_the_hubs_root_no_wrong_byte_leaves_however_many_lie():
    run = simulate("--prove", "--seeds", 4)
    assert run.returncode == 0, run.stdout + run.stderr


def _case(planted):
    name = f"{planted[0]}-{planted[1]}"
    return pytest.param(planted, id=name, marks=[pytest.mark.houses] if name in LONG else [])


@pytest.mark.scorecard("S32")
@pytest.mark.parametrize("planted", [_case(planted) for planted in PLANTED])
def test_a_planted_bug_is_found(planted):
    bug, found_by, seeds, *worlds = planted
    run = simulate("--plant", bug, "--first", seeds.start, "--seeds", len(seeds), "--stop", *worlds)
    assert run.returncode == 1
    assert f"{found_by}:" in run.stdout + run.stderr
