import random
from itertools import pairwise

import pytest

from p2pmodel.content import Blob, BlobId, ChunkMap, NodeId
from p2pmodel.limits import BAN_MIN_S, CHUNK_BYTES, LEASE_S, SETTLE_S, STRIKES_MAX
from p2pmodel.swarm import HUB, HubReason, Rates, Standing, Swarm, run_length, run_owners
from p2pmodel.swarm.swarm import HEDGE_S, SOLO_CHUNKS
from p2pmodel.swarm.turns import READERS, UNCLAIMED_S

CHUNKS = 32
BLOB = Blob(BlobId("sha256", "ab" * 32), CHUNKS * CHUNK_BYTES)
A, B = NodeId("a" * 40), NodeId("b" * 40)


class Node:
    """A swarm and the maps that its store would keep."""

    def __init__(self, weight="me", seed=1, chunks=CHUNKS, met_at=0.0):
        self.held, self.own = ChunkMap(chunks), ChunkMap(chunks)
        self.standing, self.rates = Standing(), Rates()
        blob = Blob(BLOB.id, chunks * CHUNK_BYTES)
        self.swarm = Swarm(
            blob,
            held=self.held,
            own=self.own,
            own_weight=weight,
            standing=self.standing,
            rates=self.rates,
            rng=random.Random(seed),
            now=0.0,
            met_at=met_at,
        )

    def peer(self, peer, chunks=(), *, wanted=False, now=0.0):
        self.swarm.joined(peer, peer)
        self.swarm.has(peer, ChunkMap(self.swarm.chunks, chunks), sealed=False, wanted=wanted, now=now)

    def take(self, chunk, *, own=False):
        self.held.add(chunk)
        if own:
            self.own.add(chunk)
        self.swarm.arrived(chunk, hub=own)


def all_from_hub(node, now):
    """The chunks that a node reads from the hub, order after order, each of which ends well."""
    chunks = []
    while flight := node.swarm.next_order(HUB, now):
        chunks += sorted(asked(flight))
        for chunk in asked(flight):
            node.take(chunk, own=True)
        node.swarm.ended(flight, now)
    return chunks


def asked(flight):
    return set(range(flight.first, flight.first + flight.count)) if flight else set()


def test_alone_everything_is_asked_of_the_hub_in_order():
    node = Node()
    flight = node.swarm.next_order(HUB, 0.0)
    assert flight.first == 0
    assert node.swarm.next_order(HUB, 0.0).first == flight.count


def test_what_a_peer_holds_is_never_asked_of_the_hub():
    node = Node()
    node.peer(A, range(CHUNKS))
    assert node.swarm.next_order(HUB, 0.0) is None
    assert node.swarm.next_order(A, 0.0) is not None


def test_no_chunk_is_asked_twice_while_its_order_moves():
    node = Node()
    node.peer(A, range(CHUNKS))
    node.peer(B, range(CHUNKS))
    seen = set()
    while True:
        flights = [flight for peer in (A, B) if (flight := node.swarm.next_order(peer, 0.0))]
        if not flights:
            break
        for flight in flights:
            assert not asked(flight) & seen
            seen |= asked(flight)
    assert seen == set(range(CHUNKS))


def test_a_cold_start_waits_for_the_peers_answers_before_it_asks_the_hub():
    node = Node()
    node.swarm.joined(A, "a")
    assert node.swarm.next_order(HUB, 0.0) is None
    assert node.swarm.wake_at(0.0) == SETTLE_S
    assert node.swarm.next_order(HUB, SETTLE_S) is not None


def test_nodes_that_want_a_cold_blob_share_it_without_overlap():
    nodes = {weight: Node(weight) for weight in ("x", "y", "z")}
    taken = {}
    for weight, node in nodes.items():
        for other in nodes.keys() - {weight}:
            node.peer(NodeId(other), wanted=True)
        for chunk in all_from_hub(node, 0.0):
            assert chunk not in taken, "two nodes read one chunk from the hub"
            taken[chunk] = weight
    assert set(taken) == set(range(CHUNKS))
    assert set(taken.values()) == set(nodes)


def test_a_run_that_its_owner_never_claims_goes_to_the_next_in_line():
    node = Node("me")
    node.peer(A, wanted=True)
    mine = set(all_from_hub(node, 0.0))
    assert mine != set(range(CHUNKS))
    assert node.swarm.wake_at(0.0) <= UNCLAIMED_S
    assert mine | set(all_from_hub(node, UNCLAIMED_S)) == set(range(CHUNKS))


def test_a_claim_with_progress_is_respected_and_one_without_runs_out():
    node = Node()
    node.peer(A, wanted=True)
    node.swarm.claims(A, [(0, CHUNKS)], [], [], 0.0)
    node.swarm.got(A, [0], LEASE_S - 1)
    assert node.swarm.next_order(HUB, LEASE_S) is None
    late = 2 * LEASE_S + UNCLAIMED_S
    assert node.swarm.next_order(HUB, 2 * LEASE_S) is not None or node.swarm.next_order(HUB, late) is not None


def test_of_two_claims_that_crossed_exactly_one_is_given_up():
    nodes = {weight: Node(weight) for weight in ("x", "y")}
    flights = {}
    for weight, node in nodes.items():
        flights[weight] = node.swarm.next_order(HUB, 0.0)  # neither knows of the other yet
    given_up = 0
    for weight, other in (("x", "y"), ("y", "x")):
        nodes[weight].peer(NodeId(other), wanted=True)
        theirs = flights[other]
        nodes[weight].swarm.claims(NodeId(other), [(theirs.first, theirs.count)], [], [], 0.1)
        given_up += len(nodes[weight].swarm.overtaken(0.1))
    assert given_up == 1


def test_an_order_that_others_have_long_heard_of_goes_before_a_young_one():
    old, young = Node("old"), Node("young")
    first, second = old.swarm.next_order(HUB, 0.0), young.swarm.next_order(HUB, 4.9)
    run = [(first.first, first.count)]
    old.peer(NodeId("young"), wanted=True)
    young.peer(NodeId("old"), wanted=True)
    assert old.swarm.own_claims(5.0) == (run, [], run)
    assert young.swarm.own_claims(5.0) == (run, [], [])
    old.swarm.claims(NodeId("young"), run, [], [], 5.0)
    young.swarm.claims(NodeId("old"), run, [], run, 5.0)
    assert old.swarm.overtaken(5.0) == []
    assert young.swarm.overtaken(5.0) == [second]


def test_an_order_to_the_hub_ends_before_a_chunk_that_a_peer_holds_by_now():
    node = Node()
    flight = node.swarm.next_order(HUB, 0.0)
    assert asked(flight) == {0, 1, 2, 3}
    node.peer(A, [1], now=3.0)
    assert node.swarm.overtaken(3.0) == [], "the chunk that is coming is of use"
    node.take(0, own=True)
    assert node.swarm.overtaken(3.0) == [flight]


def test_what_a_client_needs_from_the_hub_itself_is_read_on_although_a_peer_holds_it():
    node = Node()
    node.swarm.reads.begin(1, range(4), own=True)
    node.swarm.next_order(HUB, 0.0)
    node.peer(A, range(4), now=1.0)
    assert node.swarm.overtaken(1.0) == []


def test_the_more_nodes_read_from_the_hub_the_fewer_orders_each_has_there():
    for rivals, orders in ((0, 4), (1, 2), (3, 1), (8, 1)):
        node = Node(chunks=256)
        for number in range(rivals):
            node.peer(NodeId(f"{number}"), wanted=True)
        flights = 0
        while node.swarm.next_order(HUB, UNCLAIMED_S * 20):
            flights += 1
        assert flights == orders, rivals


def cluster(size):
    """Nodes that all want a blob that nobody has, and know each other."""
    names = [NodeId(f"{number:040x}") for number in range(size)]
    nodes = {name: Node(name) for name in names}
    for name, node in nodes.items():
        for other in names:
            if other != name:
                node.peer(other, wanted=True)
    return nodes


def test_of_many_nodes_four_read_from_the_hub_and_the_rest_leave_it_alone():
    nodes = cluster(50)
    taken = {name: all_from_hub(node, 0.0) for name, node in nodes.items()}
    chunks = [chunk for chunks in taken.values() for chunk in chunks]
    assert sorted(chunks) == list(range(CHUNKS))
    assert sum(map(bool, taken.values())) == READERS


def test_if_none_of_the_four_can_read_others_do_one_after_the_other():
    nodes = cluster(50)
    helped = sorted(
        next(second for second in range(300) if node.swarm.next_order(HUB, float(second))) for node in nodes.values()
    )
    assert helped[:READERS] == [0] * READERS
    assert helped[READERS] >= LEASE_S
    assert all(later - earlier >= UNCLAIMED_S - 1 for earlier, later in pairwise(helped[READERS:]))


def test_of_many_nodes_each_follows_few_and_all_are_within_a_few_steps():
    nodes = cluster(60)
    followed = {name: node.swarm.following.peers for name, node in nodes.items()}
    assert max(map(len, followed.values())) <= 8 + READERS
    reached = {next(iter(nodes))}
    for _ in range(4):
        reached |= {other for name in reached for other in followed[name]}
    assert reached == set(nodes)


def test_of_few_nodes_each_follows_all():
    assert all(len(node.swarm.following.peers) == 9 for node in cluster(10).values())


def test_a_node_that_becomes_a_reader_hears_the_others_before_it_reads():
    node = Node()
    node.peer(A, wanted=True)
    node.swarm.asked([A], 100.0)
    assert node.swarm.next_order(HUB, 100.0) is None
    node.swarm.has(A, ChunkMap.full(CHUNKS), sealed=True, wanted=False, now=100.1)
    assert node.swarm.next_order(HUB, 100.1) is None
    assert node.swarm.next_order(A, 100.1)


def test_the_work_of_a_peer_that_is_quiet_is_taken_over():
    node = Node()
    node.peer(A, range(4), wanted=True)
    node.swarm.claims(A, [(4, 28)], [], [], 0.0)
    assert node.swarm.next_order(HUB, 1.0) is None
    node.swarm.quiet(A, quiet=True)
    assert node.swarm.next_order(A, 1.0) is None
    assert sorted(all_from_hub(node, 1.0)) == list(range(CHUNKS))


def test_a_quiet_peer_that_is_heard_again_is_asked_again():
    node = Node()
    node.peer(A, range(CHUNKS))
    node.swarm.quiet(A, quiet=True)
    node.swarm.quiet(A, quiet=False)
    assert node.swarm.next_order(HUB, 1.0) is None
    assert node.swarm.next_order(A, 1.0)


def test_a_young_daemon_asks_no_hub_before_it_has_met_the_others():
    node = Node(met_at=3.0)
    assert node.swarm.next_order(HUB, 2.9) is None
    assert node.swarm.wake_at(0.0) == 3.0
    assert node.swarm.next_order(HUB, 3.0)


def test_what_the_only_holder_is_giving_to_another_is_waited_for():
    """Its link is what all wait for: nothing should go over it twice."""
    node = Node()
    node.peer(A, range(CHUNKS))
    node.peer(B, wanted=True)
    node.swarm.claims(B, [], [(0, CHUNKS)], [], 0.0)
    assert node.swarm.next_order(A, 1.0) is None
    assert node.swarm.next_order(A, LEASE_S + 1)


def test_peers_that_are_slower_than_the_hub_are_helped_by_it():
    node = Node()
    node.rates.hub = 10e6
    node.peer(A, range(CHUNKS))
    flight = node.swarm.next_order(A, 0.0)
    for second in range(1, 20):
        node.swarm.progress(flight, 100_000, float(second))
        if node.swarm.next_order(HUB, float(second)):
            break
    assert second == 5, "an order has five seconds to show what its peer can do"
    hub_flight = next(flight for flight in node.swarm.ledger.flights.values() if flight.source == HUB)
    assert hub_flight.reason is HubReason.SLOW
    assert not asked(hub_flight) & asked(flight), "first what the slow peer was not asked for"


def test_peers_that_are_as_fast_as_the_hub_are_left_alone():
    node = Node()
    node.rates.hub = 10e6
    node.peer(A, range(CHUNKS))
    flight = node.swarm.next_order(A, 0.0)
    for second in range(1, 20):
        node.swarm.progress(flight, 10_000_000, float(second))
        assert node.swarm.next_order(HUB, float(second)) is None


def test_nobody_is_slow_or_stands_still_because_this_node_was_asleep():
    node = Node()
    node.peer(A, range(CHUNKS), wanted=True)
    node.peer(B, wanted=True)
    node.swarm.next_order(A, 1.0)
    assert node.swarm.next_order(HUB, 31.0) is not None, "as it is for who was awake"
    node = Node()
    node.peer(A, range(CHUNKS), wanted=True)
    node.peer(B, wanted=True)
    node.swarm.next_order(A, 1.0)
    node.swarm.slept(30.0)
    assert node.swarm.next_order(HUB, 31.0) is None


def test_what_is_coming_to_others_is_not_rare():
    node = Node(chunks=256)
    node.peer(A, range(256))
    node.peer(B)
    node.swarm.claims(B, [], [(0, 255)], [], 0.0)
    assert asked(node.swarm.next_order(A, 0.0)) == {255}


def test_what_a_holder_gave_to_others_is_asked_of_it_last_however_far_ahead_the_rest_is():
    node = Node(chunks=2048)
    node.peer(A, range(2048))
    node.swarm.gives(A, range(2000))
    asked_for = []
    while len(asked_for) < 48:
        flight = node.swarm.next_order(A, 0.0)
        asked_for += asked(flight)
        for chunk in asked(flight):
            node.take(chunk)
        node.swarm.ended(flight, 0.0)
    assert sorted(asked_for) == list(range(2000, 2048))
    assert asked(node.swarm.next_order(A, 0.0)) <= set(range(2000)), "nothing else is left to ask for"


def test_when_a_peer_leaves_its_chunks_and_claims_are_open_again():
    node = Node()
    node.peer(A, range(CHUNKS), wanted=True)
    node.swarm.left(A)
    assert node.swarm.next_order(HUB, 0.0) is not None
    assert node.swarm.next_order(A, 0.0) is None


def test_the_rarest_chunk_comes_first():
    node = Node(chunks=256)
    node.peer(A, range(256))
    node.peer(B, set(range(256)) - {77})
    assert 77 in asked(node.swarm.next_order(A, 0.0))


def test_two_nodes_that_start_together_ask_one_holder_for_different_chunks():
    firsts = set()
    for seed in range(8):
        node = Node(seed=seed, chunks=256)
        node.peer(A, range(256))
        firsts.add(node.swarm.next_order(A, 0.0).first)
    assert len(firsts) > 4


def test_a_reader_comes_before_everything():
    node = Node(chunks=256)
    node.peer(A, range(256))
    node.swarm.reads.begin(1, range(100, 116), own=False)
    assert node.swarm.next_order(A, 0.0).first == 100


def test_a_range_that_must_be_our_own_read_is_asked_of_the_hub_although_a_peer_holds_it():
    node = Node()
    node.peer(A, range(CHUNKS))
    node.swarm.reads.begin(1, range(2), own=True)
    flight = node.swarm.next_order(HUB, 0.0)
    assert asked(flight) == {0, 1}
    while peer_flight := node.swarm.next_order(A, 0.0):
        assert not asked(peer_flight) & {0, 1}


def test_what_a_reader_takes_from_the_hub_itself_is_claimed_to_the_end_of_its_range():
    reader, other = Node("reader"), Node("other")
    reader.swarm.reads.begin(1, range(4, CHUNKS), own=True)
    assert reader.swarm.own_claims(0.0) == ([], [], []), "a hub that rests brings nothing"
    reader.swarm.next_order(HUB, 0.0)
    runs, coming, firm = reader.swarm.own_claims(0.0)
    assert (runs, coming) == ([(4, CHUNKS - 4)], [])
    other.peer(A, wanted=True)
    other.swarm.claims(A, runs, coming, firm, 0.0)
    assert set(all_from_hub(other, LEASE_S / 2)) <= set(range(4))


def test_what_a_mirror_gave_is_not_read_again_for_the_same_reader():
    node = Node()
    node.swarm.reads.begin(1, range(2), own=True)
    node.swarm.next_order(HUB, 0.0)
    node.held.add(0)
    node.swarm.arrived(0, hub=True)  # a mirror's: held, and still not our own
    node.swarm.reads.begin(1, range(2), own=True)
    assert 0 not in node.swarm.missing


def test_a_chunk_that_a_peer_has_lost_is_asked_of_the_hub_until_the_peer_has_it_again():
    node = Node()
    node.peer(A, range(CHUNKS))
    flight = node.swarm.next_order(A, 0.0)
    node.swarm.failed(flight, for_good=True)
    node.swarm.ended(flight, 0.0)
    from_hub = node.swarm.next_order(HUB, 0.0)
    assert asked(from_hub) == {flight.first}
    node.swarm.ended(from_hub, 0.0)
    node.swarm.got(A, [flight.first], 0.0)
    assert node.swarm.next_order(HUB, 0.0) is None


def test_nobody_waits_for_a_peer_whose_orders_fail_if_the_hub_is_there():
    node = Node()
    node.peer(A, range(CHUNKS))
    flight = node.swarm.next_order(A, 0.0)
    node.swarm.failed(flight, for_good=False)
    node.swarm.ended(flight, 0.0)
    node.swarm.hub_rests(1.0)
    assert not node.swarm.hopeless(0.5), "the peer may give it yet"
    assert asked(node.swarm.next_order(HUB, 1.0)) == {flight.first}


def test_the_lane_for_readers_takes_nothing_else():
    node = Node()
    assert node.swarm.next_order(HUB, 0.0, urgent=True) is None
    node.swarm.reads.begin(1, range(20, 21), own=True)
    assert asked(node.swarm.next_order(HUB, 0.0, urgent=True)) == {20}


def test_a_lone_node_leaves_something_for_those_who_join():
    assert Node().swarm.next_order(HUB, 0.0).count == SOLO_CHUNKS


def test_an_order_that_stands_still_is_hedged_at_another_peer():
    node = Node()
    node.peer(A, [5])
    node.peer(B, [5])
    first = node.swarm.next_order(A, 0.0)
    assert first
    assert node.swarm.next_order(B, HEDGE_S - 1) is None
    assert node.swarm.wake_at(0.5) <= HEDGE_S
    assert asked(node.swarm.next_order(B, HEDGE_S)) == {5}
    assert node.swarm.next_order(A, HEDGE_S) is None, "not twice of the same peer"


def test_a_chunk_that_a_peer_holds_but_does_not_give_is_in_the_end_read_from_the_hub():
    node = Node()
    node.peer(A, range(CHUNKS))
    while node.swarm.next_order(A, 0.0):
        pass
    assert node.swarm.next_order(HUB, LEASE_S - 1) is None
    assert node.swarm.wake_at(LEASE_S - 1) == LEASE_S, "a lane that waits is woken for it"
    assert node.swarm.next_order(HUB, LEASE_S) is not None


def test_a_refused_chunk_is_not_asked_of_that_peer_again():
    node = Node()
    node.peer(A, [3])
    node.swarm.ended(node.swarm.next_order(A, 0.0), 1.0)
    node.swarm.refuse(A, 3)
    assert node.swarm.next_order(A, 0.0) is None
    from_hub = set()
    while flight := node.swarm.next_order(HUB, 0.0):
        from_hub |= asked(flight)
    assert 3 in from_hub


def test_a_peer_with_too_many_strikes_is_banned_and_is_asked_again_later():
    node = Node()
    node.peer(A, range(CHUNKS))
    struck = [node.standing.strike(A, 0.0) for _ in range(STRIKES_MAX)]
    assert [ban is not None for ban in struck] == [False] * (STRIKES_MAX - 1) + [True]
    assert node.swarm.next_order(A, 1.0) is None
    assert node.swarm.next_order(HUB, 1.0) is not None, "what only a banned peer holds is read from the hub"
    assert Node.take(node, 0) is None
    assert node.swarm.next_order(A, BAN_MIN_S + 1) is not None


def test_nobody_can_give_it_means_hopeless_but_not_before_the_peers_have_answered():
    node = Node()
    node.swarm.joined(A, "a")
    node.swarm.hub_rests(100.0)
    assert not node.swarm.hopeless(0.0)
    assert node.swarm.hopeless(SETTLE_S)
    node.swarm.has(A, ChunkMap.full(CHUNKS), sealed=True, wanted=False, now=1.0)
    assert not node.swarm.hopeless(SETTLE_S)


def test_another_node_that_wants_it_too_may_still_reach_the_hub():
    node = Node()
    node.peer(A, wanted=True)
    node.swarm.hub_rests(100.0)
    assert not node.swarm.hopeless(SETTLE_S)


@pytest.mark.parametrize("runs", [[(0, CHUNKS + 1)], [(CHUNKS, 1)], [(2**32 - 1, 2**32 - 1)]])
def test_a_claim_outside_the_blob_is_refused(runs):
    node = Node()
    node.peer(A)
    with pytest.raises(IndexError):
        node.swarm.claims(A, runs, [], [], 0.0)


def test_distrusted_chunks_are_read_again_from_the_hub_alone():
    node = Node()
    node.peer(A, range(CHUNKS))
    for chunk in range(CHUNKS):
        node.take(chunk)
    assert node.swarm.next_order(HUB, 0.0) is None
    node.swarm.reads.distrust(ChunkMap.full(CHUNKS))
    assert node.swarm.next_order(A, 0.0) is None
    reread = set()
    while flight := node.swarm.next_order(HUB, 0.0):
        for chunk in asked(flight):
            node.take(chunk, own=True)
            reread.add(chunk)
        node.swarm.ended(flight, 1.0)
    assert reread == set(range(CHUNKS))
    assert not node.swarm.reads.distrusted


def test_a_distrusted_chunk_that_is_proven_meanwhile_is_not_waited_for():
    node = Node()
    node.swarm.reads.distrust(ChunkMap(CHUNKS, [1, 2]))
    node.swarm.reads.spare(1)
    assert set(node.swarm.reads.distrusted) == set(node.swarm.reads.due) == {2}


def test_when_a_node_leaves_only_its_runs_move():
    before = {run: run_owners(BLOB.id, run, ["a", "b", "c", "d"])[0] for run in range(200)}
    after = {run: run_owners(BLOB.id, run, ["a", "b", "c"])[0] for run in range(200)}
    assert all(after[run] == owner for run, owner in before.items() if owner != "d")
    assert all(30 <= list(before.values()).count(node) <= 75 for node in "abcd")


@pytest.mark.parametrize(("chunks", "length"), [(1, 1), (22, 1), (127, 1), (128, 2), (1024, 16), (40_000, 16)])
def test_runs_are_as_long_as_the_blob_allows(chunks, length):
    assert run_length(chunks) == length
