"""Files are cut where Xet cuts them, however their bytes come."""

import json
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from noise import noise

from p2pmodel.content import cutting
from p2pmodel.content.cutting import Cutter
from p2pmodel.content.gear import _TABLE
from p2pmodel.content.xet import xet_text
from p2pmodel.limits import XET_CHUNK_BYTES_MAX

VECTORS = json.loads((Path(__file__).parents[3] / "protocol/vectors/xet.json").read_text())
NUMBERS = _TABLE.tolist()
DATA = noise("cutting", 600_000)


def content(vector):
    if "bytes" in vector:
        return bytes.fromhex(vector["bytes"]) * vector["times"]
    return noise(vector["seed"], vector["skip"] + vector["size"])[vector["skip"] :]


def cut(data, *steps):
    """Fed in buffers of these sizes, again and again."""
    cutter, view = Cutter(), memoryview(data)
    while view:
        for step in steps:
            cutter.feed(view[:step])
            view = view[step:]
    return cutter.finish()


def cut_by_the_book(data):
    """A byte after the other."""
    ends, start, rolled = [], 0, 0
    for at, byte in enumerate(data, 1):
        rolled = (rolled * 2 + NUMBERS[byte]) % (1 << 64)
        length = at - start
        if (rolled >> 48 == 0 and length >= 8_192) or length == XET_CHUNK_BYTES_MAX or at == len(data):
            ends.append(at)
            start = at
    return ends


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["what"])
def test_roots_are_those_that_hf_xet_gives(vector):
    pieces = cut(content(vector), 4 << 20)
    assert [stop - start for start, stop in pairwise(pieces.starts)] == vector["lengths"]
    assert xet_text(pieces.root()) == vector["root"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["what"])
def test_the_vectors_show_what_they_say(vector):
    """Each would tell a cutter apart that goes wrong just there."""
    data = content(vector)
    assert sum(vector["lengths"]) == len(data)
    if len(data) <= 600_000:
        assert cut_by_the_book(data) == [sum(vector["lengths"][: n + 1]) for n in range(len(vector["lengths"]))]


@pytest.mark.parametrize("seed", range(3))
def test_the_cut_is_the_specifications(seed):
    dice = random.Random(seed)
    data = noise(f"book {seed}", 150_000) + bytes(dice.randrange(200_000)) + noise(seed, dice.randrange(100_000))
    assert list(cut(data, 1 << 20).starts[1:]) == cut_by_the_book(data)


@settings(max_examples=25)
@given(st.lists(st.one_of(st.integers(1, 200), st.integers(1, 300_000)), min_size=1, max_size=5), st.integers(0, len(DATA)))
def test_buffers_of_any_size_make_the_same_cut(steps, size):
    data = DATA[: size if sum(steps) > 5_000 * len(steps) else min(size, 40_000)]
    assert cut(data, *steps) == cut(data, len(DATA))


def test_an_empty_buffer_changes_nothing():
    assert cut(DATA, 100_000, 0) == cut(DATA, 100_000)


def test_a_file_of_more_pieces_than_a_list_may_have_is_not_cut_to_its_end(monkeypatch):
    pieces = cut(DATA, 100_000)
    monkeypatch.setattr(cutting, "PIECES_MAX", len(pieces))
    assert cut(DATA, 100_000) == pieces
    monkeypatch.setattr(cutting, "PIECES_MAX", len(pieces) - 1)
    with pytest.raises(ValueError, match="more than"):
        cut(DATA, 100_000)
    monkeypatch.setattr(cutting, "PIECES_MAX", 2)
    cutter = Cutter()
    cutter.feed(DATA[:100_000])
    with pytest.raises(ValueError, match="more than 2 pieces"):
        cutter.feed(DATA[100_000:])


def test_a_cut_file_is_found_right_and_a_changed_byte_is_found():
    pieces = cut(DATA, 4 << 20)
    assert pieces.check(0, DATA) is None
    changed = DATA[:300_000] + bytes([DATA[300_000] ^ 1]) + DATA[300_001:]
    assert pieces.check(0, changed) == pieces.overlapping(300_000, 300_001)[0]


def test_numpy_is_loaded_by_those_only_who_cut():
    """A tenth of a second and 16 MB."""
    script = "import sys; from p2pmodel.content.cutting import Cutter; Cutter(); assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
