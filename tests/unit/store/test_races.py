"""Two sources, one chunk, two threads: what is served and sealed is what was checked, whoever comes last."""

import threading

import pytest
from fakes.stores import sample, seal_of

from p2pmodel.content import Grade, chunk_digest
from p2pmodel.errors import WrongBytesError
from p2pmodel.store import Store
from p2pmodel.store.disk import Disk

ONE = sample(1)
FALSE = memoryview(b"false")


class SlowDisk(Disk):
    """The first write waits until it is told to go on."""

    def __init__(self):
        super().__init__(fsync=False)
        self.reached, self.go_on = threading.Event(), threading.Event()

    def write(self, fd, data, offset):
        if not self.reached.is_set():
            self.reached.set()
            assert self.go_on.wait(10)
        super().write(fd, data, offset)


@pytest.fixture
def disk():
    return SlowDisk()


@pytest.fixture
def stored(tmp_path, disk):
    store = Store(tmp_path / "state", disk=disk)
    opened = store.open(ONE.blob, private=False)
    yield opened
    opened.close()
    store.close()


def test_a_peers_bytes_never_land_on_our_own_read_of_the_same_chunk(stored, disk):
    """The hub's bytes are on their way to the disk when a peer's, with a digest of their own, come for the same chunk."""
    outcome = []

    def peer():
        try:
            stored.write(1, FALSE, chunk_digest(FALSE), Grade.SINGLE)
        except WrongBytesError as error:
            outcome.append(error)

    hub = threading.Thread(target=ONE.write, args=(stored, [1]))
    hub.start()
    assert disk.reached.wait(10)
    second = threading.Thread(target=peer)
    second.start()
    second.join(0.1)
    disk.go_on.set()
    hub.join()
    second.join()
    assert outcome
    assert 1 in stored.own
    assert stored.digest(1) == ONE.digest(1)
    buffer = memoryview(bytearray(len(FALSE)))
    stored.read_into(1, buffer)
    assert buffer == ONE.chunk(1)


def test_what_was_replaced_after_it_was_hashed_is_not_sealed(stored, disk):
    disk.go_on.set()
    ONE.write(stored, grade=Grade.SINGLE)
    seal = seal_of(stored)
    stored.write(1, FALSE, chunk_digest(FALSE), Grade.SINGLE)
    with pytest.raises(WrongBytesError):
        stored.finish(None, seal)
    assert not stored.sealed
