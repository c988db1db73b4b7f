"""A canary of each kind of secret, fed in at every door that takes one, is found nowhere else: not in a log at its loudest, an
answer, a metric, a file, a command line, or what two daemons say to each other. None has a shape that the log's filter knows.
"""

import base64
import http.client
import importlib.util
import json
import os
import select
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from daemons import MIB, House, finish, until
from noise import noise

pytestmark = [pytest.mark.scorecard("S21"), pytest.mark.houses]

HEADER, COOKIE, COMMAND = "canary-in-a-header", "canary-in-a-cookie", "canary-of-a-command"
UPSTREAM, ENVIRONMENT, GATEWAY = "canary-of-an-upstream", "canary-in-the-environment", "canary-of-the-gateway"
REFUSED = "canary-that-no-hub-knows"
OVER_TLS, XET, HANDED, WARMING, LAN = (f"canary-of-{what}" for what in ("tls", "xet", "enabling", "warming", "lan"))
PUSH, MS_PUSH, GIT = "canary-of-pushing", "canary-of-mspushing", "canary-of-git"
CANARIES = (HEADER, COOKIE, COMMAND, UPSTREAM, ENVIRONMENT, GATEWAY, REFUSED, OVER_TLS, XET, HANDED, WARMING, LAN)
PACKAGES = all(map(importlib.util.find_spec, ("huggingface_hub", "modelscope_hub")))
OTHERS = [  # of programs that a machine may lack
    pytest.param(canary, marks=pytest.mark.skipif(not there, reason=f"{what} not installed"))
    for canary, there, what in (
        (PUSH, PACKAGES, "huggingface_hub and modelscope-hub are"),
        (MS_PUSH, PACKAGES, "huggingface_hub and modelscope-hub are"),
        (GIT, shutil.which("git-lfs"), "git-lfs is"),
    )
]
FILES = {"config.json": b'{"hidden": 1}', "model.safetensors": noise(21, 6 * MIB)}


class Wire:
    """A recording pipe to a port that is known later: what two daemons say to each other goes through it."""

    def __init__(self):
        self.recorded = bytearray()
        self.target = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                here, _ = self._listener.accept()
                there = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            threading.Thread(target=self._carry, args=(here, there), daemon=True).start()

    def _carry(self, here, there):
        with here, there:
            while True:
                for end in select.select((here, there), (), ())[0]:
                    try:
                        piece = end.recv(1 << 16)
                        (there if end is here else here).sendall(piece)
                    except OSError:
                        return
                    if not piece:
                        return
                    self.recorded += piece

    def close(self):
        self._listener.close()


class CommandLines(threading.Thread):
    """Whatever stands in /proc/*/cmdline meanwhile."""

    def __init__(self):
        super().__init__(daemon=True)
        self.seen = set()
        self.over = threading.Event()

    def run(self):
        while not self.over.wait(0.01):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(file.read_bytes())
                except OSError:  # it has ended
                    continue


@pytest.fixture(scope="module")
def told(site, tmp_path_factory):
    """Everything that anybody could read after every door was used: name → bytes."""
    folder = tmp_path_factory.mktemp("canaries")
    for canary in (HEADER, COOKIE, COMMAND, UPSTREAM, ENVIRONMENT, OVER_TLS, XET, HANDED, WARMING, LAN, PUSH, MS_PUSH, GIT):
        site.hub.add_user(canary, canary.rpartition("-")[2])
    site.hub.add_repo(
        "model", "git/mine", FILES | {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs\n"}, private=True
    )
    site.hub.add_repo("model", "acme/secret", FILES, private=True)
    site.hub.add_repo("model", "acme/open", {"config.json": b"{}", "model.safetensors": noise(22, 5 * MIB)})
    for name, secret in (("upstream-token", UPSTREAM), ("gateway-token", GATEWAY)):
        (folder / name).write_text(secret + "\n")
    wires, lines = (Wire(), Wire()), CommandLines()
    lines.start()
    with House(folder / "house", site, {"log.level": "debug"}) as house:
        key = house.user.run("cluster", "init", "--key-file", folder / "key").out.strip()
        one = house.plan(
            "one",
            cluster__key_file=str(folder / "key"),
            peering__advertise=f"127.0.0.1:{wires[0].port}",
            gateway__tls_listen="localhost:0",
        )
        one.config.write_text(
            one.config.read_text().replace("[[upstream]]", f'[[upstream]]\ntoken_file = "{folder}/upstream-token"', 1)
        )
        wires[0].target = one.start().peering
        two = house.plan(
            "two",
            cluster__key_file=str(folder / "key"),
            peering__peers=[f"127.0.0.1:{wires[0].port}"],
            peering__advertise=f"127.0.0.1:{wires[1].port}",
            gateway__token_file=str(folder / "gateway-token"),
        )
        wires[1].target = two.start(HF_TOKEN=ENVIRONMENT).peering
        until(lambda: len(one.ask("/-/api/peers").json["peers"]) == 1, "the two to be linked")
        said = _use_every_door(site, house, one, two)
        said |= _use_the_newer_doors(house, one)
        lines.over.set()
        for number, node in enumerate((one, two)):
            said[f"log {number}"] = node.log.encode()
            said |= {str(file): file.read_bytes() for file in node.state.rglob("*") if file.is_file() and not file.is_symlink()}
            for file in ("cmdline", "comm", "status", "limits"):
                said[f"{file} {number}"] = Path(f"/proc/{node.process.pid}/{file}").read_bytes()
        assert two.received_over_the_wire
    said |= {f"wire {number}": bytes(wire.recorded) for number, wire in enumerate(wires)}
    for wire in wires:
        wire.close()
    return {**said, "command lines": b"\n".join(lines.seen), "key": key.encode()}


def _use_every_door(site, house, one, two):
    said = {}

    def get(node, path, **headers):
        answer = node.ask(path, **headers)
        body = b"" if answer.status == 200 and answer.body in FILES.values() else answer.body
        said[f"{path} {len(said)}"] = body + repr(sorted(answer.headers.items())).encode()
        return answer

    weights, gate = "/acme/secret/resolve/main/model.safetensors", {"X_P2pmodel_Token": GATEWAY}
    assert get(one, weights, Authorization=f"Bearer {HEADER}").body == FILES["model.safetensors"]
    got = get(two, weights, Authorization=f"Bearer {HEADER}", **gate)
    assert got.body == FILES["model.safetensors"]
    two.received_over_the_wire = int(got.headers["x-p2pmodel-source"] != "upstream")
    ms = "/api/v1/models/acme/secret/repo?Revision=master&FilePath=config.json"
    assert get(one, ms, Cookie=f"m_session_id={COOKIE}").body == FILES["config.json"]
    for command in (one.command("fetch", "acme/secret", "--json", HF_TOKEN=COMMAND), one.command("fetch", "acme/open")):
        assert command.code == 0, command.err
        said[f"command {len(said)}"] = (command.out + command.err).encode()
    own = house.user.run(
        *("fetch", "acme/open", "--set", f"node.state_dir={house.folder}/alone", "--set", "cluster.mode=off"),
        HF_ENDPOINT=site.url,
        HF_TOKEN=ENVIRONMENT,
    )
    said["its own daemon"] = (own.out + own.err).encode()
    # What goes wrong says more than what goes well.
    for token in (REFUSED, HEADER):
        get(one, "/acme/none/resolve/main/x", Authorization=f"Bearer {token}")
        get(one, "/acme/secret/resolve/nope/config.json", Authorization=f"Bearer {token}")
        get(one, f"/api/whoami-v2?token={'x' * 20}", Authorization=f"Bearer {token}")
    get(two, weights, Authorization=f"Bearer {REFUSED}", **gate)
    get(two, weights, X_P2pmodel_Token=f"{GATEWAY}-wrong")
    get(one, "/acme/open/resolve/main/config.json", Authorization=f"Bearer {HEADER}\x01".replace("\x01", "\t"))
    site.hub.fault("acme", status=500, times=4)
    get(one, "/acme/other/resolve/main/config.json", Authorization=f"Bearer {HEADER}")
    site.hub.reset()
    said["rotate"] = finish(one.begin_command("cluster rotate", "--grace", "1h")).err.encode()
    for node, headers in ((one, {}), (two, gate)):
        for page in ("/metrics", "/-/", "/-/api/status", "/-/api/peers", "/-/api/snapshots", "/-/api/limits"):
            get(node, page, **headers)
    for words in (["list"], ["list", "--json"], ["info", "acme/secret"]):
        command = one.command(*words)
        assert "acme/secret" in command.out, command.err
        said["owner's " + " ".join(words)] = (command.out + command.err).encode()
    said["config show"] = one.command("config show").out.encode()
    return said


def _use_the_newer_doors(house, one):
    """TLS, Xet, `enable()`, warming, publishing on the LAN; pushing to both hubs and git, where they are installed."""
    said = {}
    tls = json.loads((one.state / "run/daemon.json").read_text())
    context = ssl.create_default_context(cafile=tls["ca_bundle"])
    file = "/api/v1/models/acme/secret/repo?Revision=master&FilePath=config.json"
    with closing(http.client.HTTPSConnection(*_place(tls["gateway_tls"]), timeout=20, context=context)) as connection:
        connection.request("GET", file, headers={"Cookie": f"m_session_id={OVER_TLS}"})
        assert connection.getresponse().read() == FILES["config.json"]

    given = one.ask("/api/models/acme/secret/xet-read-token/main", Authorization=f"Bearer {XET}")
    assert given.status == 200
    name = one.ask("/acme/secret/resolve/main/model.safetensors", method="HEAD", Authorization=f"Bearer {XET}").headers["etag"]
    storage = given.json["casUrl"].removeprefix(one.url)
    terms = one.ask(f"{storage}/v1/reconstructions/{name.strip(chr(34))}", Authorization=f"Bearer {given.json['accessToken']}")
    assert terms.status == 200
    said["xet"] = given.body + terms.body

    script = "import sys; from p2pmodel import handing; from pathlib import Path\n"
    script += "print(handing.hand(sys.argv[1], Path(sys.argv[2]), {'authorization': 'Bearer ' + input()}, None))"
    url, place = f"{one.url}/acme/secret/resolve/main/config.json", house.folder / "handed" / "config.json"
    done = subprocess.run(
        [sys.executable, "-c", script, url, place],
        input=HANDED,
        env=house.user.environ | {"P2PMODEL_NODE__STATE_DIR": str(one.state)},
        capture_output=True,
        text=True,
        timeout=40,
        check=True,
    )
    assert done.stdout == "True\n"
    said["enable"] = done.stderr.encode()

    folder = house.folder / "pushed"
    folder.mkdir()
    (folder / "w.bin").write_bytes(noise(23, 6 * MIB))
    quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    commands = [
        ("warm", ["acme/open"], {"HF_TOKEN": WARMING}),
        ("push", [folder, "ours", "--lan"], {"HF_TOKEN": LAN, "MODELSCOPE_API_TOKEN": LAN}),
    ]
    if PACKAGES:
        commands += [
            ("push", [folder, "pushing/mine", "--private"], quiet | {"HF_TOKEN": PUSH}),
            ("push", [folder, "mspushing/mine", "--private", "--hub", "modelscope"], quiet | {"MODELSCOPE_API_TOKEN": MS_PUSH}),
        ]
    for name, words, environ in commands:
        command = one.command(name, *words, **environ)
        assert command.code == 0, (name, words, command.err)
        said[f"{name} {words[1:]}"] = (command.out + command.err).encode()
        refused = one.command(name, *words[:1], "nobody/this", **{key: REFUSED for key in environ if "TOKEN" in key})
        said[f"{name} {words[1:]} refused"] = (refused.out + refused.err).encode()
    if shutil.which("git-lfs"):
        said |= _clone_and_push(house, one)
    return said


def _place(address):
    host, _, port = address.rpartition(":")
    return host, int(port)


def _clone_and_push(house, one):
    """With a credential that git takes from its environment, as a helper would give it."""
    header = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "http.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: {_basic(GIT)}",
    }
    who = {f"GIT_{who}_{what}": "git@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    home, said = house.folder / "git", {}
    home.mkdir()
    settings = {"PATH": os.environ["PATH"], "HOME": str(home), "GIT_TERMINAL_PROMPT": "0", "NO_PROXY": "*", **header, **who}
    clone = home / "clone"

    def git(*words):
        done = subprocess.run(["git", *map(str, words)], env=settings, capture_output=True, text=True, timeout=60, check=False)
        said[f"git {words[0]} {len(said)}"] = (done.stdout + done.stderr).encode()
        assert done.returncode == 0, done.stderr

    git("lfs", "install")
    git("clone", f"{one.url}/git/mine", clone)
    assert (clone / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    (clone / "new.safetensors").write_bytes(noise(24, MIB))
    git("-C", clone, "add", ".")
    git("-C", clone, "commit", "-m", "more")
    git("-C", clone, "push")
    return said


def _basic(token):
    return "Basic " + base64.b64encode(f"user:{token}".encode()).decode()


@pytest.mark.parametrize("canary", [*CANARIES, *OTHERS])
def test_a_token_is_in_nothing_that_anybody_can_read(told, canary):
    assert len(told) > 40
    for form in (canary, _basic(canary).removeprefix("Basic ").rstrip("=")):
        assert [name for name, text in told.items() if form.encode() in text] == []


def test_a_crash_leaves_no_core(told):
    for number in range(2):
        (limit,) = (line for line in told[f"limits {number}"].splitlines() if line.startswith(b"Max core file size"))
        assert limit.split()[-3:-1] == [b"0", b"0"]


def test_the_join_token_is_in_nothing_but_its_file(told):
    key = told["key"]
    assert [name for name, text in told.items() if key in text and name != "key"] == []


def test_what_two_daemons_say_to_each_other_names_no_repo_file_or_private_byte(told):
    wire = told["wire 0"] + told["wire 1"]
    assert len(wire) > len(FILES["model.safetensors"]), "the private file went over it"
    piece = FILES["model.safetensors"][3 * MIB : 3 * MIB + 32]
    assert [word for word in (b"acme", b"secret", b"safetensors", b"config.json", piece) if word in wire] == []


def test_no_token_went_to_the_storage_host(site, told):
    assert told
    assert site.hub.stats()["auth_leaks"] == 0
