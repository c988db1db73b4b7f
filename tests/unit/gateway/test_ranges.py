import pytest

from p2pmodel.gateway.ranges import UnsatisfiableError, choose


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=90-", 90, 100),
        ("bytes=-10", 90, 100),
        ("bytes=-1000", 0, 100),
        ("bytes=95-200", 95, 100),
        ("bytes=99-99", 99, 100),
        ("Bytes = 5 - 6", 5, 7),
    ],
)
def test_a_single_range_is_clamped_to_the_file(header, start, stop):
    chosen = choose(header, 100)
    assert (chosen.start, chosen.stop, chosen.partial) == (start, stop, True)
    assert chosen.content_range == f"bytes {start}-{stop - 1}/100"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes=0--1",
        "bytes=5-3",
        "bytes=-",
        "bytes=a-b",
        "items=0-1",
        "bytes=0-1,4-5",
        "bytes",
        "bytes=-5-",
        "bytes=١-٢",
    ],
)
def test_what_is_no_single_range_is_answered_whole(header):
    chosen = choose(header, 100)
    assert (chosen.start, chosen.stop, chosen.partial) == (0, 100, False)


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=100-", 100), ("bytes=101-200", 100), ("bytes=-0", 100), ("bytes=-5", 0), ("bytes=1-", 0)]
)
def test_a_range_behind_the_end_is_unsatisfiable(header, size):
    with pytest.raises(UnsatisfiableError):
        choose(header, size)


@pytest.mark.parametrize("header", ["bytes=0-0", "bytes=0-"])
def test_a_probe_of_an_empty_file_is_a_partial_answer_without_bytes(header):
    chosen = choose(header, 0)
    assert (chosen.length, chosen.partial, chosen.content_range) == (0, True, "bytes */0")
