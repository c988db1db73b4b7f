"""The inventory: a number, a digest and a bounded history."""

import random

from p2pmodel.content import Blob, BlobId
from p2pmodel.limits import INVENTORY_CHANGES_MAX
from p2pmodel.store.inventory import Inventory
from p2pmodel.wire.packed import PARTIAL, REMOVED, SEALED


def blob(number):
    return Blob(BlobId("sha256", f"{number:064x}"), number)


def test_saying_the_same_twice_is_no_change():
    inventory = Inventory()
    inventory.set(blob(1), PARTIAL)
    inventory.set(blob(1), PARTIAL)
    inventory.set(blob(2), REMOVED)
    assert inventory.sequence == 2


def test_a_delta_has_the_latest_change_of_each_blob():
    inventory = Inventory()
    for state in (PARTIAL, SEALED, REMOVED):
        inventory.set(blob(1), state)
    inventory.set(blob(2), PARTIAL)
    assert [(entry.size, entry.state) for entry in inventory.since(1)] == [(1, REMOVED), (2, PARTIAL)]
    assert [(entry.size, entry.state) for entry in inventory.since(4)] == [(2, PARTIAL)]


def test_history_is_bounded_and_says_so():
    inventory = Inventory()
    for number in range(INVENTORY_CHANGES_MAX + 10):
        inventory.set(blob(number), PARTIAL)
    assert inventory.since(10) is None
    assert len(inventory.since(11)) == INVENTORY_CHANGES_MAX
    assert inventory.since(inventory.sequence + 1) is None


def test_the_digest_depends_on_what_is_there_and_not_on_the_way_there():
    rng = random.Random(7)
    wandering, direct = Inventory(), Inventory()
    states = {}
    for _ in range(500):
        one, state = blob(rng.randrange(20)), rng.choice([REMOVED, PARTIAL, SEALED])
        wandering.set(one, state)
        states[one] = state
    direct.begin_with({one: state for one, state in states.items() if state != REMOVED})
    assert wandering.digest == direct.digest
    assert direct.sequence == 1
    assert direct.since(1) == []
