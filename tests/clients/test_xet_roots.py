"""Xet's own client is the judge of the roots that we find."""

import json
import random
import time

import pytest
from noise import noise

from p2pmodel.content.cutting import Cutter
from p2pmodel.content.xet import xet_text

pytestmark = pytest.mark.clients


def contents(dice):
    """Files that are cut in many ways: noise, what repeats with and without a place to cut in it, and both."""
    for _ in range(12):
        size = dice.randrange(1, 3_000_000)
        yield noise(dice.random(), size)
        yield noise(dice.random(), dice.randrange(1, 70_000)) * (1 + size // 70_000)
        yield noise(dice.random(), size) + bytes(dice.randrange(300_000)) + noise(dice.random(), 100_000)


def root(data, dice):
    cutter = Cutter()
    step = dice.randrange(1_000, 4 << 20)
    for at in range(0, len(data), step):
        cutter.feed(data[at : at + step])
    return xet_text(cutter.finish().root())


@pytest.mark.parametrize("name", ["hub-2"])
def test_fresh_files_have_the_roots_that_hf_xet_gives(client, tmp_path):
    seed = time.time_ns()
    dice = random.Random(seed)
    ours, paths = [], []
    for number, data in enumerate(contents(dice)):
        paths.append(str(tmp_path / str(number)))
        (tmp_path / str(number)).write_bytes(data)
        ours.append(root(data, dice))
    script = f"import hf_xet; result = [file.hash for file in hf_xet.hash_files({json.dumps(paths)})]"
    assert client.run("http://127.0.0.1:1", script) == ours, f"seed {seed}"
