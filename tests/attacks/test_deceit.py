"""Whole nodes under virtual time, some of which sign false digests (tests/simulation/deceit.py)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SEEDS = os.environ.get("P2PMODEL_DECEIT_SEEDS", "40")

pytestmark = [pytest.mark.attacks, pytest.mark.timeout(3600)]


@pytest.mark.parametrize(
    "liars", [pytest.param("one", marks=pytest.mark.scorecard("S6")), pytest.param("half", marks=pytest.mark.scorecard("S8"))]
)
def test_liars_cost_the_hub_little_and_no_honest_node_its_membership(liars, figure):
    command = [sys.executable, "-m", "tests.simulation", "--deceit", liars, "--of", "20", "--seeds", SEEDS]
    command += ["--processes", str(max(2, os.cpu_count() or 1))]
    run = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    figure(run.stdout.strip().splitlines()[-1])
    assert run.returncode == 0, run.stdout + run.stderr
