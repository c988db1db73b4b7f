"""A sealed file, warm, to one client: the gateway of a whole daemon against nginx with sendfile on the same file.

    python benchmarks/gateway.py [--mib 1024] [--rounds 5] [--gets 4]

Both servers run for the whole time and take turns, so a noisy machine is noisy for both. The client receives into one
buffer and throws the bytes away. Printed: GB/s as the client sees it and CPU-seconds per GB of the server's process,
median over the rounds, and the ratios. Reach: at least 0.9 of nginx's rate at no more than 1.5 of its CPU.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

from measuring import cpu_s, noise

from p2pmodel.demo.hub import Hub, ThreadedHub
from p2pmodel.demo.nodes import Cluster

REPO = "bench/model"
NGINX = """daemon off; master_process off; worker_processes 1; pid {root}/nginx.pid; error_log {root}/nginx.log;
events {{ worker_connections 64; }}
http {{ access_log off; sendfile on; tcp_nopush on; client_body_temp_path {root}/t1; proxy_temp_path {root}/t2;
  fastcgi_temp_path {root}/t3; uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
  server {{ listen 127.0.0.1:{port}; location / {{ root {root}/www; }} }} }}
"""


def get(port: int, target: str, buffer: bytearray) -> int:
    """Bytes of one answer, head included."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
        total = 0
        while received := sock.recv_into(buffer):
            total += received
        return total


def measure(port: int, target: str, pid: int, gets: int, size: int) -> tuple[float, float]:
    """GB/s, CPU-s/GB."""
    buffer = bytearray(1 << 20)
    cpu, begun = cpu_s(pid), time.perf_counter()
    total = sum(get(port, target, buffer) for _ in range(gets))
    took, used = time.perf_counter() - begun, cpu_s(pid) - cpu
    if total < gets * size:
        raise SystemExit(f"port {port} sent {total} bytes instead of {gets} × {size}")
    return total / took / 1e9, used / (total / 1e9)


@contextmanager
def running(command: list[str]):
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def compare(options: argparse.Namespace, root: Path) -> None:
    hub = Hub()
    commit = hub.add_repo("model", REPO, {"weights": noise(root / "weights", options.mib, seed=1)})
    with ThreadedHub(hub) as running_hub, Cluster(root / "cluster", running_hub.url) as cluster, ExitStack() as stack:
        [node] = cluster.start(1)
        snapshot = list(node.fetch(REPO))[-1].path
        (root / "www").symlink_to(snapshot)
        nginx_port = free_port()
        settings = root / "nginx.conf"
        settings.write_text(NGINX.format(root=root, port=nginx_port))
        nginx = stack.enter_context(running(["nginx", "-e", str(root / "nginx.log"), "-c", str(settings)]))
        wait_for(nginx_port)
        servers = {
            "gateway": (node.gateway_port, f"/{REPO}/resolve/{commit}/weights", node.process.pid),
            "nginx": (nginx_port, "/weights", nginx.pid),
        }
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
    options = parser.parse_args()
    if shutil.which("nginx") is None:
        print("skipped: nginx is not installed (apt install nginx)")
    else:
        with tempfile.TemporaryDirectory(prefix="p2pmodel-gateway-") as root:
            compare(options, Path(root))


if __name__ == "__main__":
    main()
