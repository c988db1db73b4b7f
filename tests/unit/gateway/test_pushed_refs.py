"""What a `git push` says of where it leads branches, read while it streams by."""

import pytest

from p2pmodel.gateway.commits import PushedRefs
from p2pmodel.limits import PUSHED_BRANCHES_MAX

OLD, NEW, OTHER, NONE = "1" * 40, "2" * 40, "3" * 40, "0" * 40


def line(text):
    return b"%04x" % (len(text) + 4) + text.encode()


FIRST = line(f"{OLD} {NEW} refs/heads/main\0report-status side-band-64k")
PUSH = FIRST + line(f"{NONE} {OTHER} refs/heads/a/side\n") + line(f"{NONE} {OTHER} refs/tags/v1") + b"0000PACK and more" * 9


async def passed(data, size):
    async def pieces():
        for at in range(0, len(data), size):
            yield data[at : at + size]

    refs = PushedRefs()
    assert b"".join([piece async for piece in refs.watch(pieces())]) == data
    return refs.commits


@pytest.mark.parametrize("size", [1, 3, 50, 1000])
async def test_branches_are_read_however_the_bytes_come(size):
    assert await passed(PUSH, size) == [NEW, OTHER]


async def test_a_branch_that_is_deleted_leads_nowhere():
    assert await passed(line(f"{OLD} {NONE} refs/heads/main\0delete-refs") + b"0000", 7) == []


@pytest.mark.parametrize(
    "data",
    [
        b"0000",
        b"",
        b"00",
        b"zzzz" + PUSH,
        b"0001" + PUSH,
        b"0004" + PUSH,
        b"\xff" * 100,
        line("shallow " + OLD),
        b"ffff" + b"x" * 99,
    ],
)
async def test_what_is_no_push_passes_and_says_nothing(data):
    assert await passed(data, 11) == []


async def test_of_many_branches_some_are_read():
    data = b"".join(line(f"{OLD} {number:040x} refs/heads/{number}") for number in range(1, 99)) + b"0000"
    assert len(await passed(data, 999)) == PUSHED_BRANCHES_MAX
