"""Peer → peer over one link, BLAKE3-verified and written, against the barest Python loop over the same kind of connection.

    python benchmarks/peer_transfer.py [--mib 1024] [--rounds 3] [--dir /tmp]

Two processes on loopback, the ways interleaved. "bare" is a blocking `recv_into` 1 MiB → `pwrite` loop that hashes nothing,
fed by `os.sendfile` (plain) or `sendall` (TLS). "peer" is two whole `Peering` objects: link, ticket, Get, chunks hashed as
they come, each written by `pwrite` in a worker thread. sha256 and fsync of the written file are timed apart. The target file
is written once before, so that all ways meet the same warm pages.
"""

import argparse
import hashlib
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
import trio

from p2pmodel.content import Blob, BlobId, chunk_count, chunk_digest, chunk_size, chunk_start
from p2pmodel.delivery.ports import Order, Span
from p2pmodel.errors import WrongBytesError
from p2pmodel.limits import CHUNK_BYTES, MIB, RUN_CHUNKS_MAX
from p2pmodel.network import Address, Candidate
from p2pmodel.peering import Identity, Membership, Peering, TcpNetwork, TlsSecure, new_join_token
from p2pmodel.settings import HostPort, PeeringSettings

BLOB = BlobId("sha256", "ab" * 32)
HOST = "127.0.0.1"


class Events:
    """A delivery that serves one file, its digests computed before."""

    def __init__(self, source=None, size=0):
        self.put_linked, self.get_linked = trio.open_memory_channel(8)
        self.fd = os.open(source, os.O_RDONLY) if source else -1
        self.size = size
        self.digests = [chunk_digest(os.pread(self.fd, *self.span(i)[::-1])) for i in range(chunk_count(size))]

    def span(self, index):
        return chunk_start(index), chunk_size(self.size, index)

    def linked(self, peer):
        self.put_linked.send_nowait(peer)

    async def next_linked(self):
        return await self.get_linked.receive()

    def unlinked(self, peer):
        pass

    def quiet(self, peer, *, quiet):
        pass

    def received(self, peer, message):
        pass

    async def answer(self, peer, question):
        return []

    async def seed(self, peer, blob, index):
        return Span(self.fd, *self.span(index), self.digests[index])


class Sink:
    """Checks and writes, as a download does."""

    def __init__(self, fd):
        self.fd = fd
        self.buffers = [memoryview(bytearray(CHUNK_BYTES)) for _ in range(4)]

    @asynccontextmanager
    async def buffer(self):
        buffer = self.buffers.pop()
        try:
            yield buffer
        finally:
            self.buffers.append(buffer)

    async def allow(self, count):
        return count

    def progress(self, received):
        pass

    async def arrived(self, index, data, digest, *, claimed, grade):
        if digest != claimed:
            raise WrongBytesError("benchmark")
        await trio.to_thread.run_sync(os.pwrite, self.fd, data, chunk_start(index))


def peering(membership, plain_data):
    return Peering(
        PeeringSettings(listen=HostPort(HOST, 0), plain_data=plain_data),
        node=membership.identity.node,
        boot=os.urandom(8),
        closed=True,
        network=TcpNetwork(),
        secure=TlsSecure(membership),
        inventory=lambda: (0, bytes(16)),
        blocking=trio.to_thread.run_sync,
        dice=random.SystemRandom(),
    )


# The seeding process


def serve_bare(listener, source, size, context=None):
    """One transfer for each connection: blocking, a thread each."""

    def serve(sock):
        with sock, source.open("rb") as file:
            if context is None:
                done = 0
                while done < size:
                    done += os.sendfile(sock.fileno(), file.fileno(), done, size - done)
                return
            with context.wrap_socket(sock, server_side=True) as tls:
                buffer = memoryview(bytearray(256 * 1024))
                while count := file.readinto(buffer):
                    tls.sendall(buffer[:count])
                tls.recv(1)  # their close

    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


async def seed(source, size, token):
    membership = Membership.closed(Identity.generate(), token)
    context = TlsSecure(membership)._server
    listeners = [socket.create_server((HOST, 0)) for _ in range(2)]
    for listener, tls in zip(listeners, (None, context), strict=True):
        threading.Thread(target=serve_bare, args=(listener, source, size, tls), daemon=True).start()
    nodes = peering(membership, "public"), peering(Membership.closed(Identity.generate(), token), "never")
    async with trio.open_nursery() as nursery:
        events = Events(source, size)
        ports = [await nursery.start(node.run, events) for node in nodes]
        print(*[listener.getsockname()[1] for listener in listeners], *ports, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)  # until the other process ends
        nursery.cancel_scope.cancel()


# The fetching process


def fetch_bare(port, fd, size, context=None):
    with socket.create_connection((HOST, port)) as raw:
        sock = context.wrap_socket(raw) if context else raw
        buffer = memoryview(bytearray(MIB))
        done = 0
        while done < size:
            count = sock.recv_into(buffer)
            os.pwrite(fd, buffer[:count], done)
            done += count
        if context:
            sock.close()


async def fetch_from_peer(node, peer, fd, size, lanes):
    blob, sink = Blob(BLOB, size), Sink(fd)
    firsts = iter(range(0, chunk_count(size), RUN_CHUNKS_MAX))

    async def lane():
        for first in firsts:
            await node.source(peer).fetch(Order(blob, first, min(RUN_CHUNKS_MAX, chunk_count(size) - first)), sink)

    async with trio.open_nursery() as nursery:
        for _ in range(lanes):
            nursery.start_soon(lane)


def cpu_of(pid):
    """User and system seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Clock:
    """Rates and CPU-seconds per GB by way."""

    def __init__(self, size, seeder):
        self.size, self.seeder = size, seeder
        self.rates, self.cpu = {}, {}

    async def time(self, way, work):
        before = cpu_of(self.seeder), time.process_time(), time.perf_counter()
        await work()
        spent = time.perf_counter() - before[2]
        gb = self.size / 1e9
        self.rates.setdefault(way, []).append(gb / spent)
        self.cpu.setdefault(way, []).append(((cpu_of(self.seeder) - before[0]) / gb, (time.process_time() - before[1]) / gb))

    def report(self):
        print(f"{'way':28s} {'GB/s':>6s}  CPU-s/GB: send receive")
        for way, rates in self.rates.items():
            send, receive = (statistics.median(column) for column in zip(*self.cpu[way], strict=True))
            print(f"{way:28s} {statistics.median(rates):6.2f}            {send:5.2f} {receive:7.2f}")
        for kind in ("plain", "TLS"):
            for lanes in (1, 2):
                pairs = zip(self.rates[f"peer, {kind}, {lanes} lane"], self.rates[f"bare, {kind}"], strict=True)
                print(f"peer / bare, {kind}, {lanes} lane: {statistics.median(peer / bare for peer, bare in pairs):.2f}")


async def compare(options, child, target, token):
    size = options.mib * MIB
    bare_plain, bare_tls, peer_plain, peer_tls = map(int, child.stdout.readline().split())
    context = TlsSecure(Membership.closed(Identity.generate(), token))._client
    clock, fd = Clock(size, child.pid), os.open(target, os.O_RDWR)
    in_thread = trio.to_thread.run_sync
    node, events = peering(Membership.closed(Identity.generate(), token), "public"), Events()
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run, events)
        peers = []
        for port in (peer_plain, peer_tls):
            node.heard(Candidate(Address(HOST, port), None, "static"))
            peers.append(await events.next_linked())
        for _ in range(options.rounds):
            await clock.time("bare, plain", lambda: in_thread(fetch_bare, bare_plain, fd, size))
            for lanes in (1, 2):
                await clock.time(f"peer, plain, {lanes} lane", lambda n=lanes: fetch_from_peer(node, peers[0], fd, size, n))
            await clock.time("bare, TLS", lambda: in_thread(fetch_bare, bare_tls, fd, size, context))
            for lanes in (1, 2):
                await clock.time(f"peer, TLS, {lanes} lane", lambda n=lanes: fetch_from_peer(node, peers[1], fd, size, n))
        nursery.cancel_scope.cancel()
    clock.report()
    return fd


def sync_and_compare(fd, source, target):
    """What the figures above leave out; whether the bytes are right."""
    began = time.perf_counter()
    os.fsync(fd)
    print(f"fsync {time.perf_counter() - began:.2f} s;", end=" ")
    began = time.perf_counter()
    with source.open("rb") as sent, target.open("rb") as written:
        digests = [hashlib.file_digest(file, "sha256").digest() for file in (sent, written)]
    rate = 2 * source.stat().st_size / 1e9 / (time.perf_counter() - began)
    same = digests[0] == digests[1]
    print(f"sha256 {rate:.2f} GB/s; files are {'the same' if same else 'DIFFERENT'}")
    return 0 if same else 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", default=None)
    parser.add_argument("--seed", help=argparse.SUPPRESS)
    parser.add_argument("--token", help=argparse.SUPPRESS)
    options = parser.parse_args()
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr), wrapper_class=structlog.make_filtering_bound_logger(30)
    )
    if options.seed:
        trio.run(seed, Path(options.seed), options.mib * MIB, options.token)
        return 0
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        source, target = Path(folder) / "source", Path(folder) / "target"
        block = random.Random(1).randbytes(MIB)
        for path in (source, target):
            with path.open("wb") as file:
                for number in range(options.mib):
                    file.write(number.to_bytes(8, "big") + block[8:])
        token = new_join_token()
        command = [sys.executable, __file__, "--seed", str(source), "--mib", str(options.mib), "--token", token]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            return sync_and_compare(trio.run(compare, options, child, target, token), source, target)


if __name__ == "__main__":
    sys.exit(main())
