"""The lists of sealed files' pieces on disk: what is damaged or left over is not handed out."""

import pytest
from fakes.stores import OnDisk, sample

from p2pmodel.content.pieces import piece_entry

ONE = sample(1, 500)
PIECES = piece_entry(b"some") + piece_entry(b"more")


@pytest.fixture
def house(tmp_path):
    house = OnDisk(tmp_path / "state")
    ONE.put(house.store)
    house.store.keep_pieces(ONE.blob.id, PIECES)
    yield house
    house.close()


@pytest.mark.parametrize("at", [0, 31, 32, -1])
def test_a_damaged_list_is_none_and_makes_room_for_another(house, at):
    file = house.store.layout.pieces(ONE.blob.id)
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)
    assert house.store.pieces(ONE.blob.id, 0, 2) == b""
    assert not file.exists()
    house.store.keep_pieces(ONE.blob.id, PIECES)
    assert house.store.pieces(ONE.blob.id, 0, 2) == PIECES


@pytest.mark.parametrize("left", [0, 20, 40])
def test_a_list_that_was_cut_short_is_none(house, left):
    file = house.store.layout.pieces(ONE.blob.id)
    file.write_bytes(file.read_bytes()[:left])
    assert house.store.pieces(ONE.blob.id, 0, 2) == b""


def test_a_list_goes_with_its_blob(house):
    file = house.store.layout.pieces(ONE.blob.id)
    house.store.remove(ONE.blob.id)
    assert not file.exists()


def test_what_a_crash_left_of_a_list_and_lists_of_what_is_gone_are_cleared_away_at_start(house):
    file = house.store.layout.pieces(ONE.blob.id)
    half, strange = file.with_suffix(".new"), file.with_name("sha256-" + "ab" * 32)
    half.write_bytes(b"half")
    strange.write_bytes(file.read_bytes())
    store = house.restart()
    assert sorted(file.parent.iterdir()) == [file]
    assert store.pieces(ONE.blob.id, 0, 2) == PIECES
