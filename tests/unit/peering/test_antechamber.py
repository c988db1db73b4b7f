"""Who makes way when all places before the proof are taken."""

import ssl
from contextlib import ExitStack, suppress

import pytest
import trio

from p2pmodel.limits import UNPROVEN_CONNECTIONS_MAX, UNPROVEN_PER_ADDRESS_MAX
from p2pmodel.network import Address
from p2pmodel.peering import Identity, Membership, TlsSecure
from p2pmodel.peering.antechamber import Antechamber

pytestmark = pytest.mark.scorecard("S12")


class Room:
    """An antechamber and who came in."""

    def __init__(self):
        self.antechamber, self.leaving = Antechamber(), ExitStack()

    def come(self, host):
        scope = trio.CancelScope()
        place = self.leaving.enter_context(self.antechamber.place(host, scope))
        return place, scope


@pytest.fixture
def room():
    room = Room()
    with room.leaving:
        yield room


async def test_a_crowd_from_one_address_pushes_itself_aside(room):
    _, ours = room.come("10.0.0.1")
    crowd = [room.come("10.0.0.66")[1] for _ in range(2 * UNPROVEN_CONNECTIONS_MAX)]
    assert not ours.cancel_called
    assert [scope.cancel_called for scope in crowd] == [True] * (len(crowd) - UNPROVEN_CONNECTIONS_MAX + 1) + [False] * (
        UNPROVEN_CONNECTIONS_MAX - 1
    )


async def test_who_is_being_answered_goes_after_all_who_only_stand_there(room):
    place, ours = room.come("10.0.0.1")
    place.answering()
    for number in range(10 * UNPROVEN_CONNECTIONS_MAX):
        room.come(f"10.0.{number >> 8}.{number & 255}")
    assert not ours.cancel_called


async def test_who_are_all_being_answered_make_way_like_others(room):
    crowd = [room.come(f"10.1.0.{number}") for number in range(UNPROVEN_CONNECTIONS_MAX)]
    for place, _ in crowd:
        place.answering()
    room.come("10.0.0.1")
    assert [scope.cancel_called for _, scope in crowd] == [True] + [False] * (len(crowd) - 1)


async def test_an_address_has_so_many_places_and_no_more(room):
    for _ in range(UNPROVEN_PER_ADDRESS_MAX):
        assert not room.antechamber.refuses("10.0.0.66")
        room.come("10.0.0.66")
    assert room.antechamber.refuses("10.0.0.66")
    assert not room.antechamber.refuses("10.0.0.1")


class Canned:
    """A stream on which so much comes, and then nothing."""

    remote = local = Address("10.0.0.1", 1)

    def __init__(self, data):
        self.data, self.drained = data, trio.Event()

    async def receive_into(self, buffer):
        if not self.data:
            self.drained.set()
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        count = min(len(buffer), len(self.data))
        buffer[:count], self.data = self.data[:count], self.data[count:]
        return count

    async def send_all(self, data):
        await trio.lowlevel.checkpoint()


def client_hello(secure):
    tag, context = secure._clients[0]
    out = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=tag).do_handshake()
    return out.read()


@pytest.mark.parametrize("missing", [0, 1], ids=["whole", "half"])
async def test_a_hello_is_answered_once_it_is_whole(nursery, missing):
    dialler, acceptor = (TlsSecure(Membership.open(Identity.generate())) for _ in range(2))
    hello, answered = client_hello(dialler), []
    stream = Canned(hello[: len(hello) - missing])
    nursery.start_soon(acceptor.wrap_accepted, stream, lambda: answered.append(1))
    await stream.drained.wait()
    assert bool(answered) == (not missing)
    nursery.cancel_scope.cancel()
