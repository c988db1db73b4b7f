"""BitTorrent in the lab of swarm_lab.py: the same nodes, the same line, the hub as web seed. No DHT, no tracker but a list.

libtorrent starts when all are connected, as our own nodes do; aria2 cannot be held back, so its clock starts with the programs.
"""

from __future__ import annotations

import hashlib
import http.server
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lan import HUB_PORT, Lan, address, inside

PORT: Final = 6881
PIECE_BYTES: Final = 1 << 20
_ORIGIN: Final = "10.77.255.1"
_TRACKER_PORT: Final = 6969
_NODE: Final = Path(__file__).with_name("torrent_node.py")

Race = tuple[list[float], float]  # seconds until each was done, CPU-seconds of all


def lacking(client: str) -> str | None:
    """What is to be installed first."""
    if client == "libtorrent":
        return None if importlib.util.find_spec("libtorrent") else "pip install libtorrent"
    return None if shutil.which("aria2c") else "apt-get install aria2"


def write_torrent(model: Path, url: str) -> Path:
    """A torrent of one file, with a web seed and the address of our list of peers."""
    with model.open("rb") as stream:
        pieces = b"".join(hashlib.sha1(piece).digest() for piece in iter(lambda: stream.read(PIECE_BYTES), b""))
    info = {b"length": model.stat().st_size, b"name": model.name, b"piece length": PIECE_BYTES, b"pieces": pieces}
    file = model.with_suffix(".torrent")
    file.write_bytes(bencode({b"announce": f"http://{_ORIGIN}:{_TRACKER_PORT}/", b"info": info, b"url-list": url}))
    return file


def bencode(value: object) -> bytes:
    match value:
        case int():
            return b"i%de" % value
        case bytes():
            return b"%d:%s" % (len(value), value)
        case str():
            return bencode(value.encode())
        case dict():
            return b"d" + b"".join(bencode(key) + bencode(value[key]) for key in sorted(value)) + b"e"
    raise TypeError(value)


@contextmanager
def list_of_peers(lan: Lan) -> Iterator[None]:
    """A tracker that knows everybody from the first."""
    peers = b"".join(socket.inet_aton(address(number)) + PORT.to_bytes(2) for number in range(1, lan.hosts + 1))
    answer = bencode({b"interval": 5, b"peers": peers})

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # the library's name
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = inside(f"{lan.name}-origin", lambda: http.server.ThreadingHTTPServer((_ORIGIN, _TRACKER_PORT), Handler))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def race(client: str, lan: Lan, model: Path, hub_path: str) -> Race:
    """All hosts fetch the model; the hub counts what it sends."""
    lan.hub.cdn = "direct"
    torrent = write_torrent(model, f"http://{_ORIGIN}:{HUB_PORT}/{hub_path}")
    nodes = []
    with list_of_peers(lan):
        try:
            run = _libtorrent if client == "libtorrent" else _aria2
            return run(lan, torrent, nodes)
        finally:
            for node in nodes:
                node.kill()
                node.communicate()


def _start(lan: Lan, number: int, *command: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["ip", "netns", "exec", lan.namespace(number), *map(str, command)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _libtorrent(lan: Lan, torrent: Path, nodes: list[subprocess.Popen[str]]) -> Race:
    numbers = range(1, lan.hosts + 1)
    for number in numbers:
        folder = lan.folder / f"torrent{number}"
        folder.mkdir()
        others = (address(other) for other in numbers if other != number)
        nodes.append(_start(lan, number, sys.executable, _NODE, torrent, folder, address(number), *others))
    for node in nodes:
        _expect(node, "linked")
    lan.hub.reset()
    before = sum(map(_cpu_s, nodes))
    began = time.monotonic()
    for node in nodes:
        _tell(node)
    done = _when_done(nodes, began)
    cpu_s = sum(map(_cpu_s, nodes)) - before
    for node in nodes:
        _tell(node)
    return done, cpu_s


def _aria2(lan: Lan, torrent: Path, nodes: list[subprocess.Popen[str]]) -> Race:
    say_done = lan.folder / "done.sh"
    say_done.write_text("#!/bin/sh\necho done\n")
    say_done.chmod(0o755)
    quiet = ("--quiet", "--file-allocation=none", "--enable-dht=false", "--enable-peer-exchange=false", "--bt-enable-lpd=false")
    stay = ("--seed-ratio=0.0", "--seed-time=9999", f"--on-bt-download-complete={say_done}")
    lan.hub.reset()
    began = time.monotonic()
    for number in range(1, lan.hosts + 1):
        folder = lan.folder / f"torrent{number}"
        nodes.append(_start(lan, number, "aria2c", *quiet, *stay, f"--listen-port={PORT}", f"--dir={folder}", torrent))
    done = _when_done(nodes, began)
    return done, sum(map(_cpu_s, nodes))


def _when_done(nodes: list[subprocess.Popen[str]], began: float) -> list[float]:
    done = [0.0] * len(nodes)

    def wait(index: int) -> None:
        _expect(nodes[index], "done")
        done[index] = time.monotonic() - began

    threads = [threading.Thread(target=wait, args=(index,)) for index in range(len(nodes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not all(done):
        raise RuntimeError("a BitTorrent node ended before it was done")
    return done


def _expect(node: subprocess.Popen[str], word: str) -> None:
    assert node.stdout is not None
    for line in node.stdout:
        if line.strip() == word:
            return
    raise RuntimeError(f"a BitTorrent node ended with {node.wait()}")


def _tell(node: subprocess.Popen[str]) -> None:
    assert node.stdin is not None
    node.stdin.write("\n")
    node.stdin.flush()


def _cpu_s(node: subprocess.Popen[str]) -> float:
    fields = Path(f"/proc/{node.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
