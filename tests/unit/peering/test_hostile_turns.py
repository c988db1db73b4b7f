"""Turns that once ended the whole daemon, or made it run hot, because of one peer, one question or one full table."""

import random

import pytest
import trio
import trio.testing

from p2pmodel.delivery import Buffers
from p2pmodel.errors import ShortAnswerError, SourceError
from p2pmodel.limits import BUFFERS, CHUNK_BYTES, CHUNK_PROGRESS_TIMEOUT_S, CHUNK_TIME_MAX_S, DATA_IDLE_S, DIALS_AT_ONCE_MAX
from p2pmodel.network import Address, Candidate
from p2pmodel.peering.connection import Connection
from p2pmodel.peering.dialler import Dialler
from p2pmodel.peering.directory import Directory
from p2pmodel.peering.source import PeerSource, _Idle
from p2pmodel.peering.statistics import PeeringStatistics
from p2pmodel.wire import Role, Session
from p2pmodel.wire.messages import AskSnapshot


async def linked_pair(memory_node):
    one, two = await memory_node(), await memory_node()
    one.hear_of(two)
    await one.events.until_linked()
    await two.events.until_linked()
    return one, two


@pytest.mark.parametrize("revision", ["\n", "a\x01b", "x" * 256, ""])
async def test_a_question_that_no_frame_can_hold_fails_alone(autojump_clock, memory_node, revision):
    one, two = await linked_pair(memory_node)
    question = AskSnapshot(request=1, hub="huggingface", kind="model", name="org/name", revision=revision)
    with pytest.raises(SourceError, match="cannot be asked"):
        await one.peering.ask(two.id, question)
    await trio.sleep(1)
    assert one.peering.linked() == [two.id]


class Closing:
    """A connection whose farewell takes a moment."""

    def __init__(self):
        self.stream = self

    async def aclose(self):
        await trio.sleep(0.5)


async def test_idle_connections_that_expire_may_be_taken_for_an_order_meanwhile(autojump_clock):
    source = PeerSource.__new__(PeerSource)
    source._idle = [_Idle(Closing(), 0.0), _Idle(Closing(), 0.0)]

    async def take():
        await trio.sleep(0.1)
        if source._idle:
            source._idle.pop()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.expire, DATA_IDLE_S)
        nursery.start_soon(take)
    assert source._idle == []


class NobodyAnswers:
    def __init__(self):
        self.dials = 0

    async def dial(self, address):
        self.dials += 1
        await trio.sleep_forever()


class Watched(Directory):
    looks = 0

    def next_due(self, linked):
        self.looks += 1
        assert self.looks < 10_000, "the dialler spins"
        return super().next_due(linked)


async def test_a_dialler_whose_hands_are_full_waits_for_one_to_be_free(autojump_clock):
    directory = Watched(own="0" * 40, near=lambda host: True, dice=random.Random(1))
    network = NobodyAnswers()
    dialler = Dialler(
        own="0" * 40,
        directory=directory,
        links={},
        network=network,
        secure=None,
        hello=None,
        live=None,
        statistics=PeeringStatistics(),
        other_version=None,
    )
    for number in range(200):
        directory.heard(Candidate(Address(f"10.0.0.{number}", 7277), None, "mdns"), trio.current_time())
    with trio.move_on_after(4.5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dialler.run, nursery)
            await trio.sleep(4)
            assert network.dials == DIALS_AT_ONCE_MAX
            nursery.cancel_scope.cancel()


class Trickle:
    """A stream that has a byte every few seconds, for ever."""

    async def receive_body(self, buffer, seen):
        await trio.sleep(CHUNK_PROGRESS_TIMEOUT_S - 1)
        buffer[:1] = b"x"
        return 1


async def allow_all(count):
    await trio.lowlevel.checkpoint()
    return count


def nothing(_):
    pass


async def test_a_peer_that_trickles_does_not_keep_a_buffer_for_ever(autojump_clock):
    """A byte now and then is progress and never a chunk: a few such peers would hold all the buffers of a daemon."""
    connection = Connection(Trickle(), Session(Role.DIALLER), patience_s=CHUNK_PROGRESS_TIMEOUT_S)
    connection.session.body_remaining = CHUNK_BYTES
    began = trio.current_time()
    with pytest.raises(ShortAnswerError):
        await connection.receive_body(memoryview(bytearray(CHUNK_BYTES)), allow_all, nothing, nothing)
    assert trio.current_time() - began == CHUNK_TIME_MAX_S


async def test_what_our_own_limit_costs_is_not_the_peers_time(autojump_clock):
    class Ready:
        async def receive_body(self, buffer, seen):
            await trio.lowlevel.checkpoint()
            return len(buffer)

    async def slowly(count):
        await trio.sleep(1)
        return min(count, CHUNK_BYTES // 400)

    connection = Connection(Ready(), Session(Role.DIALLER), patience_s=CHUNK_PROGRESS_TIMEOUT_S)
    connection.session.body_remaining = CHUNK_BYTES
    await connection.receive_body(memoryview(bytearray(CHUNK_BYTES)), slowly, nothing, nothing)
    assert trio.current_time() > CHUNK_TIME_MAX_S


async def test_peers_never_hold_all_the_buffers(autojump_clock):
    buffers = Buffers()

    async def hold():
        async with buffers.take_for_peer():
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for _ in range(2 * BUFFERS):
            nursery.start_soon(hold)
        await trio.sleep(1)
        with trio.fail_after(1):
            async with buffers.take():
                pass
        nursery.cancel_scope.cancel()
