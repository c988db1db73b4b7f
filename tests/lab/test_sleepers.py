"""A process that is stopped answers nothing and closes nothing. Others soon do its work; awake, it joins in again."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from daemons import CHUNK, files_in, until
from lan import Lan, within

pytestmark = [pytest.mark.lab, pytest.mark.scorecard("S27"), pytest.mark.timeout(240)]

ASLEEP_S = 30.0
TAKEN_OVER_S = 10.0
AGAIN_S = 15.0


@pytest.fixture(scope="module")
def lan(tmp_path_factory):
    with Lan(tmp_path_factory.mktemp("lan"), 3, rate="200mbit", origin_rate="60mbit") as lan:
        yield lan


@pytest.fixture
def nodes(lan, request):
    nodes = lan.daemons((1, 2, 3), request.node.name[5:20].replace("_", "-"))
    yield nodes
    for node in nodes:
        node.kill()


class Sleep:
    """A node stopped for the block, and for at least ASLEEP_S."""

    def __init__(self, node):
        self.node = node

    def __enter__(self):
        self.node.process.send_signal(signal.SIGSTOP)
        self.began = time.monotonic()
        return self

    def __exit__(self, *_):
        time.sleep(max(0.0, self.began + ASLEEP_S - time.monotonic()))
        self.node.process.send_signal(signal.SIGCONT)
        self.woke = time.monotonic()


def rejoined(nodes):
    return within(AGAIN_S, lambda: all(len(node.peers) == 2 for node in nodes), "the sleeper to be linked again")


def test_a_holder_that_falls_asleep_is_replaced_by_the_hub(lan, nodes, new_model, figure):
    holder, reader, _ = nodes
    model, small = new_model(lan, 96), new_model(lan, 8)
    for each in (model, small):
        assert holder.bring(each.name)["event"] == "done"
    lan.hub.reset()
    with ThreadPoolExecutor() as pool:
        fetch = pool.submit(reader.bring, model.name)
        until(lambda: reader.received("peer") > 3 * CHUNK, "the holder to be at work")
        with Sleep(holder) as sleep:
            took = within(3 * TAKEN_OVER_S, lambda: lan.sent > 0, "the hub to be asked")
            end = fetch.result()
            figure(f"the hub was asked {took:.1f} s after it fell asleep; done after {time.monotonic() - sleep.began:.1f} s")
    assert files_in(end["path"]) == model.files
    figure(f"linked again {rejoined(nodes):.1f} s after it woke")
    assert reader.bring(small.name)["peers"] == small.size
    assert took <= TAKEN_OVER_S


def test_a_requester_that_falls_asleep_leaves_its_part_to_the_others(lan, nodes, new_model, figure):
    """Cold, all three: what the sleeper had claimed of the hub is read by somebody else."""
    model = new_model(lan, 64)
    lan.hub.reset()
    with ThreadPoolExecutor() as pool:
        began = time.monotonic()
        fetches = [pool.submit(node.bring, model.name) for node in nodes]
        until(lambda: lan.sent > model.size / 4, "all to be at work")
        with Sleep(nodes[0]) as sleep:
            ends = [fetch.result() for fetch in fetches[1:]]
            took, ideal = time.monotonic() - began, model.size * 8 / 60e6
            figure(f"others done after {took:.1f} s, the line's time {ideal:.1f} s; hub bytes {lan.sent / model.size:.3f} x")
        ends.append(fetches[0].result())
        figure(f"the sleeper done {time.monotonic() - sleep.woke:.1f} s after it woke; hub bytes {lan.sent / model.size:.3f} x")
    assert [end["event"] for end in ends] == ["done"] * 3, ends
    assert all(files_in(end["path"]) == model.files for end in ends)
    figure(f"linked again {rejoined(nodes):.1f} s after it woke")
    assert took <= ideal * 1.3 + TAKEN_OVER_S
    assert lan.sent <= model.size + 3 * CHUNK  # what the sleeper had on its way: by the others, and when it woke


def test_a_bystander_that_falls_asleep_holds_nobody_up(lan, nodes, new_model, figure):
    model, small = new_model(lan, 64), new_model(lan, 8)
    lan.hub.reset()
    with ThreadPoolExecutor() as pool:
        began = time.monotonic()
        fetches = [pool.submit(node.bring, model.name) for node in nodes[:2]]
        until(lambda: lan.sent > model.size / 4, "both to be at work")
        with Sleep(nodes[2]):
            ends = [fetch.result() for fetch in fetches]
            took, ideal = time.monotonic() - began, model.size * 8 / 60e6
            figure(f"done after {took:.1f} s, the line's time {ideal:.1f} s; hub bytes {lan.sent / model.size:.3f} x")
            assert nodes[0].bring(small.name)["event"] == "done"
    assert all(files_in(end["path"]) == model.files for end in ends)
    figure(f"linked again {rejoined(nodes):.1f} s after it woke")
    lan.hub.reset()
    assert nodes[2].bring(model.name)["peers"] == model.size
    assert took <= ideal * 1.3 + 5
