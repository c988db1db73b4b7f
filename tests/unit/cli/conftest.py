"""A user's environment, and a daemon that answers from a script."""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from p2pmodel import config
from p2pmodel.cli import main


class FakeDaemon:
    """Answers `/-/api/NAME` with `documents[NAME]`, and a fetch with `events`, one a line."""

    def __init__(self, state_dir):
        self.documents = {}
        self.events = []
        self.asked = []  # (path, query, headers)
        self.status = 200
        self.cut_after = None  # bytes of an answer's body until the connection breaks
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.port = self._server.server_port
        self._file = state_dir / "run" / "daemon.json"
        self._file.parent.mkdir(parents=True)
        self.announce()

    def announce(self, *, pid=None, gateway=None):
        document = {
            "pid": pid or os.getpid(),
            "node_id": "ab" * 20,
            "gateway": gateway or f"localhost:{self.port}",
            "peering": "0.0.0.0:7277",
        }
        self._file.write_text(json.dumps(document))

    def stop(self):
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def _handler(fake):  # noqa: N805  # two selves would meet below
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                url = urlsplit(self.path)
                fake.asked.append((url.path, parse_qs(url.query), dict(self.headers)))
                if url.path in {"/-/api/fetch", "/-/api/warm"} and fake.status == 200:
                    body = b"".join(json.dumps(event).encode() + b"\n" for event in fake.events)
                else:
                    body = json.dumps(
                        fake.documents.get(url.path.rpartition("/")[2], {"error": "There is nothing here."})
                    ).encode()
                self.send_response(fake.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: fake.cut_after])

            def log_message(self, *args):
                pass

        return Handler


@pytest.fixture
def state_dir(tmp_path, monkeypatch):
    """Where this user's daemon would keep its state; nothing else of the machine's p2pmodel is seen."""
    for name in [name for name in os.environ if name.startswith(("P2PMODEL_", "HF_", "MODELSCOPE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(config, "SYSTEM_CONFIG", tmp_path / "etc")
    monkeypatch.setattr(config, "SYSTEM_STATE", tmp_path / "var")
    return tmp_path / "state" / "p2pmodel"


@pytest.fixture
def daemon(state_dir):
    fake = FakeDaemon(state_dir)
    yield fake
    fake.stop()


@pytest.fixture
def run(state_dir, capsys):
    """Runs a command line; returns (exit code, stdout, stderr)."""

    def run_command(*arguments):
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_command
