"""The flight recorder's files: bounded, and whole lines again after whatever tore the last one."""

import pytest

from p2pmodel.errors import StoreError
from p2pmodel.store import FlightFiles


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "flights"


def files_in(folder):
    return sorted(folder.iterdir())


def test_lines_come_back_in_order_and_after_a_restart(folder):
    FlightFiles(folder).append([b"one", b"two"])
    FlightFiles(folder).append([b"three"])
    assert list(FlightFiles(folder).lines()) == [b"one", b"two", b"three"]


def test_without_a_file_there_are_no_lines(folder):
    assert list(FlightFiles(folder).lines()) == []


def test_a_torn_line_costs_itself_and_not_the_next(folder):
    flights = FlightFiles(folder)
    flights.append([b"whole", b"torn in the middle"])
    [file] = files_in(folder)
    file.write_bytes(file.read_bytes()[:-8])
    flights.append([b"next"])
    assert list(flights.lines()) == [b"whole", b"torn in the", b"next"]


def test_the_oldest_file_makes_room(folder):
    flights = FlightFiles(folder, file_bytes=100, files_max=3)
    for number in range(100):
        flights.append([b"%030d" % number])
    assert len(files_in(folder)) == 3
    assert sum(file.stat().st_size for file in files_in(folder)) <= 3 * 140
    kept = [int(line) for line in flights.lines()]
    assert kept == list(range(kept[0], 100))
    assert len(kept) > 6


def test_only_its_owner_may_read_it(folder):
    FlightFiles(folder).append([b"sha256:of something private"])
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_disk_that_fails_is_a_store_error(folder):
    folder.write_text("no directory")
    with pytest.raises(StoreError):
        FlightFiles(folder).append([b"one"])
