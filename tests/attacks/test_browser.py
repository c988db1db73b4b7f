"""A hostile page in a real browser on a daemon's machine: whatever it tries, nothing behind the gate hears of it.

The page comes from a server that then leaves its port to the daemon's gateway: from then on its own host name leads there,
as after DNS rebinding. Needs Chromium (`apt-get install chromium`).
"""

import http.client
import http.server
import json
import os
import shutil
import socket
import subprocess
import threading
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from daemons import House, Site, until
from lan import Lan, address, inside, missing

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PAGE = Path(__file__).with_name("hostile.html")
SHAPES = {
    "fetch", "no-cors fetch", "put", "no-cors post", "img", "script", "iframe", "form", "websocket",
    "rebound get", "rebound post",
}  # fmt: skip

pytestmark = [
    pytest.mark.attacks,
    pytest.mark.scorecard("S16"),
    pytest.mark.timeout(120),
    pytest.mark.skipif(BROWSER is None, reason="apt-get install chromium"),
]


class Evil(http.server.BaseHTTPRequestHandler):
    """The attacker's server: its page, when to begin, and what the page saw."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        ours = self.server
        body = b"go" if ours.go.is_set() else b"wait"
        if self.path == "/":
            ours.shown.set()
            body = ours.page
        self.answer(body)

    def do_POST(self):
        self.server.report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(b"")

    def answer(self, body):
        self.close_connection = True
        self.send_response(200)
        for name, value in (
            ("Content-Type", "text/html"),
            ("Content-Length", str(len(body))),
            ("Access-Control-Allow-Origin", "*"),
            ("Connection", "close"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def serving(port=0, *, namespace=""):
    def make():
        return http.server.ThreadingHTTPServer((address(1) if namespace else "127.0.0.1", port), Evil)

    server = inside(namespace, make) if namespace else make()
    server.go, server.shown, server.report, server.page = threading.Event(), threading.Event(), None, b""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def browsing(url, profile, *, before=(), leads_to="127.0.0.1"):
    names = f"MAP *.example {leads_to}"
    process = subprocess.Popen(
        [
            *before, BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", f"--user-data-dir={profile}", f"--host-resolver-rules={names}",
            "--no-proxy-server", "--remote-debugging-port=0", url,
        ],
        env={**os.environ, "HOME": str(profile)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def test_a_hostile_page_in_a_browser_reaches_no_handler(tmp_path, figure):
    port = free_port()
    with Site() as site, House(tmp_path, site) as house, serving() as evil, ExitStack() as browser:
        site.hub.add_repo("model", "acme/tiny", {"config.json": b"{}"})
        with serving(port) as rebinding:
            rebinding.page = page_for(evil, f"localhost:{port}")
            browser.enter_context(browsing(f"http://rebound.example:{port}/", tmp_path / "profile"))
            assert rebinding.shown.wait(40), "the browser does not show the page"
        node = house.daemon("node", gateway__listen=f"localhost:{port}")
        refused = attacked(node, evil)
        with urllib.request.urlopen(f"http://localhost:{port}/acme/tiny/resolve/main/config.json") as answer:
            assert answer.read() == b"{}"
        assert node.ask("/-/api/status").status == 200
    figure(f"{len(evil.report)} shapes tried, {refused:.0f} requests refused at the gate; the page saw {evil.report}")


@pytest.mark.lab
@pytest.mark.skipif(missing() is not None, reason=missing() or "")
@pytest.mark.parametrize(("name", "reached"), [(address(1), set()), ("node.example", {"page", "report"})])
def test_a_hostile_page_has_no_effect_on_a_gateway_that_is_open_to_the_lan(tmp_path, figure, name, reached):
    """Over plain http and not at loopback a browser says less of what a page asks. By the gateway's address nothing is told; by
    a name that was configured what changes nothing, and the page cannot read it."""
    port = 7276
    with Lan(tmp_path, 1) as lan, ExitStack() as browser:
        lan.hub.add_repo("model", "acme/tiny", {"config.json": b"{}"})
        namespace, here = lan.namespace(1), f"{name}:{port}"
        evil = browser.enter_context(serving(namespace=namespace))
        open_to_all = {"gateway__serve_anyone": True, "gateway__allowed_hosts": ["node.example"]}
        node = lan.daemon(1, gateway__listen=f"0.0.0.0:{port}", **open_to_all)
        with serving(port, namespace=namespace) as rebinding:
            rebinding.page = page_for(evil, here)
            inside_it = {"before": ("ip", "netns", "exec", namespace), "leads_to": address(1)}
            browser.enter_context(browsing(f"http://rebound.example:{port}/", tmp_path / "profile", **inside_it))
            assert rebinding.shown.wait(40), "the browser does not show the page"
        node.start()
        refused = attacked(node, evil, reached)
        client = http.client.HTTPConnection(here, timeout=20)
        client.sock = inside(namespace, lambda: socket.create_connection((address(1), port), 20))
        client.request("GET", "/acme/tiny/resolve/main/config.json")
        assert client.getresponse().read() == b"{}", "a client that is no browser needs no other name"
        client.close()
    figure(f"at {name}: {len(evil.report)} shapes tried, {refused:.0f} requests refused at the gate")


def page_for(evil, gateway):
    return PAGE.read_bytes().replace(b"@EVIL@", b"%d" % evil.server_port).replace(b"@GATEWAY@", gateway.encode())


def attacked(node, evil, reached=frozenset()):
    """Have the page try everything; how many requests the gate refused. It may have `reached` those handlers."""
    before = handled(node)
    evil.go.set()
    until(lambda: evil.report is not None, "the page to have tried everything", 60)
    after = handled(node)
    refused = sum(node.metrics("p2pmodel_gateway_requests_total").values()) - sum(after.values())
    assert evil.report.keys() == SHAPES
    assert refused >= len(SHAPES) - 1 - len(reached)  # they did arrive: it is not the browser that kept them back
    assert {route for route in after if after[route] != before.get(route)} <= {"metrics", *reached}
    for answer in evil.report.values():
        if isinstance(answer, dict):
            assert answer["status"] in {0, 421}  # opaque, or the refusal to the rebound name
            assert not any(name.startswith("access-control") for name in answer["headers"])
            assert "node_id" not in answer["body"]
    return refused


def handled(node):
    """Requests that passed the gate, by route."""
    counted = {}
    for labels, count in node.metrics("p2pmodel_gateway_requests_total").items():
        route = dict(pair.split("=") for pair in labels.replace('"', "").split(","))["route"]
        if route != "refused":
            counted[route] = counted.get(route, 0) + count
    return counted
