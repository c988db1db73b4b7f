"""What somebody who taps the switch learns of a private transfer in a closed cluster: nothing.

The line to the hub is left out: it is TLS in the world, and plain HTTP here.
"""

import socket
import threading

import pytest
from lan import HUB_PORT, PEERING_PORT, Lan, address, inside, within
from zeroconf import DNSIncoming, DNSText

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120), pytest.mark.scorecard("S20")]

TOKEN = "hf_overheardoverheardoverheard"
OWNER = "quietlab"
REPO = f"{OWNER}/unspoken-model"
FILE = "hushed-weights.safetensors"
MARK = b"plaintext-of-the-private-file:"
DATA = b"".join(MARK + b"%08d" % number for number in range(250_000))
CONTROL = b"said-aloud-by-the-test"
_ORIGIN = socket.inet_aton("10.77.255.1")
_ETH_P_ALL = 3
_MDNS_PORT = (5353).to_bytes(2, "big")


class Tap(threading.Thread):
    """Every frame that crosses the switch, but for those of the hub."""

    def __init__(self, lan):
        super().__init__()
        self.frames = 0
        self.heard = bytearray()
        self.announced = set()
        self._over = threading.Event()
        self._socket = inside(
            f"{lan.name}-sw", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
        self._socket.settimeout(0.2)

    def run(self):
        while not self._over.is_set():
            try:
                frame = self._socket.recv(1 << 17)
            except TimeoutError:
                continue
            if _ORIGIN not in (frame[26:30], frame[30:34]):  # source and destination of an IPv4 packet
                self.frames += 1
                self.heard += frame
                if frame[36:38] == _MDNS_PORT:  # destination of a UDP packet
                    self.announced.add(frame[42:])

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self.join()
        self._socket.close()


def txt_keys(packet):
    """Of the p2pmodel records in an mDNS packet."""
    texts = [
        answer.text for answer in DNSIncoming(packet).answers() if isinstance(answer, DNSText) and "_p2pmodel" in answer.name
    ]
    for text in texts:
        start = 0
        while start < len(text):
            stop = start + 1 + text[start]
            yield text[start + 1 : stop].partition(b"=")[0]
            start = stop


@pytest.fixture(scope="module")
def lan(tmp_path_factory):
    with Lan(tmp_path_factory.mktemp("lan"), 2, rate="1gbit", origin_rate="1gbit") as lan:
        lan.hub.add_user(TOKEN, "reader")
        lan.hub.add_repo("model", REPO, {FILE: DATA, "config.json": b'{"secret": "word-in-config"}'}, private=True)
        yield lan


def test_a_private_fetch_in_a_closed_cluster_is_not_overheard(lan, figure):
    key = lan.folder / "key"
    nodes = [lan.daemon(number, cluster__key_file=str(key)) for number in (1, 2)]
    token = nodes[0].user.run("cluster", "init", "--key-file", key).out.strip()
    with Tap(lan) as tap:
        for node in nodes:
            node.begin()
        for node in nodes:
            node.started()
        within(10, lambda: all(len(node.peers) == 1 for node in nodes), "the members to be linked")
        for node in nodes:
            answer = node.ask(f"/{REPO}/resolve/main/{FILE}", authorization=f"Bearer {TOKEN}", patience_s=60)
            assert (answer.status, answer.body) == (200, DATA)
        assert nodes[1].received("peer") == len(DATA), "the second has it from the first"
        speaker = inside(nodes[0].namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        speaker.sendto(CONTROL, (address(2), 9))
        within(5, lambda: CONTROL in tap.heard, "the tap to hear what is said aloud")
        speaker.close()
    figure(f"{tap.frames} frames, {len(tap.heard) / 1e6:.1f} MB overheard")
    assert b"_p2pmodel" in tap.heard  # mDNS was there to be heard
    heard = bytes(tap.heard).lower()
    told = (TOKEN.encode(), token.encode(), OWNER.encode(), b"unspoken-model", FILE.encode(), MARK, b"word-in-config")
    assert [word for word in told if word.lower() in heard] == []
    assert b"%d" % PEERING_PORT in tap.heard
    keys = {key for packet in tap.announced for key in txt_keys(packet)}
    assert keys <= {b"v", b"id", b"c", b"p", b"s", b"d", b"g", b"f"}, "mDNS: protocol/discovery.md lists what may be said"
    assert keys
    assert b"%d" % HUB_PORT not in heard
