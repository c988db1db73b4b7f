"""Bulk reads from a hub: our source with its BLAKE3 against http.client's readinto, which hashes nothing, on loopback.

    python benchmarks/hub_read.py [--mib 512] [--rounds 5]

The hub is a process of its own that sends from memory, so that the reader is what is measured. Readers take turns within a
round; printed are CPU-seconds per GB of the reading process and GB/s, medians over the rounds. `hashing` is what BLAKE3
takes of the bytes alone, to be subtracted by whoever wants to compare.
"""

from __future__ import annotations

import argparse
import http.client
import re
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random

import trio
import trustme
from blake3 import blake3

from p2pmodel.content import Access, Blob, BlobId, Hub, Repo, RepoKind
from p2pmodel.delivery.ports import Location, Order
from p2pmodel.limits import CHUNK_BYTES, MIB, RUN_CHUNKS_MAX
from p2pmodel.upstream import Router, Upstream

RUN_BYTES = RUN_CHUNKS_MAX * CHUNK_BYTES
REPO = Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "bench/model")


# The hub, in a process of its own


def serve(pem: str) -> None:
    """Answer ranged GETs of a file of any size, one connection after the other; "" serves plain http."""
    data = memoryview(Random(1).randbytes(MIB))
    context = None
    if pem:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            stream = context.wrap_socket(connection, server_side=True) if context else connection
            with stream, stream.makefile("rb") as requests:
                while answer(stream, requests, data):
                    pass
        except OSError:
            continue


def answer(stream, requests, data) -> bool:
    head = b""
    while (line := requests.readline()) not in {b"\r\n", b""}:
        head += line
    match = re.search(rb"range: bytes=(\d+)-(\d+)", head, re.IGNORECASE)
    if match is None:
        return False
    first, last = int(match[1]), int(match[2])
    left = last + 1 - first
    size = int(re.search(rb"/size-(\d+)", head)[1])
    stream.sendall(
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: %d\r\nContent-Range: bytes %d-%d/%d\r\n\r\n"
        % (left, first, last, size)
    )
    while left:
        stream.sendall(data[: min(left, MIB)])
        left -= min(left, MIB)
    return True


@contextmanager
def hub(pem: Path | None):
    command = [sys.executable, __file__, "--serve", str(pem or "")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


# The readers


class Nothing:
    """A sink that keeps nothing."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(CHUNK_BYTES))

    @asynccontextmanager
    async def buffer(self):
        yield self._buffer

    async def allow(self, count: int) -> int:
        return min(count, 1 << 20)

    def progress(self, received: int) -> None:
        pass

    def answered_by(self, upstream: str) -> None:
        pass

    async def arrived(self, index, data, digest, *, claimed, grade) -> None:  # the port's shape
        await trio.lowlevel.checkpoint()


def ours(endpoint: str, size: int, ca_file: Path | None) -> None:
    async def main() -> None:
        blob = Blob(BlobId("sha256", "0" * 64), size)
        location = Location(REPO, "main", f"size-{size}", Access())
        upstream = Upstream("bench", Hub.HUGGINGFACE, endpoint, ca_file=ca_file, trusted=True)
        async with Router([upstream], rng=Random(1)) as router:
            source = router.source([location])
            for first in range(0, size // CHUNK_BYTES, RUN_CHUNKS_MAX):
                await source.fetch(Order(blob, first, RUN_CHUNKS_MAX), Nothing())

    trio.run(main)


def plain_python(endpoint: str, size: int, ca_file: Path | None) -> None:
    scheme, _, authority = endpoint.partition("://")
    if scheme == "https":
        connection = http.client.HTTPSConnection(authority, context=ssl.create_default_context(cafile=ca_file))
    else:
        connection = http.client.HTTPConnection(authority)
    buffer = memoryview(bytearray(CHUNK_BYTES))
    for start in range(0, size, RUN_BYTES):
        connection.request("GET", f"/size-{size}", headers={"Range": f"bytes={start}-{start + RUN_BYTES - 1}"})
        response = connection.getresponse()
        while response.readinto(buffer):
            pass
    connection.close()


def hashing(_endpoint: str, size: int, _ca_file: Path | None) -> None:
    data = bytes(CHUNK_BYTES)
    for _ in range(size // CHUNK_BYTES):
        hasher = blake3()
        for start in range(0, CHUNK_BYTES, 256 * 1024):
            hasher.update(memoryview(data)[start : start + 256 * 1024])
        hasher.digest()


def measure(read, endpoint: str, size: int, ca_file: Path | None) -> tuple[float, float]:
    """CPU-seconds per GB and GB/s."""
    wall, cpu = time.perf_counter(), time.process_time()
    read(endpoint, size, ca_file)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return cpu / (size / 1e9), size / 1e9 / wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve is not None:
        serve(asked.serve)
    size = -(-asked.mib * MIB // RUN_BYTES) * RUN_BYTES
    readers = (ours, plain_python, hashing)
    with tempfile.TemporaryDirectory() as directory:
        ca, pem, ca_file = trustme.CA(), Path(directory, "hub.pem"), Path(directory, "ca.pem")
        ca.cert_pem.write_to_path(ca_file)
        ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pem)
        with hub(None) as port, hub(pem) as tls_port:
            for endpoint, authority in ((f"http://127.0.0.1:{port}", None), (f"https://127.0.0.1:{tls_port}", ca_file)):
                rounds = [[measure(read, endpoint, size, authority) for read in readers] for _ in range(asked.rounds)]
                print(endpoint.partition(":")[0])
                medians = [
                    [statistics.median(column) for column in zip(*runs, strict=True)] for runs in zip(*rounds, strict=True)
                ]
                for read, (cpu, rate) in zip(readers, medians, strict=True):
                    print(f"  {read.__name__:13} {cpu:5.2f} CPU-s/GB  {rate:5.2f} GB/s")
                print(f"  ours takes {medians[0][0] / medians[1][0]:.2f} × the CPU of plain Python")


if __name__ == "__main__":
    main()
