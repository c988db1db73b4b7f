"""Links between whole `Peering` objects, in virtual time."""

import pytest
import trio
from simulation.secure import PlainSecure

from p2pmodel.content import BlobId
from p2pmodel.errors import PeerProtocolError, ShortAnswerError, SourceError
from p2pmodel.limits import HEARTBEAT_S, HEARTBEATS_MISSED_MAX, SEND_QUEUE_MESSAGES_MAX
from p2pmodel.network import Address
from p2pmodel.wire import CLOSED, NEED_DATA, Role, Session
from p2pmodel.wire.messages import AskInventory, AskManifest, Hello, HubBusy, Inventory, Ping, Pong, Problem
from p2pmodel.wire.packed import InventoryEntry, pack_entries

BLOB = BlobId("sha256", "cd" * 32)
BY_HAND = "e" * 40


async def never(peer, question):
    await trio.sleep_forever()


async def linked_pair(memory_node, **settings):
    one, two = await memory_node(**settings), await memory_node(**settings)
    one.hear_of(two)
    await one.events.until_linked()
    await two.events.until_linked()
    return one, two


async def test_a_candidate_becomes_a_link_on_both_sides(autojump_clock, memory_node):
    one, two = await linked_pair(memory_node)
    assert one.peering.linked() == [two.id]
    assert two.peering.linked() == [one.id]
    assert one.peering.peers()[0].state == "linked"


async def test_two_nodes_that_hear_of_each_other_at_once_end_with_one_link(autojump_clock, memory_node, memory_network):
    one, two = await memory_node(), await memory_node()
    one.hear_of(two)
    two.hear_of(one)
    await trio.sleep(60)
    assert one.peering.linked() == [two.id]
    assert two.peering.linked() == [one.id]
    links = [next(iter(each.peering._links)).link for each in (one, two)]
    assert {link.dialler for link in links} == {min(one.id, two.id)}


async def test_of_two_who_know_each_others_names_only_the_smaller_dials(autojump_clock, memory_node, memory_network):
    one, two = await memory_node(), await memory_node()
    one.hear_of(two, name=two.id)
    two.hear_of(one, name=one.id)
    await trio.sleep(10)
    assert [host for _, host, _ in memory_network.dials] == [one.host]


async def test_messages_arrive_in_order(autojump_clock, memory_node):
    one, two = await linked_pair(memory_node)
    sent = [HubBusy(upstream="hub.example", retry_after=float(n)) for n in range(200)]
    for message in sent:
        one.peering.send(two.id, message)
    await two.events.until(lambda each: each[2:] == (sent[-1],))
    assert [each[2] for each in two.events.log if each[0] == "received"] == sent


async def test_a_message_to_a_peer_that_is_gone_is_no_error(autojump_clock, memory_node):
    one = await memory_node()
    one.peering.send("f" * 40, HubBusy(upstream="hub.example", retry_after=1))
    with pytest.raises(SourceError):
        await one.peering.ask("f" * 40, AskInventory(request=1, boot=bytes(8), since=0))


async def test_a_question_gets_all_pages_of_its_answer(autojump_clock, memory_node):
    one, two = await linked_pair(memory_node)
    pages = [
        Inventory(
            request=1,
            boot=b"b" * 8,
            sequence=3,
            whole=True,
            entries=pack_entries([InventoryEntry(BLOB, n, 2)]),
            last=n == 2,
        )
        for n in range(3)
    ]
    two.events.pages[AskInventory] = pages
    for _ in range(2):  # answers carry the id of their own question
        answer = await one.peering.ask(two.id, AskInventory(request=1, boot=bytes(8), since=0))
        assert [page.entries for page in answer] == [page.entries for page in pages]


async def test_a_problem_instead_of_an_answer_is_a_source_error(autojump_clock, memory_node):
    one, two = await linked_pair(memory_node)
    with pytest.raises(SourceError, match="not_held"):
        await one.peering.ask(two.id, AskManifest(request=1, blob=BLOB.to_bytes()))


async def test_a_question_without_an_answer_ends_after_its_timeout(autojump_clock, memory_node):
    one, two = await linked_pair(memory_node)
    two.events.answer = never
    began = trio.current_time()
    with pytest.raises(ShortAnswerError, match="did not answer"):
        await one.peering.ask(two.id, AskManifest(request=1, blob=BLOB.to_bytes()))
    assert trio.current_time() - began == pytest.approx(10)
    assert one.peering.linked() == [two.id]


async def test_questions_fail_when_the_link_breaks(autojump_clock, memory_node):
    one, two = await linked_pair(memory_node)
    two.events.answer = never
    two.scope.cancel()
    with pytest.raises(ShortAnswerError, match="link broke"):
        await one.peering.ask(two.id, AskManifest(request=1, blob=BLOB.to_bytes()))


async def test_a_silent_peer_is_unlinked_after_three_missed_heartbeats(autojump_clock, memory_node, memory_network):
    one, _ = await linked_pair(memory_node)
    await trio.sleep(60)
    assert ("unlinked", _.id) not in one.events.log
    began = trio.current_time()
    memory_network.stall()
    await one.events.until_unlinked()
    silence = HEARTBEAT_S * HEARTBEATS_MISSED_MAX
    assert silence <= trio.current_time() - began <= silence + 2 * HEARTBEAT_S
    assert one.peering.statistics.links_cut == {"silent": 1}


async def test_a_peer_that_comes_back_is_linked_again_within_fifteen_seconds(autojump_clock, memory_node, memory_network):
    one, two = await linked_pair(memory_node)
    await trio.sleep(100)
    memory_network.stall()
    await one.events.until_unlinked()
    await two.events.until_unlinked()
    began = trio.current_time()
    await one.events.until_linked(times=2)
    assert trio.current_time() - began < 15


async def test_a_peer_that_does_not_drain_its_queue_is_cut_off(autojump_clock, memory_node, memory_network):
    one, two = await linked_pair(memory_node)
    memory_network.stall()
    for _ in range(SEND_QUEUE_MESSAGES_MAX + 100):
        one.peering.send(two.id, HubBusy(upstream="hub.example", retry_after=1))
    await one.events.until_unlinked()
    assert one.peering.statistics.links_cut == {"overflow": 1}


async def test_leaving_says_bye_so_that_the_other_side_knows_at_once(autojump_clock, memory_node):
    one, two = await linked_pair(memory_node)
    began = trio.current_time()
    two.scope.cancel()
    await one.events.until_unlinked()
    assert trio.current_time() - began < 1
    assert one.peering.statistics.links_cut == {"bye": 1}


async def test_peers_tell_each_other_of_peers(autojump_clock, memory_node):
    one, two, three = await memory_node(), await memory_node(), await memory_node()
    one.hear_of(two)
    three.hear_of(two)
    await trio.sleep(5)
    assert set(one.peering.linked()) == {two.id, three.id}
    assert set(three.peering.linked()) == {one.id, two.id}


async def test_another_cluster_is_refused_and_the_failure_counted(autojump_clock, memory_node):
    one, two = await memory_node(), await memory_node(cluster=1)
    one.hear_of(two)
    await trio.sleep(3)
    assert not one.peering.linked()
    assert one.peering.statistics.handshakes_failed > 0
    assert two.peering.statistics.handshakes_failed > 0


async def test_a_restarted_peer_replaces_its_old_link(autojump_clock, memory_node, memory_network):
    """Its host lost power: the old link looks alive, yet the new daemon's is the true one."""
    one, two = await linked_pair(memory_node)
    for stream in memory_network.streams:
        if stream.local.host == two.host:
            stream.stalled = True
    again = await memory_node(node=two.id, boot=b"reborn!!")
    again.hear_of(one)
    await again.events.until_linked()
    await trio.sleep(1)
    assert [each[0] for each in one.events.log] == ["linked", "unlinked", "linked"]
    assert one.peering.statistics.links_cut["replaced"] == 1


async def test_inventories_of_peers_are_kept_in_step(autojump_clock, memory_node):
    one, two = await linked_pair(memory_node)
    two.inventory = (7, b"d" * 16)
    entries = pack_entries([InventoryEntry(BLOB, 10, 2)])
    two.events.pages[AskInventory] = [
        Inventory(request=1, boot=bytes([2]) * 8, sequence=7, whole=True, entries=entries, last=True)
    ]
    await trio.sleep(2 * HEARTBEAT_S)
    assert one.peering.holders(BLOB) == {two.id: 2}
    assert one.peering.peers()[0].blobs == 1
    two.scope.cancel()
    await one.events.until_unlinked()
    assert one.peering.holders(BLOB) == {}


async def test_a_node_that_hears_of_itself_does_not_dial_itself_twice(autojump_clock, memory_node, memory_network):
    one = await memory_node()
    one.hear_of(one, name=one.id)
    one.hear_of(one)
    await trio.sleep(100)
    assert len(memory_network.dials) == 1
    assert not one.peering.linked()


async def test_a_node_whose_doors_are_closed_keeps_its_links_and_takes_no_more(autojump_clock, memory_node):
    one, two = await linked_pair(memory_node)
    one.peering.close_doors()
    three = await memory_node()
    three.hear_of(one)
    await trio.sleep(20)
    assert one.peering.linked() == [two.id]
    assert one.id not in three.peering.linked()


@pytest.fixture
async def by_hand(memory_network):
    """A member whose link the test drives itself: `await by_hand(node)` gives its stream and session."""

    async def dial(node, versions=(1, 1)):
        stream = await memory_network.at("10.0.0.99").dial(node.address)
        stream, _ = await PlainSecure(BY_HAND).wrap_dialled(stream)
        session = Session(Role.DIALLER, versions=versions)
        if versions == (1, 1):
            await events_until(stream, session, Hello)
            await stream.send_all(session.send(Hello(version=1, version_min=1, boot=bytes(8), port=0)))
            await node.events.until_linked()
        return stream, session

    return dial


async def test_an_unknown_message_is_answered_with_a_problem(autojump_clock, memory_node, by_hand):
    one = await memory_node()
    stream, session = await by_hand(one)
    await stream.send_all(b"\x00\x00\x00\x0b" + b"\x81\xa1t\xa7unheard")
    problem = await events_until(stream, session, Problem)
    assert problem.code == "unknown_message"
    assert one.peering.linked() == [BY_HAND]


@pytest.mark.parametrize(
    "garbage",
    [b"\xff\xff\xff\xff", b"\0\0\0\5hello", b"\0\0\xea\x60" + b"\x91" * 60_000],
    ids=["a 4 GiB length", "no msgpack", "nested msgpack"],
)
async def test_a_member_that_sends_garbage_is_told_why_and_cut(autojump_clock, memory_node, by_hand, garbage):
    one = await memory_node()
    stream, session = await by_hand(one)
    await stream.send_all(garbage)
    problem = await events_until(stream, session, Problem)
    assert problem.code == "bad_request"
    await one.events.until_unlinked()
    assert one.peering.statistics.protocol_errors == {"link": 1}
    assert one.peering.statistics.links_cut == {"protocol": 1}


@pytest.mark.scorecard("S33")
async def test_a_peer_without_a_common_version_is_told_so(autojump_clock, memory_node, by_hand):
    one = await memory_node()
    stream, session = await by_hand(one, versions=(7, 9))
    with pytest.raises(PeerProtocolError, match="we speak 7"):
        await events_until(stream, session, Hello)
    await stream.send_all(session.farewell)
    await trio.sleep(1)
    assert one.peering.linked() == []
    assert one.peering.statistics.protocol_errors["opening"] == 1
    assert one.peering.other_versions.hosts == ["10.0.0.99"]


async def test_a_peer_that_asks_and_asks_gets_its_answers_one_at_a_time(autojump_clock, memory_node, by_hand):
    one = await memory_node()
    at_once = []

    async def answer(peer, question):
        at_once.append(question)
        assert len(at_once) == 1
        await trio.sleep(1)
        at_once.clear()
        return [Problem(request=question.request, code="not_held")]

    one.events.answer = answer
    stream, session = await by_hand(one)
    for _ in range(5):
        await stream.send_all(session.send(AskManifest(request=session.next_request, blob=BLOB.to_bytes())))
    for request in range(1, 6):
        assert (await events_until(stream, session, Problem)).request == request


async def events_until(stream, session, kind):
    while not isinstance(event := session.next_event(), kind):
        assert event is not CLOSED
        if event is NEED_DATA:
            session.receive_bytes(await stream.receive_some())
        elif isinstance(event, Ping):
            await stream.send_all(session.send(Pong(nonce=event.nonce)))
    return event


async def test_in_open_mode_only_hosts_of_our_subnets_and_static_ones_are_dialled_and_admitted(
    autojump_clock, memory_node, memory_network
):
    one = await memory_node(closed=False, near=lambda host: host != "10.0.0.2")
    far = await memory_node(closed=False)
    one.hear_of(far)
    far.hear_of(one)
    await trio.sleep(20)
    assert not one.peering.linked()
    assert one.peering.statistics.refused > 0
    assert all(host == far.host for _, host, _ in memory_network.dials)
    friend = await memory_node(closed=False, near=lambda host: False, peers=(Address("10.0.0.1", 7277),))
    await friend.events.until_linked()
    assert friend.peering.linked() == [one.id]


async def test_weights_are_addresses_in_open_mode_and_ids_in_a_closed_cluster(autojump_clock, memory_node):
    one, two = await linked_pair(memory_node, closed=False)
    assert one.peering.weight(two.id) == two.peering.own_weight() == two.host
    three, four = await memory_node(), await memory_node()
    three.hear_of(four)
    await three.events.until_linked()
    assert three.peering.weight(four.id) == four.peering.own_weight() == four.id


async def test_remembered_peers_are_dialled_after_a_restart(autojump_clock, memory_node, tmp_path):
    one, two = await memory_node(state_dir=tmp_path), await memory_node()
    one.hear_of(two)
    await one.events.until_linked()
    await trio.sleep(10)
    one.scope.cancel()
    await trio.sleep(1)
    again = await memory_node(state_dir=tmp_path)
    await again.events.until_linked()
    assert again.peering.linked() == [two.id]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"version":1,"peers":7}',
        b'{"version":1,"peers":[{"node":"x","host":"","port":0}]}',
        b'{"x":' + b"[" * 60_000,
    ],
    ids=["empty", "cut", "no list", "no peer", "nested"],
)
async def test_a_damaged_file_of_remembered_peers_is_ignored(autojump_clock, memory_node, tmp_path, content):
    (tmp_path / "peers.json").write_bytes(content)
    one = await memory_node(state_dir=tmp_path)
    assert one.peering.peers() == []
