import random

import pytest

from p2pmodel.limits import (
    CANDIDATE_EXPIRY_S,
    CANDIDATES_MAX,
    CANDIDATES_PER_ADDRESS_MAX,
    REDIAL_MAX_S,
    REDIAL_MIN_S,
    REDIAL_SILENT_S,
)
from p2pmodel.network import Address, Candidate
from p2pmodel.peering.directory import Directory

OWN, SMALLER, LARGER = "5" * 40, "1" * 40, "9" * 40
HERE = Address("10.0.0.2", 7277)


@pytest.fixture
def directory():
    return Directory(own=OWN, near=lambda host: host.startswith("10."), dice=random.Random(1))


def hint(address=HERE, node=LARGER, origin="mdns"):
    return Candidate(address, node, origin)


def due(directory, now, linked=()):
    return [entry.address for entry in directory.due(now, linked)]


def test_a_candidate_is_due_at_once_if_our_id_is_the_smaller_and_a_moment_later_if_not(directory):
    directory.heard(hint(), 0)
    other = Address("10.0.0.3", 7277)
    directory.heard(hint(other, SMALLER), 0)
    assert due(directory, 0) == [HERE]
    assert set(due(directory, REDIAL_MIN_S)) == {HERE, other}


def test_a_linked_peer_is_not_due(directory):
    directory.heard(hint(), 0)
    assert due(directory, 1, {LARGER}) == []


@pytest.mark.parametrize(
    "address",
    [Address("not-an-ip.example", 7277), Address("192.168.7.7", 7277), Address("224.0.0.251", 7277), Address("10.0.0.2", 0),
     Address("0.0.0.0", 7277), Address("10.0.0.2", 70000)],
)  # fmt: skip
def test_a_hint_that_is_no_near_host_is_ignored(directory, address):
    directory.heard(hint(address), 0)
    assert len(directory) == 0


def test_a_configured_peer_may_be_anywhere_and_have_a_name(directory):
    directory.heard(Candidate(Address("far.example", 7277), None, "static"), 0)
    assert due(directory, 0) == [Address("far.example", 7277)]


def test_hints_are_bounded_a_host_and_in_all(directory):
    for port in range(1, 100):
        directory.heard(hint(Address("10.0.0.2", port)), 0)
    assert len(directory) == CANDIDATES_PER_ADDRESS_MAX
    for number in range(2 * CANDIDATES_MAX):
        directory.heard(hint(Address(f"10.1.{number // 250}.{number % 250}", 7277)), 1 + number)
    assert len(directory) == CANDIDATES_MAX


def test_a_flood_does_not_push_out_whom_we_know(directory):
    directory.heard(hint(), 0)
    (entry,) = directory.due(0, ())
    directory.proved(entry, LARGER, 0)
    for number in range(2 * CANDIDATES_MAX):
        directory.heard(hint(Address(f"10.1.{number // 250}.{number % 250}", 7277)), 1 + number)
    assert HERE in {entry.address for entry in directory.entries()}
    assert due(directory, 5000)[0] == HERE


def test_an_unproven_hint_is_forgotten(directory):
    directory.heard(hint(), 0)
    assert due(directory, CANDIDATE_EXPIRY_S + 1) == []
    assert len(directory) == 0


def test_failures_are_retried_ever_more_rarely_but_a_new_hint_brings_the_next_try_forward(directory):
    directory.heard(hint(), 0)
    (entry,) = directory.due(0, ())
    pauses = []
    for _ in range(12):
        directory.failed(entry, 0)
        pauses.append(entry.next_dial)
    assert REDIAL_MIN_S * 0.75 <= pauses[0] <= REDIAL_MIN_S * 1.25
    assert max(pauses) <= REDIAL_MAX_S * 1.25
    assert pauses[-1] > 10 * pauses[0]
    directory.heard(hint(), 2)
    assert entry.next_dial == 2 + REDIAL_MIN_S


def test_one_who_has_been_silent_for_long_is_dialled_rarely(directory):
    directory.heard(hint(origin="remembered"), 0)
    (entry,) = directory.due(1, ())
    for _ in range(20):
        directory.failed(entry, REDIAL_SILENT_S)
    assert entry.next_dial - REDIAL_SILENT_S >= REDIAL_SILENT_S * 0.75


def test_a_hint_cannot_rename_a_proven_peer(directory):
    directory.heard(hint(), 0)
    (entry,) = directory.due(0, ())
    directory.proved(entry, LARGER, 0)
    directory.heard(hint(node=SMALLER), 1)
    assert entry.node == LARGER


def test_two_tales_of_one_address_leave_it_without_a_name(directory):
    """Else a false hint with the name of a linked peer would keep us from dialling the true one."""
    directory.heard(hint(), 0)
    directory.heard(hint(node=SMALLER), 1)
    assert due(directory, 2, {LARGER, SMALLER}) == [HERE]


def test_our_own_address_is_dialled_once_and_never_again(directory):
    directory.heard(hint(node=None), 0)
    (entry,) = directory.due(0, ())
    directory.proved(entry, OWN, 0)
    directory.heard(hint(node=None), 1)
    directory.heard(hint(node=OWN), 1)
    assert len(directory) == 0


def test_a_link_that_breaks_again_and_again_is_dialled_more_and_more_rarely(directory):
    directory.heard(hint(), 0)
    (entry,) = directory.due(0, ())
    pauses = []
    for _ in range(5):
        directory.proved(entry, LARGER, 0)
        directory.lost(LARGER, 0.5, 0)
        pauses.append(entry.next_dial)
    assert pauses == sorted(pauses)
    directory.lost(LARGER, 1000, 0)
    assert entry.next_dial <= REDIAL_MIN_S


def test_the_proven_are_remembered_the_latest_first(directory):
    addresses = [Address(f"10.0.0.{number}", 7277) for number in range(3)]
    for now, address in enumerate(addresses):
        directory.met(address, f"{now + 6}" * 40, now)
    directory.heard(hint(Address("10.0.0.99", 1)), 9)
    assert [candidate.address for candidate in directory.to_remember()] == addresses[::-1]
