"""What reads bytes that others wrote, fed with bytes that nobody should write."""

import importlib.util
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from attacks.mutations import spoilt_bytes
from attacks.targets import TARGETS

SECONDS = float(os.environ.get("P2PMODEL_FUZZ_S", "60"))
HANG_S = 1.0

pytestmark = pytest.mark.scorecard("S15")


@pytest.mark.parametrize("name", TARGETS)
def test_spoilt_bytes_end_in_an_error_with_a_name(name):
    target, dice = TARGETS[name], random.Random(15)
    for seed in target.seeds():
        target.attack(seed)
    for _ in range(150):
        target.attack(spoilt_bytes(dice.choice(target.seeds()), dice))
    for deep in (b"[" * 60_000, b'{"a":' * 10_000, b"\x91" * 60_000, b"\xff" * 60_000, bytes(60_000)):
        began = time.thread_time()
        target.attack(deep)
        assert time.thread_time() - began < HANG_S


@pytest.mark.attacks
@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="pip install atheris (make scorecard does)")
@pytest.mark.parametrize("name", TARGETS)
def test_a_fuzzer_led_by_coverage_finds_nothing_in_a_minute(name, tmp_path, figure):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("targets.py"), name, str(int(SECONDS)), corpus],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        check=False,
    )
    runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    found = list(tmp_path.glob("crash-*")) + list(tmp_path.glob("timeout-*")) + list(tmp_path.glob("oom-*"))
    figure(f"{runs[1] if runs else 0} inputs in {SECONDS:g} s, {len(list(corpus.iterdir()))} of them of their own kind")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert not found
