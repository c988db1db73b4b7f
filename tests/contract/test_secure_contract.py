"""What every `Secure` keeps: TLS as in a real cluster, and the simulation's stand-in for it."""

import pytest
import trio
import trio.testing
from simulation.secure import PlainSecure

from p2pmodel.errors import StrangerError
from p2pmodel.network import Address
from p2pmodel.peering import SECURE_FIRST_BYTE, Identity, Membership, TcpNetwork, TlsSecure, new_join_token


class TlsCluster:
    def __init__(self):
        self.token = new_join_token()

    def member(self):
        identity = Identity.generate()
        return identity.node, TlsSecure(Membership.closed(identity, self.token))


class PlainCluster:
    made = 0

    def __init__(self):
        type(self).made += 1
        self.number = self.made

    def member(self):
        node = Identity.generate().node
        return node, PlainSecure(node, self.number)


@pytest.fixture(params=[TlsCluster, PlainCluster], ids=["tls", "plain"])
def new_cluster(request):
    return request.param


@pytest.fixture
async def streams(nursery):
    """Both ends of a TCP connection."""
    listener = await TcpNetwork().listen("127.0.0.1", 0)
    accepted, over = trio.Event(), trio.Event()
    ends = []

    async def handle(stream):
        ends.append(stream)
        accepted.set()
        await over.wait()

    nursery.start_soon(listener.serve, handle, nursery)
    async with await TcpNetwork().dial(Address("127.0.0.1", listener.port)) as dialled:
        await accepted.wait()
        yield dialled, ends[0]
        over.set()


async def outcome(wrap, stream):
    try:
        return await wrap(stream)
    except StrangerError as error:
        await trio.aclose_forcefully(stream)
        return error


async def both(dialled, dialler, accepted, acceptor):
    """What each side made of the other."""
    found = {}

    async def side(name, wrap, stream):
        found[name] = await outcome(wrap, stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(side, "dialler", dialler.wrap_dialled, dialled)
        nursery.start_soon(side, "acceptor", acceptor.wrap_accepted, accepted)
    return found["dialler"], found["acceptor"]


async def test_members_learn_each_others_names_and_can_talk(new_cluster, streams):
    cluster = new_cluster()
    (one, dialler), (two, acceptor) = cluster.member(), cluster.member()
    (ours, seen), (theirs, seen_by_them) = await both(streams[0], dialler, streams[1], acceptor)
    assert (seen, seen_by_them) == (two, one)
    await theirs.send_all(b"you first")
    assert await ours.peek() == b"y"
    assert await ours.receive_some(1) == b"y"
    buffer = bytearray(100)
    assert await ours.receive_into(memoryview(buffer)) == 8
    assert buffer[:8] == b"ou first"
    assert (ours.remote, theirs.local) == (theirs.local, ours.remote)
    await theirs.aclose()
    assert await ours.receive_some() == b""
    await ours.aclose()


async def test_a_member_of_another_cluster_is_a_stranger(new_cluster, streams):
    (_, dialler), (_, acceptor) = new_cluster().member(), new_cluster().member()
    for found in await both(streams[0], dialler, streams[1], acceptor):
        assert isinstance(found, StrangerError)


async def test_the_dialler_speaks_first_and_with_the_byte_that_tells_secure_from_plain(new_cluster, streams, nursery):
    _, dialler = new_cluster().member()
    with trio.CancelScope() as scope:
        nursery.start_soon(outcome, dialler.wrap_dialled, streams[0])
        assert await streams[1].peek() == SECURE_FIRST_BYTE
        scope.cancel()
    await streams[1].aclose()


async def test_one_who_closes_without_a_word_is_a_stranger(new_cluster, streams):
    _, acceptor = new_cluster().member()
    await streams[0].aclose()
    with pytest.raises(StrangerError):
        await acceptor.wrap_accepted(streams[1])


async def test_one_who_talks_nonsense_is_a_stranger(new_cluster, streams):
    _, acceptor = new_cluster().member()
    await streams[0].send_all(SECURE_FIRST_BYTE + b"\x00" * 100)
    with pytest.raises(StrangerError):
        await acceptor.wrap_accepted(streams[1])


async def test_one_who_says_nothing_is_a_stranger_in_time(new_cluster, mock_clock):
    """Over a pipe in memory, so that the clock may jump."""
    mock_clock.autojump_threshold = 0
    _, acceptor = new_cluster().member()
    here, _ = trio.testing.memory_stream_pair()
    with pytest.raises(StrangerError):
        await acceptor.wrap_accepted(Silent(here))


class Silent:
    """A stream on which nothing ever comes."""

    def __init__(self, inner):
        self.inner = inner
        self.remote = self.local = Address("10.0.0.1", 1)

    def __getattr__(self, name):
        return getattr(self.inner, name)

    async def receive_into(self, buffer):
        await trio.sleep_forever()
