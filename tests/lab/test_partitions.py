"""A network that falls apart and heals: what can go on goes on, and peers are used again soon after."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from daemons import CHUNK, files_in, until
from lan import Lan, within

pytestmark = [pytest.mark.lab, pytest.mark.scorecard("S25"), pytest.mark.timeout(240)]

AGAIN_S = 15.0
APART_S = 30.0
HUB, LEFT, RIGHT = 0, (1, 2), (3, 4)


@pytest.fixture(scope="module")
def lan(tmp_path_factory):
    with Lan(tmp_path_factory.mktemp("lan"), 4, rate="1gbit", origin_rate="40mbit") as lan:
        yield lan


@pytest.fixture
def nodes(lan):
    """Four nodes that meet for the first time."""
    nodes = []
    yield nodes
    lan.heal()
    for node in nodes:
        node.kill()


def bring_anyhow(node, name, patience_s):
    """Fetch until it is there, as a user would; how often it was asked."""
    deadline = time.monotonic() + patience_s
    for tries in range(1, 100):
        end = node.bring(name)
        if end["event"] == "done":
            return end, tries, time.monotonic()
        assert time.monotonic() < deadline, end
        time.sleep(1)
    raise AssertionError(end)


def test_a_partition_in_the_middle_of_a_fetch_stops_neither_side_for_good(lan, nodes, new_model, figure):
    model = new_model(lan, 48)
    nodes += lan.daemons(range(1, 5), "cut")
    lan.hub.reset()
    with ThreadPoolExecutor(4) as together:
        fetches = [together.submit(bring_anyhow, node, model.name, 120) for node in nodes]
        until(lambda: lan.sent > model.size / 3, "the fetch to be under way")
        lan.split((HUB, *LEFT), RIGHT)
        parted = time.monotonic()
        for fetch in fetches[:2]:
            _, _, at = fetch.result()
            figure(f"beside the hub done {at - parted:.1f} s after the cut")
            assert at - parted < APART_S
        time.sleep(max(0.0, parted + APART_S - time.monotonic()))
        lan.heal()
        healed = time.monotonic()
        sent = lan.sent
        took = within(AGAIN_S + 5, lambda: all(len(node.peers) == 3 for node in nodes), "all links to be back")
        figure(f"all links back {took:.1f} s after the heal")
        for fetch in fetches[2:]:
            end, tries, at = fetch.result()
            figure(
                f"behind the cut done {at - healed:.1f} s after it, {tries} tries, {end['peers'] / model.size:.2f} from peers"
            )
    figure(f"hub bytes {lan.sent / model.size:.3f} x, of them {(lan.sent - sent) / model.size:.3f} x after the heal")
    assert took <= AGAIN_S
    assert all(files_in(fetch.result()[0]["path"]) == model.files for fetch in fetches)
    assert lan.sent <= model.size + 16 * CHUNK  # 4 lanes on each of 4 nodes may have been cut in the middle of a chunk


def test_groups_that_started_apart_use_each_other_soon_after_they_are_joined(lan, nodes, new_model, figure):
    model = new_model(lan, 8)
    lan.split((HUB, *LEFT), RIGHT)
    nodes += [lan.daemon(number, f"apart{number}") for number in range(1, 5)]
    for node in nodes:
        node.begin()
    for node in nodes:
        node.started()
    until(lambda: all(len(node.peers) == 1 for node in nodes), "each half to be linked")
    assert nodes[0].bring(model.name)["event"] == "done"
    time.sleep(APART_S / 2)
    lan.heal()
    healed = time.monotonic()
    took = within(2 * AGAIN_S, lambda: all(node.peers[1:] for node in nodes), "the halves to meet")
    lan.hub.reset()
    ends = [node.bring(model.name) for node in nodes[2:]]
    figure(f"linked {took:.1f} s after the heal, both have the model {time.monotonic() - healed:.1f} s after it")
    assert [end["peers"] for end in ends] == [model.size, model.size]
    assert lan.sent == 0
    assert took <= AGAIN_S


def test_a_node_that_hears_and_is_not_heard_is_no_trap(lan, nodes, new_model, figure):
    """One way only: what node 1 sends to node 2 is lost."""
    model = new_model(lan, 24)
    nodes += lan.daemons(range(1, 5), "oneway")
    assert nodes[0].bring(model.name)["event"] == "done"
    lan.lab("partition", 1, "--from", 2, "--oneway")
    began = time.monotonic()
    end, tries, at = bring_anyhow(nodes[1], model.name, 60)
    figure(f"done after {at - began:.1f} s, {tries} tries, {end['peers'] / model.size:.2f} of it from peers")
    assert at - began < 30
    assert files_in(end["path"]) == model.files
