"""Streams over pipes: who gets how much."""

from math import inf

import pytest

from p2pmodel.plan.clock import Clock
from p2pmodel.plan.flows import EqualShare, MaxMin, Pipe


class Net:
    def __init__(self, *rates, exact=False):
        self.clock = Clock()
        self.pipes = [Pipe(rate) for rate in rates]
        self.flows = MaxMin(self.clock, self.pipes) if exact else EqualShare(self.clock)
        self.done = {}

    def send(self, name, source, target, count, at=0.0):
        def begin():
            self.streams[name] = self.flows.begin(self.pipes[source], self.pipes[target], count, finished)

        def finished():
            self.done[name] = self.clock.now

        self.streams = getattr(self, "streams", {})
        self.clock.at(at, begin)

    def run(self, until=inf):
        self.clock.run(until, over=lambda: False)
        return self.done


@pytest.mark.parametrize("exact", [False, True])
def test_a_lone_stream_has_the_narrower_of_its_two_pipes(exact):
    net = Net(10, 4, exact=exact)
    net.send("a", 0, 1, 8)
    assert net.run() == {"a": pytest.approx(2.0)}


@pytest.mark.parametrize("exact", [False, True])
def test_streams_share_a_pipe_and_speed_up_when_one_ends(exact):
    net = Net(10, 100, 100, exact=exact)
    net.send("short", 0, 1, 10)
    net.send("long", 0, 2, 20)
    assert net.run() == {"short": pytest.approx(2.0), "long": pytest.approx(3.0)}
    assert net.pipes[0].carried == pytest.approx(30)


@pytest.mark.parametrize(("exact", "seconds"), [(False, 2.0), (True, 1.25)])
def test_only_the_exact_shares_give_one_stream_what_another_cannot_use(exact, seconds):
    net = Net(10, 2, 100, exact=exact)
    net.send("narrow", 0, 1, 100)
    net.send("wide", 0, 2, 10)
    assert net.run(until=50)["wide"] == pytest.approx(seconds)


@pytest.mark.parametrize("exact", [False, True])
def test_a_cancelled_stream_leaves_its_room_to_others_and_is_counted_as_far_as_it_came(exact):
    net = Net(10, 100, 100, exact=exact)
    net.send("kept", 0, 1, 20)
    net.send("dropped", 0, 2, 20)
    net.clock.at(1.0, lambda: net.flows.cancel(net.streams["dropped"]))
    assert net.run() == {"kept": pytest.approx(2.5)}
    assert net.pipes[0].carried == pytest.approx(25)
