"""A sealed file, warm, to one client: the gateway on a real store against nginx with sendfile on the same file.

    python benchmarks/gateway.py [--mib 1024] [--rounds 5] [--gets 4]

Both servers run for the whole time and take turns, so a noisy machine is noisy for both. The client receives into one
buffer and throws the bytes away. Printed: GB/s as the client sees it and CPU-seconds per GB of the server's process,
median over the rounds, and the ratios. Reach: at least 0.9 of nginx's rate at no more than 1.5 of its CPU.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pmodel.content import Blob, BlobHasher, FileEntry, Grade, Hub, Repo, RepoKind, Seal, Snapshot, chunk_digest
from p2pmodel.delivery.reader import BlobReader
from p2pmodel.gateway import Gateway, bind
from p2pmodel.limits import CHUNK_BYTES
from p2pmodel.store import Store

REPO = Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "bench/model")
COMMIT = "0" * 40
TARGET = "/bench/model/resolve/main/weights"
NGINX = """daemon off; master_process off; worker_processes 1; pid {root}/nginx.pid; error_log {root}/nginx.log;
events {{ worker_connections 64; }}
http {{ access_log off; sendfile on; tcp_nopush on; client_body_temp_path {root}/t1; proxy_temp_path {root}/t2;
  fastcgi_temp_path {root}/t3; uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
  server {{ listen 127.0.0.1:{port}; location = {target} {{ alias {file}; }} }} }}
"""


# The server under test, in a process of its own


class WarmDelivery:
    """As much of delivery as a sealed file needs: the real reader on the real store."""

    def __init__(self, store: Store, blob: Blob) -> None:
        self._store = store
        entry = FileEntry("weights", blob.size, blob)
        self._found = (Snapshot(REPO, COMMIT, (entry,), b"[]", public=True), entry)

    async def entry(self, _repo, _revision, _path, _access):
        return self._found

    @asynccontextmanager
    async def read(self, _snapshot, entry, start, stop, _access):
        stored = self._store.open(entry.blob, private=False)
        try:
            yield BlobReader(stored, None, start, stop, trio.to_thread.run_sync)
        finally:
            stored.close()


def store_file(state: Path, mib: int) -> tuple[Store, Blob, Path]:
    """A sealed blob of random bytes, and where its file is."""
    chunks = [random.Random(index).randbytes(CHUNK_BYTES) for index in range(8)]
    count = mib * (1 << 20) // CHUNK_BYTES
    hasher = BlobHasher("sha256", count * CHUNK_BYTES)
    for index in range(count):
        hasher.update(chunks[index % len(chunks)])
    blob = Blob(hasher.id(), count * CHUNK_BYTES)
    store = Store(state)
    stored = store.open(blob, private=False)
    for index in range(count):
        data = chunks[index % len(chunks)]
        stored.write(index, memoryview(data), chunk_digest(data), Grade.OWN)
    stored.commit()
    stored.finish(None, Seal.sign(stored.manifest(), Ed25519PrivateKey.generate()))
    path = Path(f"/proc/self/fd/{stored.fileno()}").readlink()
    stored.close()
    return store, blob, path


async def serve(state: Path, mib: int) -> None:
    store, blob, path = store_file(state, mib)
    gateway = Gateway(WarmDelivery(store, blob), None, ready=lambda: None, render_metrics=bytes, report={})
    listeners = bind("127.0.0.1", 0)
    print(listeners[0].getsockname()[1], path, flush=True)
    await gateway.serve(listeners)


# Measuring


def get(port: int, buffer: bytearray) -> int:
    """Bytes of one answer, head included."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(f"GET {TARGET} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
        total = 0
        while received := sock.recv_into(buffer):
            total += received
        return total


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(port: int, pid: int, gets: int, size: int) -> tuple[float, float]:
    """GB/s, CPU-s/GB."""
    buffer = bytearray(1 << 20)
    cpu, begun = cpu_s(pid), time.perf_counter()
    total = sum(get(port, buffer) for _ in range(gets))
    took, used = time.perf_counter() - begun, cpu_s(pid) - cpu
    if total < gets * size:
        raise SystemExit(f"port {port} sent {total} bytes instead of {gets} × {size}")
    return total / took / 1e9, used / (total / 1e9)


@contextmanager
def running(command: list[str], **options):
    process = subprocess.Popen(command, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()
        if process.stdout:
            process.stdout.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def compare(options: argparse.Namespace, root: Path) -> None:
    with ExitStack() as stack:
        command = [sys.executable, __file__, "--serve", str(root / "state"), "--mib", str(options.mib)]
        ours = stack.enter_context(running(command, stdout=subprocess.PIPE, text=True))
        port, file = ours.stdout.readline().split(maxsplit=1)
        nginx_port = free_port()
        settings = root / "nginx.conf"
        settings.write_text(NGINX.format(root=root, port=nginx_port, target=TARGET, file=file.strip()))
        theirs = stack.enter_context(running(["nginx", "-e", str(root / "nginx.log"), "-c", str(settings)]))
        servers = {"gateway": (int(port), ours.pid), "nginx": (nginx_port, theirs.pid)}
        wait_for(nginx_port)
        size = options.mib << 20
        for server in servers.values():
            measure(*server, 1, size)  # warm
        seen = {name: [] for name in servers}
        for _ in range(options.rounds):
            for name, server in servers.items():
                seen[name].append(measure(*server, options.gets, size))
    show(seen)


def wait_for(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    raise SystemExit("nginx did not start")


def show(seen: dict[str, list[tuple[float, float]]]) -> None:
    print(f"{'':8} {'GB/s':>6} {'CPU-s/GB':>9}")
    for name, rounds in seen.items():
        rates, costs = zip(*rounds, strict=True)
        print(f"{name:8} {statistics.median(rates):6.2f} {statistics.median(costs):9.3f}")
    pairs = list(zip(seen["gateway"], seen["nginx"], strict=True))
    rate = statistics.median(ours[0] / theirs[0] for ours, theirs in pairs)
    cost = sum(ours[1] for ours, _ in pairs) / sum(theirs[1] for _, theirs in pairs)
    print(f"ratio    {rate:6.2f} {cost:9.2f}   (reach: ≥ 0.90, ≤ 1.50)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gets", type=int, default=4, help="per server and round")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        trio.run(serve, options.serve, options.mib)
    elif shutil.which("nginx") is None:
        print("skipped: nginx is not installed (apt install nginx)")
    else:
        with tempfile.TemporaryDirectory(prefix="p2pmodel-gateway-") as root:
            compare(options, Path(root))


if __name__ == "__main__":
    main()
