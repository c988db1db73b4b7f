"""The commands against real daemons: results on stdout, exit codes 0 1 2 3 4 5 6 130, and mistakes told in a sentence.

What each command prints in detail: tests/unit/cli, against a scripted daemon.
"""

import json
import os
import signal
import subprocess
from pathlib import Path
from shutil import which
from urllib.parse import quote

import pytest
from daemons import MIB, PROGRAM, files_in, finish, until
from noise import noise

FILES = {"config.json": b"{}", "model.safetensors": noise(1, 5 * MIB), "onnx/model.onnx": noise(2, 100_000)}


@pytest.fixture(scope="module")
def node(site, house):
    site.hub.add_repo("model", "acme/tiny", FILES)
    site.hub.add_repo("model", "acme/gated", FILES, gated=True)
    return house.daemon("node")


# Results


def test_fetch_prints_the_path_alone_and_says_on_stderr_where_the_bytes_came_from(node):
    done = node.command("fetch", "acme/tiny")
    assert done.code == 0
    assert files_in(done.out.rstrip("\n")) == FILES
    assert "hub" in done.err
    quiet = node.command("fetch", "acme/tiny", "-q")
    assert (quiet.out, quiet.err) == (done.out, "")


def test_to_puts_hard_links_into_a_directory(node, tmp_path):
    done = node.command("fetch", "acme/tiny", "-q", "--to", tmp_path / "here")
    assert done.out == f"{tmp_path / 'here'}\n"
    assert files_in(tmp_path / "here") == FILES
    stored = next(node.state.glob("hub/models--acme--tiny/snapshots/*/model.safetensors"))
    assert (tmp_path / "here/model.safetensors").samefile(stored)


def test_files_and_globs_choose(site, node, tmp_path):
    site.hub.add_repo("model", "acme/parts", {name: name.encode() for name in ("a.json", "b.json", "c.bin", "d.bin")})
    node.fetch("acme/parts", "--include", "*.json", "--exclude", "b*", "--to", tmp_path / "some")
    assert files_in(tmp_path / "some") == {"a.json": b"a.json"}
    assert node.command("fetch", "acme/parts", "d.bin", "--to", tmp_path / "one").code == 0
    assert files_in(tmp_path / "one") == {"d.bin": b"d.bin"}


def test_names_that_are_harmless_here_are_kept_as_they_are(site, node, tmp_path):
    names = [
        "a b/\u00fcn\u00ef \u6587.txt",
        "100%20.txt",
        "x+y=z&a#b;c,d.txt",
        "[a]{b}*?.txt",
        "~tilde",
        "-dash",
        "e/m/p/t/y.bin",
    ]
    names += ["arc:challenge|2023-07-19T15:10:27.json", "quote'\".txt", "n" * 250]
    files = {name: b"" if name.endswith(".bin") else name.encode() for name in names}
    site.hub.add_repo("model", "acme/names", files)
    node.fetch("acme/names", "--to", tmp_path / "out")
    assert files_in(tmp_path / "out") == files
    for name, data in files.items():
        assert node.ask(f"/acme/names/resolve/main/{quote(name)}").body == data


def test_list_status_peers_and_config_show_answer_for_people_and_in_json(node):
    node.fetch("acme/tiny")
    assert "acme/tiny" in node.command("list").out
    [held] = [each for each in node.command("list", "--json").json["snapshots"] if each["repo"] == "acme/tiny"]
    assert held["bytes"] == held["bytes_here"] == sum(map(len, FILES.values()))
    assert str(node.port) in node.command("status").out
    assert node.command("status", "--json").json["mode"] == "open"
    assert node.command("peers", "--json").json == {"peers": [], "bans": []}
    shown = node.command("config show", "--json").json
    assert shown["node"]["state_dir"]["value"] == str(node.state)
    assert str(node.config) in shown["node"]["state_dir"]["origin"]


def test_a_shell_that_evaluates_env_asks_the_running_daemon(node):
    script = f'eval "$({PROGRAM} env --config {node.config})"; echo $HF_ENDPOINT $MODELSCOPE_ENDPOINT'
    done = subprocess.run(["/bin/sh", "-c", script], env=node.user.environ, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [node.url, node.url]


# Exit codes


@pytest.mark.parametrize(
    ("code", "arguments", "says"),
    [
        (2, ["fetch", "not a repo"], "repo"),
        (2, ["fetch", "acme/tiny", "--hub", "nowhere"], "huggingface"),
        (2, ["frobnicate"], "frobnicate"),
        (3, ["fetch", "acme/none"], "acme/none"),
        (3, ["fetch", "acme/tiny@nope"], "nope"),
        (3, ["fetch", "acme/tiny", "nope.bin"], "nope.bin"),
        (3, ["fetch", "acme/none", "--hub", "modelscope"], "acme/none"),
        (4, ["fetch", "acme/gated"], "acme/gated"),
    ],
)
def test_what_cannot_be_done_has_its_exit_code_and_one_sentence(node, code, arguments, says):
    done = node.command(*arguments) if arguments[0] == "fetch" else node.user.run(*arguments)
    assert (done.code, done.out) == (code, "")
    assert says in done.err
    assert "Traceback" not in done.err


def test_wrong_bytes_of_the_hub_fail_with_1_and_are_nowhere(site, node):
    site.hub.add_repo("model", "acme/wrong", {"model.safetensors": noise(3, 5 * MIB)})
    site.hub.fault("GET /blobs/", host="cdn", flip_at=MIB)
    done = node.command("fetch", "acme/wrong")
    assert (done.code, done.out) == (1, "")
    assert "hash" in done.err
    assert not list(node.state.glob("hub/*wrong*/snapshots/*/*"))


@pytest.mark.parametrize("name", ["list", "status", "peers"])
def test_without_a_daemon_the_commands_that_need_one_end_with_6(house, name):
    done = house.plan(f"no-daemon-{name}").command(name)
    assert (done.code, done.out) == (6, "")
    assert "daemon" in done.err


def test_ctrl_c_ends_a_fetch_with_130_and_the_same_command_resumes(site, node):
    weights = noise(4, 24 * MIB)
    site.hub.add_repo("model", "acme/long", {"model.safetensors": weights})
    site.hub.pace.rate = 12e6
    fetch = node.begin_command("fetch", "acme/long")
    until(lambda: site.sent > 14 * MIB, "half of it to be here")
    fetch.send_signal(signal.SIGINT)
    done = finish(fetch)
    assert (done.code, done.out) == (130, "")
    assert "resumes" in done.err
    until(lambda: not node.ask("/-/api/status").json["downloads"], "the daemon to notice")
    before, site.hub.pace.rate = site.sent, None
    again = node.fetch("acme/long")
    assert files_in(again["path"])["model.safetensors"] == weights
    assert site.sent - before <= 16 * MIB


# Without a daemon


def test_fetch_without_a_daemon_is_one_for_the_time_it_takes_and_offline_it_asks_nobody(site, house):
    alone = house.plan("alone", cluster__mode="off")
    done = alone.command("fetch", "acme/tiny", "--json")
    assert done.code == 0, done.err
    assert files_in(done.json["path"]) == FILES
    assert not (alone.state / "run/daemon.json").exists()
    site.hub.reset()
    offline = alone.command("fetch", "acme/tiny", "--offline", "--json")
    assert offline.code == 0, offline.err
    assert offline.json["here"] == sum(map(len, FILES.values()))
    assert site.hub.log == []
    missing = alone.command("fetch", "acme/other", "--offline")
    assert missing.code == 5
    assert site.hub.log == []


def test_offline_through_a_daemon_that_asks_hubs_for_others_asks_none_either(site, node):
    node.fetch("acme/tiny")
    site.hub.add_repo("model", "acme/half", {"a.json": b"a", "b.json": b"b"})
    node.fetch("acme/half", "a.json")
    site.hub.reset()
    assert node.command("fetch", "acme/tiny", "--offline", "--json").json["upstream"] == 0
    assert [node.command("fetch", name, "--offline").code for name in ("acme/half", "acme/other")] == [5, 5]
    assert site.hub.log == []


def test_fetch_without_a_daemon_takes_from_a_peer_what_a_peer_has(site, house, node):
    node.fetch("acme/tiny")
    site.hub.reset()
    done = house.plan("guest", [node]).command("fetch", "acme/tiny", "--json")
    assert done.code == 0, done.err
    assert (done.json["upstream"], site.sent) == (0, 0)


def test_an_interrupted_fetch_without_a_daemon_ends_with_130_and_leaves_no_lock(site, house):
    site.hub.add_repo("model", "acme/alone", {"model.safetensors": noise(5, 12 * MIB)})
    site.hub.pace.rate = 6e6
    alone = house.plan("interrupted", cluster__mode="off")
    fetch = alone.begin_command("fetch", "acme/alone")
    until(lambda: site.sent > 5 * MIB, "some of it to be here")
    fetch.send_signal(signal.SIGINT)
    done = finish(fetch)
    assert (done.code, done.out) == (130, "")
    assert "resumes" in done.err
    site.hub.pace.rate = None
    assert alone.command("fetch", "acme/alone", "-q").code == 0


# Mistakes of the operator


def refused(daemon, **how):
    """What a daemon that must not come up says, and its exit code."""
    daemon.begin(**how)
    code = daemon.wait()
    assert "Traceback" not in daemon.log
    return code, daemon.log


def test_a_second_daemon_on_a_state_directory_is_told_the_pid_of_the_first(house, node):
    code, said = refused(house.plan("second", node__state_dir=str(node.state)))
    assert code == 1
    assert str(node.process.pid) in said
    assert node.ask("/healthz").status == 200
    assert node.command("status").code == 0


@pytest.mark.parametrize("door", ["gateway", "peering"])
def test_a_port_in_use_is_named_with_the_setting_to_change(house, node, door):
    port = node.port if door == "gateway" else node.peering
    host = "localhost" if door == "gateway" else "127.0.0.1"
    code, said = refused(house.plan(f"port-{door}", **{f"{door}__listen": f"{host}:{port}"}))
    assert code == 2
    assert str(port) in said
    assert f"{door}.listen" in said


def test_a_typo_in_the_config_names_file_line_and_the_nearest_key(house):
    daemon = house.plan("typo", gateway__lissten="localhost:0")
    code, said = refused(daemon)
    assert code == 2
    assert f"{daemon.config}:" in said
    assert "gateway.listen" in said


@pytest.mark.skipif(os.geteuid() == 0 and not which("setpriv"), reason="root may write anywhere; setpriv takes that away")
def test_a_state_directory_that_cannot_be_written_is_said_in_a_sentence(house, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    lesser = ("setpriv", "--bounding-set=-dac_override") if os.geteuid() == 0 else ()
    code, said = refused(house.plan("locked", node__state_dir=str(tmp_path / "locked/state")), before=lesser)
    assert code == 1
    assert str(tmp_path / "locked/state") in said
    assert "ermission" in said


def test_what_the_daemon_tells_of_itself_is_in_daemon_json(node):
    said = json.loads(Path(node.state, "run/daemon.json").read_text())
    assert said.keys() == {"pid", "node_id", "gateway", "peering"}
    assert said["pid"] == node.process.pid
