"""A connection as a state machine: pairs of sessions driven against each other."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pmodel.errors import PeerProtocolError
from p2pmodel.limits import CHUNK_BYTES, REQUESTS_IN_FLIGHT_MAX, SNAPSHOT_BYTES_MAX
from p2pmodel.wire import CLOSED, NEED_DATA, LocalProtocolError, Role, Secrecy, Session, State, Unknown, decode, encode
from p2pmodel.wire.messages import (
    AskInventory,
    AskManifest,
    AskSnapshot,
    AskTicket,
    Attach,
    Attached,
    Bye,
    Chunk,
    Get,
    Hello,
    Inventory,
    ManifestPage,
    Pong,
    Problem,
    SnapshotPage,
    Ticket,
)

BLOB = b"\1" + bytes(range(32))
SIZE = 2 * CHUNK_BYTES + 7
DIGEST = bytes(32)


def framed(fields: dict[str, object]) -> bytes:
    body = msgpack.packb(fields)
    return len(body).to_bytes(4, "big") + body


def get(request: int, first: int = 0, count: int = 3) -> Get:
    return Get(request=request, blob=BLOB, size=SIZE, first=first, count=count)


def chunk(request: int, index: int) -> Chunk:
    return Chunk(request=request, index=index, size=7 if index == 2 else CHUNK_BYTES, digest=DIGEST)


# Opening


def test_the_listener_speaks_first_and_hello_makes_a_link(link):
    for side in link:
        assert (side.state, side.version) == (State.LINK, 1)


def test_a_ticket_over_tls_makes_a_data_connection(hello, say):
    dialler, listener = Session(Role.DIALLER), Session(Role.LISTENER)
    assert say(listener, dialler, hello) == hello
    assert say(dialler, listener, Attach(ticket=bytes(16))) == Attach(ticket=bytes(16))
    assert say(listener, dialler, Attached()) == Attached()
    assert (dialler.state, listener.state) == (State.FETCHING, State.SEEDING)


def test_a_bad_ticket_ends_the_connection(say):
    dialler, listener = Session(Role.DIALLER, Secrecy.PLAIN), Session(Role.LISTENER, Secrecy.PLAIN)
    say(dialler, listener, Attach(ticket=bytes(16)))
    assert say(listener, dialler, Problem(code="bad_ticket")) == Problem(code="bad_ticket")
    assert dialler.closed
    assert listener.closed
    assert dialler.next_event() is CLOSED


def test_a_plain_connection_cannot_become_a_link(hello):
    dialler, listener = Session(Role.DIALLER, Secrecy.PLAIN), Session(Role.LISTENER, Secrecy.PLAIN)
    for side in (dialler, listener):
        with pytest.raises(LocalProtocolError):
            side.send(hello)
    listener.receive_bytes(encode(hello))
    with pytest.raises(PeerProtocolError):
        listener.next_event()


def test_the_dialler_does_not_speak_before_it_is_greeted(hello):
    with pytest.raises(LocalProtocolError):
        Session(Role.DIALLER).send(hello)


@pytest.mark.scorecard("S33")
@pytest.mark.parametrize(("ours", "theirs", "agreed"), [((1, 3), (2, 5), 3), ((2, 2), (1, 2), 2), ((1, 4), (1, 1), 1)])
def test_both_sides_agree_on_the_highest_version_in_common(say, ours, theirs, agreed):
    dialler, listener = Session(Role.DIALLER, versions=ours), Session(Role.LISTENER, versions=theirs)
    say(listener, dialler, Hello(version_min=theirs[0], version=theirs[1], boot=bytes(8), port=1))
    say(dialler, listener, Hello(version_min=ours[0], version=ours[1], boot=bytes(8), port=1))
    assert (dialler.version, listener.version) == (agreed, agreed)


@pytest.mark.scorecard("S33")
def test_without_a_common_version_the_peer_is_told_and_left():
    session = Session(Role.DIALLER, versions=(1, 2))
    session.receive_bytes(encode(Hello(version=4, version_min=3, boot=bytes(8), port=1)))
    with pytest.raises(PeerProtocolError, match="we speak 1 to 2, the peer 3 to 4"):
        session.next_event()
    farewell = decode(session.farewell[4:])
    assert isinstance(farewell, Problem)
    assert farewell.code == "version"
    assert session.next_event() is CLOSED


def test_only_abilities_of_both_sides_count(say):
    dialler, listener = Session(Role.DIALLER), Session(Role.LISTENER)
    say(listener, dialler, Hello(version=1, version_min=1, abilities=["sing", "dance"], boot=bytes(8), port=1))
    say(dialler, listener, Hello(version=1, version_min=1, abilities=["dance", "fly"], boot=bytes(8), port=1))
    assert dialler.abilities == listener.abilities == {"dance"}


# Questions


def test_each_side_counts_its_own_requests(link, say):
    for asker, answerer in (link, link[::-1]):
        request = asker.next_request
        assert request == 1
        say(asker, answerer, AskTicket(request=request))
        assert asker.next_request == 2
        assert asker.questions_free == REQUESTS_IN_FLIGHT_MAX - 1
        say(answerer, asker, Ticket(request=request, ticket=bytes(16), plain=False))
        assert asker.questions_free == REQUESTS_IN_FLIGHT_MAX


def test_more_questions_than_the_bound_are_our_bug_and_their_offence(link, say):
    asker, answerer = link
    for request in range(1, REQUESTS_IN_FLIGHT_MAX + 1):
        say(asker, answerer, AskTicket(request=request))
    one_more = AskTicket(request=REQUESTS_IN_FLIGHT_MAX + 1)
    with pytest.raises(LocalProtocolError):
        asker.send(one_more)
    answerer.receive_bytes(encode(one_more))
    with pytest.raises(PeerProtocolError):
        answerer.next_event()


def test_a_problem_ends_a_question(link, say):
    asker, answerer = link
    say(asker, answerer, AskTicket(request=1))
    assert say(answerer, asker, Problem(request=1, code="busy")) == Problem(request=1, code="busy")
    assert asker.questions_free == REQUESTS_IN_FLIGHT_MAX
    with pytest.raises(LocalProtocolError):
        answerer.send(Problem(request=1, code="busy"))


ANSWERS_TO_NOTHING = [
    Ticket(request=9, ticket=bytes(16), plain=True),
    Inventory(request=9, boot=bytes(8), sequence=0, whole=True, entries=b"", last=True),
    ManifestPage(
        request=9, blob=BLOB, size=0, first=0, digests=b"", root=DIGEST, signer=DIGEST, signature=bytes(64), last=True
    ),
    SnapshotPage(request=9, data=b"", last=True),
    Problem(request=9, code="failed"),
]


@pytest.mark.parametrize("answer", ANSWERS_TO_NOTHING, ids=lambda answer: type(answer).__name__)
def test_an_answer_to_no_question_is_an_offence(link, answer):
    ours, theirs = link
    with pytest.raises(LocalProtocolError):
        theirs.send(answer)
    ours.receive_bytes(encode(answer))
    with pytest.raises(PeerProtocolError):
        ours.next_event()


def test_an_unknown_question_can_only_be_answered_with_a_problem(link):
    ours, _ = link
    ours.receive_bytes(framed({"t": "flood", "request": 1}))
    assert ours.next_event() == Unknown("flood", 1)
    with pytest.raises(LocalProtocolError):
        ours.send(Ticket(request=1, ticket=bytes(16), plain=True))
    assert decode(ours.send(Problem(request=1, code="unknown_message"))[4:]) == Problem(request=1, code="unknown_message")
    assert ours.state is State.LINK


def _manifest(first: int, count: int, *, last: bool, root: bytes = DIGEST) -> ManifestPage:
    seal = {"root": root, "signer": DIGEST, "signature": bytes(64)}
    return ManifestPage(request=1, blob=BLOB, size=SIZE, first=first, digests=bytes(32 * count), last=last, **seal)


def _inventory(boot: bytes, sequence: int, *, whole: bool, last: bool) -> Inventory:
    return Inventory(request=1, boot=boot, sequence=sequence, whole=whole, entries=BLOB + bytes(9), last=last)


MANIFEST = AskManifest(request=1, blob=BLOB)
INVENTORY = AskInventory(request=1, boot=b"boot-no1", since=3)


@pytest.mark.parametrize(
    ("question", "pages"),
    [
        (MANIFEST, [_manifest(1, 2, last=True)]),
        (MANIFEST, [_manifest(0, 1, last=False), _manifest(2, 1, last=True)]),
        (MANIFEST, [_manifest(0, 1, last=False), _manifest(1, 2, last=True, root=bytes([1] * 32))]),
        (INVENTORY, [_inventory(b"boot-no2", 9, whole=False, last=True)]),
        (INVENTORY, [_inventory(b"boot-no1", 9, whole=True, last=False), _inventory(b"boot-no1", 8, whole=True, last=True)]),
        (MANIFEST, [_inventory(b"boot-no1", 9, whole=True, last=True)]),
    ],
)
def test_pages_that_do_not_fit_together_are_an_offence(link, say, question, pages):
    asker, answerer = link
    say(asker, answerer, question)
    *fitting, odd = pages
    for page in fitting:
        say(answerer, asker, page)
    with pytest.raises(LocalProtocolError):
        answerer.send(odd)
    asker.receive_bytes(encode(odd))
    with pytest.raises(PeerProtocolError):
        asker.next_event()


def test_a_listing_beyond_its_bound_is_an_offence(link, say):
    asker, answerer = link
    say(asker, answerer, AskSnapshot(request=1, hub="huggingface", kind="model", name="org/model", revision="main"))
    frame = encode(SnapshotPage(request=1, data=bytes(60_000), last=False))
    for _ in range(SNAPSHOT_BYTES_MAX // 60_000):
        asker.receive_bytes(frame)
        asker.next_event()
    asker.receive_bytes(frame)
    with pytest.raises(PeerProtocolError, match="listing"):
        asker.next_event()


# Chunks


def test_a_chunk_and_its_bytes_pass_in_any_pieces(data, say):
    dialler, listener = data
    say(dialler, listener, get(1, first=1, count=2))
    body = bytes(range(256)) * (CHUNK_BYTES // 256)
    frame = listener.send(chunk(1, 1))
    assert listener.body_to_send == CHUNK_BYTES
    dialler.receive_bytes(frame + body[:100])
    assert dialler.next_event() == chunk(1, 1)
    assert dialler.body_remaining == CHUNK_BYTES

    into = bytearray(CHUNK_BYTES)
    assert dialler.take_body(memoryview(into)[:60]) == 60
    assert dialler.take_body(memoryview(into)[60:]) == 40
    assert dialler.take_body(memoryview(into)[100:]) == 0
    into[100:] = body[100:]
    dialler.body_received(CHUNK_BYTES - 100)
    assert into == body
    assert dialler.next_event() is NEED_DATA

    listener.body_sent(CHUNK_BYTES)
    dialler.receive_bytes(listener.send(chunk(1, 2)) + b"1234567" + encode(Bye()))
    assert dialler.next_event() == chunk(1, 2)
    assert dialler.take_body(memoryview(into)) == 7
    assert dialler.next_event() == Bye()
    assert dialler.next_event() is CLOSED


def test_no_frame_is_sent_in_the_middle_of_a_chunk(data, say):
    dialler, listener = data
    say(dialler, listener, get(1))
    listener.send(chunk(1, 0))
    listener.body_sent(CHUNK_BYTES - 1)
    with pytest.raises(LocalProtocolError):
        listener.send(Bye())
    with pytest.raises(LocalProtocolError):
        listener.body_sent(2)
    assert say(dialler, listener, get(2)) == get(2)  # the other direction goes on


def test_no_event_is_taken_in_the_middle_of_a_chunk(data, say):
    dialler, listener = data
    say(dialler, listener, get(1))
    say(listener, dialler, chunk(1, 0))
    for wrong in (dialler.next_event, lambda: dialler.body_received(CHUNK_BYTES + 1)):
        with pytest.raises(LocalProtocolError):
            wrong()
    dialler.receive_bytes(b"x")
    with pytest.raises(LocalProtocolError):
        dialler.body_received(1)  # that byte is still in the session


@pytest.mark.parametrize(
    "wrong",
    [
        chunk(1, 0),
        chunk(1, 2),
        chunk(2, 1),
        Chunk(request=1, index=1, size=CHUNK_BYTES - 1, digest=DIGEST),
        Ticket(request=1, ticket=bytes(16), plain=True),
        Pong(nonce=1),
        Problem(request=2, code="not_held"),
        get(1),
    ],
)
def test_only_the_chunks_asked_for_come_in_their_order(data, say, wrong):
    dialler, listener = data
    say(dialler, listener, get(1, first=1, count=2))
    with pytest.raises(LocalProtocolError):
        listener.send(wrong)
    dialler.receive_bytes(encode(wrong))
    with pytest.raises(PeerProtocolError):
        dialler.next_event()


def test_requests_are_pipelined_and_may_be_cut_short(data, say):
    dialler, listener = data
    for request in (1, 2):
        say(dialler, listener, get(request, first=2, count=1))
    assert say(listener, dialler, Problem(request=1, code="not_held")) == Problem(request=1, code="not_held")
    assert say(listener, dialler, chunk(2, 2)) == chunk(2, 2)


# Ends and offences


def test_a_4_gib_length_is_refused_before_its_bytes_come(link):
    ours, _ = link
    ours.receive_bytes(b"\xff\xff\xff\xff")
    with pytest.raises(PeerProtocolError):
        ours.next_event()
    assert ours.next_event() is CLOSED


def test_after_an_offence_the_peer_can_be_told_why(link):
    ours, theirs = link
    ours.receive_bytes(encode(get(1)))
    with pytest.raises(PeerProtocolError):
        ours.next_event()
    theirs.receive_bytes(ours.farewell)
    assert theirs.next_event() == Problem(code="bad_request", text="get may not come in state link")


def test_nothing_can_be_told_in_the_middle_of_a_chunk(data, say):
    dialler, listener = data
    say(dialler, listener, get(1))
    listener.send(chunk(1, 0))
    listener.receive_bytes(encode(Pong(nonce=1)))
    with pytest.raises(PeerProtocolError):
        listener.next_event()
    assert listener.farewell == b""


def test_after_bye_nothing_is_sent(link, say):
    ours, theirs = link
    assert say(ours, theirs, Bye(reason="done")) == Bye(reason="done")
    for side in link:
        assert side.closed
        with pytest.raises(LocalProtocolError):
            side.send(Pong(nonce=1))


@pytest.mark.parametrize("cut", [0, 3, 10])
def test_the_end_of_the_stream_closes_after_what_came_whole(link, cut):
    ours, _ = link
    ours.receive_bytes(encode(Pong(nonce=1)) + encode(Pong(nonce=2))[:cut])
    ours.receive_bytes(b"")
    assert ours.next_event() == Pong(nonce=1)
    assert ours.next_event() is CLOSED
    assert ours.farewell == b""


def test_a_driver_that_does_not_take_events_is_stopped(link):
    ours, _ = link
    ours.receive_bytes(bytes(70_000))
    with pytest.raises(LocalProtocolError):
        ours.receive_bytes(b"x")


def _conversation() -> tuple[bytes, list[object]]:
    """What a seeding side says over a plain connection, and the events it makes."""
    bodies = {1: bytes(CHUNK_BYTES), 2: b"1234567"}
    said = [Attached(), chunk(1, 1), Problem(request=0, code="unknown_message"), chunk(1, 2), Bye()]
    stream, events = b"", []
    for message in said:
        stream += encode(message)
        events.append(message)
        if isinstance(message, Chunk):
            stream += bodies[message.index]
            events.append(len(bodies[message.index]))
    return stream, events


STREAM, EVENTS = _conversation()


@given(st.lists(st.one_of(st.integers(1, 300), st.integers(1, 60_000)), min_size=1, max_size=30))
def test_however_the_stream_is_split_the_events_are_the_same(cuts: list[int]):
    session = Session(Role.DIALLER, Secrecy.PLAIN)
    session.send(Attach(ticket=bytes(16)))
    events: list[object] = []
    position, step, asked = 0, 0, False
    while position < len(STREAM):
        # Short pieces where frames are, long ones inside the large chunk: 4 MiB in single bytes would take minutes.
        piece = cuts[step % len(cuts)] if session.body_remaining < 100_000 else 60_000
        session.receive_bytes(STREAM[position : position + piece])
        position, step = position + piece, step + 1
        while True:
            if session.body_remaining:
                session.take_body(memoryview(bytearray(65_536)))
                if session.body_remaining:
                    break
            event = session.next_event()
            if event in (NEED_DATA, CLOSED):
                break
            events.append(event)
            if isinstance(event, Chunk):
                events.append(event.size)
            if not asked:
                session.send(get(1, first=1, count=2))
                asked = True
    assert events == EVENTS


@given(st.sampled_from(list(Role)), st.sampled_from(list(Secrecy)), st.lists(st.binary(max_size=40), max_size=8))
def test_noise_from_a_peer_never_breaks_a_session(role: Role, secrecy: Secrecy, pieces: list[bytes]):
    session = Session(role, secrecy)
    for piece in pieces:
        session.receive_bytes(piece)
        try:
            while session.next_event() is not NEED_DATA:
                if session.closed:
                    return
        except PeerProtocolError:
            assert session.closed
            return
