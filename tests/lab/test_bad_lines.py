"""Lines that lose one packet in twenty and shuffle the rest: nobody is taken for a liar, and what TCP can carry is carried."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from daemons import MIB, files_in
from lan import Lan, address, inside

pytestmark = [pytest.mark.lab, pytest.mark.scorecard("S29"), pytest.mark.timeout(900)]

GIVER, TAKER = 1, 2
PAIRS, MODEL_MIB = 4, 32
SPEED_MIN = 0.7
PORT = 5001


@pytest.fixture
def lan(tmp_path):
    with Lan(tmp_path, 4, rate="1gbit", origin_rate="100mbit", delay="1ms", jitter="4ms", loss="5", origin_loss="5") as lan:
        lan.shape(3, rate="100mbit")
        lan.shape(4, rate="100mbit")
        yield lan


def plainly(lan, data):
    """Seconds that one TCP connection takes, from the first byte that was asked for to the last."""
    listener = inside(lan.namespace(GIVER), lambda: socket.create_server((address(GIVER), PORT)))

    def give():
        connection, _ = listener.accept()
        with connection:
            connection.sendall(data)

    giver = threading.Thread(target=give)
    giver.start()
    began, left = time.monotonic(), len(data)
    with inside(lan.namespace(TAKER), lambda: socket.create_connection((address(GIVER), PORT))) as taker:
        while left:
            left -= len(taker.recv(MIB))
    took = time.monotonic() - began
    giver.join()
    listener.close()
    return took


def banned(nodes):
    return [ban for node in nodes for ban in node.ask("/-/api/peers").json["bans"]]


def test_a_line_that_loses_packets_carries_what_plain_tcp_would(lan, new_model, figure):
    giver, taker = lan.daemons((GIVER, TAKER))
    fetched, plain = [], []
    for _ in range(PAIRS):
        model = new_model(lan, MODEL_MIB)
        assert giver.bring(model.name)["event"] == "done"
        began = time.monotonic()
        done = taker.bring(model.name)
        fetched.append(time.monotonic() - began)
        assert (done["event"], done["peers"]) == ("done", model.size)
        assert files_in(done["path"]) == model.files
        plain.append(plainly(lan, model.weights))
    figure(f"{MODEL_MIB} MiB, in turn, fetched: {', '.join(f'{took:.1f}' for took in fetched)} s")
    figure(f"by one TCP connection: {', '.join(f'{took:.1f}' for took in plain)} s")
    assert min(plain) >= SPEED_MIN * min(fetched)
    assert banned((giver, taker)) == []


def test_nodes_on_fast_and_slow_lossy_lines_all_get_it_cold_and_ban_nobody(lan, new_model, figure):
    nodes, model = lan.daemons((1, 2, 3, 4)), new_model(lan, MODEL_MIB // 2)
    lan.hub.reset()
    with ThreadPoolExecutor(len(nodes)) as together:
        ends = list(together.map(lambda node: node.bring(model.name), nodes))
    assert all(files_in(end["path"]) == model.files for end in ends)
    figure(f"hub bytes {lan.sent / model.size:.2f} x")
    assert banned(nodes) == []
