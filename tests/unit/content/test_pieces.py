"""Xet's lists of pieces: the root stands for every hash, length and place, and bytes are checked from any piece to any."""

import struct
from itertools import accumulate, pairwise

import blake3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from noise import noise

from p2pmodel.content.pieces import PIECE_ENTRY_BYTES, PieceList, piece_entry
from p2pmodel.content.xet import xet_text
from p2pmodel.limits import XET_CHUNK_BYTES_MAX

NODE_KEY = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
LENGTHS = [8_192, 70_001, XET_CHUNK_BYTES_MAX, 9_000, 1]
DATA = noise(1, sum(LENGTHS))
STARTS = list(accumulate(LENGTHS, initial=0))
PIECES = PieceList.read(b"".join(piece_entry(DATA[start:stop]) for start, stop in pairwise(STARTS)))


def made_up(count):
    """A list of a file that nobody has."""
    return b"".join(struct.pack("<32sI", noise(n, 32), 8_192 + n % 100_000) for n in range(count))


def root_by_the_book(entries):
    """The specification's words, one after the other: how fast it is does not matter."""
    level = [(hash_, size) for hash_, size in struct.iter_unpack("<32sI", entries)]
    while len(level) > 1:
        merged = []
        while level:
            cut = min(9, len(level))
            for place in range(2, cut):
                if int.from_bytes(level[place][0][24:], "little") % 4 == 0:
                    cut = place + 1
                    break
            group, level = level[:cut], level[cut:]
            text = "".join(f"{xet_text(hash_)} : {size}\n" for hash_, size in group)
            merged.append((blake3.blake3(text.encode(), key=NODE_KEY).digest(), sum(size for _, size in group)))
        level = merged
    return blake3.blake3(level[0][0], key=bytes(32)).digest()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9, 10, 11, 12, 81, 82, 1_000])
def test_a_root_is_what_the_specification_says(count):
    entries = made_up(count)
    assert PieceList.read(entries).root() == root_by_the_book(entries)


def test_roots_are_those_that_xet_itself_gives():
    """By hf_xet 1.8.0; zeros are cut nowhere before the longest piece's end."""
    assert (
        xet_text(PieceList.read(piece_entry(b"x")).root()) == "ee8f129a399d20f10cae506c65e70831a63945b2cf619d39bb4eae90736fd8d7"
    )
    assert PieceList.read(b"").root() == bytes(32)
    zeros = piece_entry(bytes(XET_CHUNK_BYTES_MAX)) * 40 + piece_entry(b"\0")
    assert xet_text(PieceList.read(zeros).root()) == "569a3aa2ada22b12be92868cf3fcdec5d8e24563cef0227ff07dc2ae33fcc5ce"


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, PIECE_ENTRY_BYTES - 3))
def test_a_root_changes_with_any_hash_length_or_order(first, second, place):
    entries = made_up(41)
    each = [entries[at : at + PIECE_ENTRY_BYTES] for at in range(0, len(entries), PIECE_ENTRY_BYTES)]
    changed = [*each]
    changed[first] = each[first][:place] + bytes([each[first][place] ^ 1]) + each[first][place + 1 :]
    swapped = [*each]
    swapped[first], swapped[second] = each[second], each[first]
    root = PieceList.read(entries).root()
    assert PieceList.read(b"".join(changed)).root() != root
    assert (PieceList.read(b"".join(swapped)).root() == root) == (first == second)
    assert PieceList.read(b"".join(each[:-1])).root() != root


def test_a_list_knows_where_its_pieces_lie():
    assert (len(PIECES), PIECES.size, list(PIECES.starts)) == (5, len(DATA), STARTS)


@given(st.integers(0, 1 << 18), st.integers(0, 1 << 18))
def test_the_pieces_of_a_range_are_those_that_have_some_of_it(start, stop):
    found = [n for n in range(5) if max(start, STARTS[n]) < min(stop, STARTS[n + 1])]
    assert list(PIECES.overlapping(start, stop)) == found


@pytest.mark.parametrize("first", range(5))
@pytest.mark.parametrize("last", range(5))
def test_right_bytes_are_right_from_any_piece_to_any_other(first, last):
    if first <= last:
        assert PIECES.check(first, memoryview(DATA)[STARTS[first] : STARTS[last + 1]]) is None


@pytest.mark.parametrize("piece", range(5))
def test_a_flipped_bit_is_found_in_its_piece(piece):
    for place in (STARTS[piece], STARTS[piece + 1] - 1):
        data = bytearray(DATA)
        data[place] ^= 1
        assert PIECES.check(0, data) == piece


def test_bytes_that_end_within_a_piece_are_not_taken_for_checked():
    for data in (DATA[:-2], DATA[:8_191], DATA + b"x"):
        with pytest.raises(ValueError, match="do not end where a piece ends"):
            PIECES.check(0, data)
    assert PIECES.check(2, b"") is None


@pytest.mark.parametrize(
    "entries", [bytes(35), bytes(37), bytes(36), struct.pack("<32sI", b"", XET_CHUNK_BYTES_MAX + 1), made_up(2) + bytes(36)]
)
def test_what_cannot_be_a_list_is_refused(entries):
    with pytest.raises(ValueError, match="piece"):
        PieceList.read(entries)
