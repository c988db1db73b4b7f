"""Commands that ask the daemon and tell."""

import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler
from socketserver import UnixStreamServer

import pytest

STATUS = {
    "node_id": "ab" * 20,
    "name": "gpu-1",
    "version": "0.1.0",
    "state_dir": "/var/lib/p2pmodel",
    "gateway": "localhost:7276",
    "peering": "0.0.0.0:7277",
    "mode": "open",
    "offline": False,
    "peers": 2,
    "store": {"bytes": 1_500_000_000, "quota": 500_000_000_000},
    "downloads": [{"blob": "sha256:" + "c" * 64, "bytes": 8_000_000, "chunks": 2, "chunks_here": 1, "bytes_peers": 4_000_000}],
    "something_new": 1,
}


@pytest.mark.parametrize("command", ["status", "list", "peers"])
def test_a_command_that_needs_a_daemon_says_so_where_none_runs(run, command):
    code, out, err = run(command)
    assert (code, out) == (6, "")
    assert "p2pmodel serve" in err


def test_a_daemon_that_died_without_a_word_is_no_daemon(run, daemon):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    daemon.announce(pid=gone.pid)
    assert run("status")[0] == 6


def test_a_daemon_that_does_not_answer_at_its_address_is_no_daemon(run, daemon):
    daemon.stop()
    assert run("status")[0] == 6


def test_a_damaged_announcement_is_told_by_its_file(run, daemon, state_dir):
    (state_dir / "run" / "daemon.json").write_text('{"pid": "one"}')
    code, _, err = run("status")
    assert code == 1
    assert "daemon.json is damaged" in err


def test_the_systems_daemon_is_found_after_the_users(run, tmp_path, daemon, state_dir):
    daemon.documents["status"] = STATUS
    (tmp_path / "var" / "run").mkdir(parents=True)
    (state_dir / "run" / "daemon.json").rename(tmp_path / "var" / "run" / "daemon.json")
    assert run("status")[0] == 0


def test_a_state_directory_that_was_named_is_the_only_one_looked_at(run, tmp_path, daemon):
    code, _, err = run("status", "--state-dir", tmp_path / "other")
    assert code == 6
    assert str(tmp_path / "other") in err


def test_status_shows_what_is_held_and_under_way(run, daemon):
    daemon.documents["status"] = STATUS
    code, out, _ = run("status")
    assert code == 0
    assert "1.5 GB of 500.0 GB in /var/lib/p2pmodel" in out
    assert "50% of 8.0 MB (peers 4.0 MB, hub 0 B" in out


def test_json_is_the_daemons_own_document(run, daemon):
    daemon.documents["status"] = STATUS
    assert json.loads(run("status", "--json")[1]) == STATUS


def test_list_shows_what_is_whole_and_what_is_not(run, daemon):
    whole = {"hub": "huggingface", "type": "model", "repo": "org/a", "commit": "c" * 40, "revisions": ["main"], "files": 3}
    part = whole | {"repo": "org/b", "type": "dataset", "files_here": 1, "bytes": 4000, "bytes_here": 1000}
    more = {"files_here": 3, "bytes": 5_000_000, "pinned": True, "used": 1_700_000_000, "peers": 4}
    daemon.documents["snapshots"] = {"snapshots": [part, whole | more]}
    code, out, _ = run("list")
    lines = out.splitlines()
    assert code == 0
    assert lines[1].split()[:7] == ["org/a", "main,", "cccccccccccc", "(pinned)", "3", "5.0", "MB"]
    assert "2023-11-1" in lines[1]
    assert lines[1].split()[-2:] == ["4", "huggingface"]
    assert lines[2].startswith("org/b (dataset)")
    assert "1 of 3" in lines[2]
    assert "never" in lines[2]
    assert "1.0 kB of 4.0 kB" in lines[2]


class OwnersDoor(BaseHTTPRequestHandler):
    """A daemon's admin socket: private models are told there, or nothing but changes is taken (as before it told them)."""

    told = None

    def do_GET(self):
        body = json.dumps(self.told or {"error": "There is nothing here for this method."}).encode()
        self.send_response(200 if self.told else 405)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("newer", [True, False], ids=["this version", "an older one"])
def test_list_shows_what_is_private_where_the_daemon_tells_it(run, daemon, state_dir, monkeypatch, newer):
    public = {"hub": "huggingface", "type": "model", "repo": "org/a", "commit": "c" * 40}
    daemon.documents["snapshots"] = {"snapshots": [public]}
    if newer:
        private = public | {"repo": "org/b", "type": "dataset", "private": True}
        monkeypatch.setattr(OwnersDoor, "told", {"all": True, "snapshots": [public, private]})
    monkeypatch.chdir(state_dir / "run")  # a socket's name has room for 107 bytes
    with UnixStreamServer("admin.sock", OwnersDoor) as door:
        threading.Thread(target=door.handle_request).start()
        code, out, _ = run("list")
    assert code == 0
    assert [line.split("  ")[0] for line in out.splitlines()[1:]] == ["org/a", "org/b (dataset, private)"][: 1 + newer]


def test_what_was_pushed_to_the_cluster_is_no_hubs(run, daemon):
    held = {"hub": "huggingface", "type": "model", "repo": "_lan/mine", "commit": "c" * 40}
    daemon.documents["snapshots"] = {"snapshots": [held]}
    assert run("list")[1].splitlines()[1].endswith("this cluster")


def test_nothing_held_is_said_apart_from_results(run, daemon):
    daemon.documents["snapshots"] = {"snapshots": []}
    code, out, err = run("list")
    assert (code, out) == (0, "")
    assert "p2pmodel fetch" in err


@pytest.mark.parametrize(
    ("said", "lines"),
    [
        ({}, ["whoever runs p2pmodel on this machine's subnets can join", "private and gated ones stay here"]),
        (
            {"mode": "closed", "private_sharing": "prove"},
            ["whoever has this cluster's key can join", "whose own users can read"],
        ),
        ({"mode": "closed", "private_sharing": "off"}, ["this cluster's key", "private and gated ones stay here"]),
        ({"mode": "closed", "private_sharing": "members"}, ["private and gated ones as well, with every member"]),
        (
            {"mode": "hardened", "private_sharing": "prove"},
            ["a certificate of the cluster's authority can join, unless it denies it"],
        ),
        ({"mode": "hardened", "denied": 2, "denied_itself": True}, ["2 certificates denied", "own certificate is among them"]),
        ({"mode": "off"}, ["nobody can join", "Shared:   nothing."]),
        ({"mode": "closed", "former_key_until": 2e9}, ["the former one lets nodes in until 2033-05-1", "cluster rotate TOKEN"]),
        ({"banned": 1}, ["1 node banned by this one: `p2pmodel peers` says why"]),
        ({"clients": "here"}, ["localhost:7276, for users of this machine"]),
        ({"clients": "token"}, ["for whoever shows the gateway's token"]),
        ({"clients": "anyone"}, ["for anyone who reaches it"]),
    ],
    ids=["open", "prove", "off", "members", "hardened", "denied", "alone", "rotating", "banned", "here", "token", "anyone"],
)
def test_status_says_who_can_join_what_is_shared_and_who_is_kept_out(run, daemon, said, lines):
    daemon.documents["status"] = STATUS | said
    code, out, _ = run("status")
    assert code == 0
    assert [line for line in lines if line not in out] == []


def test_peers_shows_who_is_there_and_who_is_banned(run, daemon):
    whom = {"node_id": "0123456789abcdef", "address": "10.0.0.2:7277", "linked_for_s": 75.2, "rtt_s": 0.0012}
    peer = whom | {"received": 2_000_000, "sent": 1000, "blobs": 4, "banned": None}
    daemon.documents["peers"] = {"peers": [peer, peer | {"linked_for_s": None, "banned": "false_digest"}]}
    _, good, banned = run("peers")[1].splitlines()
    assert good.split("  ")[:4] == ["0123456789ab", "10.0.0.2:7277", "1 min 15 s", "1.2 ms"]
    assert "2.0 MB" in good
    assert banned.endswith("banned: signed a false digest")


def test_peers_says_for_how_long_whom_it_banned_and_what_lifts_it(run, daemon):
    gone = {"node_id": "ab" * 20, "why": "wrong_bytes", "for_good": False, "ends_in_s": 90.0}
    liar = {"node_id": "cd" * 20, "why": "two_digests", "for_good": True, "ends_in_s": None}
    daemon.documents["peers"] = {"peers": [], "bans": [gone, liar]}
    code, out, err = run("peers")
    assert (code, out) == (0, "")
    assert "abababababab is banned for 1 min 30 s more: it gave wrong bytes several times." in err
    assert "cdcdcdcdcdcd is banned for good: it signed two digests for one chunk." in err
    assert "--forgive" in err


# env


def test_env_points_clients_at_the_running_daemons_own_port(run, daemon):
    code, out, _ = run("env")
    assert code == 0
    assert f"export HF_ENDPOINT=http://localhost:{daemon.port}\n" in out
    assert f"export MODELSCOPE_ENDPOINT=http://localhost:{daemon.port}\n" in out


def test_env_in_json_has_what_the_lines_would_set(run, daemon, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "corp")
    monkeypatch.delenv("no_proxy", raising=False)
    endpoint = f"http://localhost:{daemon.port}"
    assert json.loads(run("env", "--json")[1]) == {
        "HF_ENDPOINT": endpoint,
        "MODELSCOPE_ENDPOINT": endpoint,
        "NO_PROXY": "localhost,127.0.0.1,::1,corp",
        "no_proxy": "localhost,127.0.0.1,::1",
    }


def test_whoever_lacks_the_gateways_token_is_told_where_a_command_reads_it(run, daemon):
    daemon.status = 401
    code, _, err = run("status")
    assert code == 4
    assert "gateway.token_file" in err


def test_env_without_a_daemon_prints_the_configured_port_and_a_note(run):
    code, out, err = run("env", "--set", "gateway.listen=localhost:9")
    assert code == 0
    assert "export HF_ENDPOINT=http://localhost:9\n" in out
    assert "No p2pmodel daemon" in err


@pytest.mark.parametrize(("before", "after"), [("", "localhost,127.0.0.1,::1"), ("corp", "localhost,127.0.0.1,::1,corp")])
def test_a_shell_that_evaluates_env_keeps_its_own_proxy_exceptions(run, daemon, before, after):
    lines = run("env")[1]
    done = subprocess.run(
        ["/bin/sh", "-c", lines + 'printf %s "$NO_PROXY"'],
        env={"NO_PROXY": before} if before else {},
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    assert done.stdout == after


# config show


def test_config_show_tells_values_and_origins_and_hides_tokens(run, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    code, out, err = run("config", "show", "--set", "store.quota=2TB")
    assert code == 0
    assert 'quota = "2TB"  # flag' in out
    assert "# token (set)" in out
    assert "canary" not in out + err


def test_what_config_show_prints_is_a_config_file(run, tmp_path):
    shown = run("config", "show")[1]
    file = tmp_path / "config.toml"
    file.write_text(shown)
    again = run("config", "show", "--config", file, "--json")
    assert again[0] == 0
    document = json.loads(again[1])
    assert document["gateway"]["listen"] == {"value": "localhost:7276", "origin": f"{file}:7"}
    assert document["upstream"][0]["endpoint"] == "https://huggingface.co"


def test_config_show_defaults_documents_every_key(run):
    code, out, _ = run("config", "show", "--defaults", "--set", "store.quota=2TB")
    assert code == 0
    assert '# How much the store may hold; 0 is no limit\nquota = "500GB"\n' in out
    assert 'offline_grace = "24h"' in out


# cluster


def test_init_makes_a_key_that_only_its_owner_reads_and_token_prints_it_again(run, tmp_path):
    file = tmp_path / "key"
    code, token, err = run("cluster", "init", "--key-file", file)
    assert code == 0
    assert token.startswith("p2pm1-")
    assert file.stat().st_mode & 0o777 == 0o600
    assert "p2pmodel cluster join" in err
    assert run("cluster", "token", "--set", f"cluster.key_file={file}")[1] == token


def test_membership_in_json(run, tmp_path):
    file = tmp_path / "key"
    made = json.loads(run("cluster", "init", "--key-file", file, "--json")[1])
    assert made == {"token": file.read_text().strip(), "key_file": str(file)}
    assert json.loads(run("cluster", "token", "--json", "--set", f"cluster.key_file={file}")[1]) == made
    joined = tmp_path / "joined"
    assert json.loads(run("cluster", "join", made["token"], "--key-file", joined, "--json")[1]) == {"key_file": str(joined)}
    rotated = json.loads(run("cluster", "rotate", "--json", "--set", f"cluster.key_file={file}")[1])
    assert rotated["key_file"] == str(file)
    assert rotated["token"] != made["token"]
    arguments = ("cluster", "rotate", rotated["token"], "--set", f"cluster.key_file={joined}")
    assert run(*arguments)[:2] == (0, "")


def test_a_node_that_joined_has_the_same_key_and_finds_it_by_itself(run, tmp_path, monkeypatch):
    token = run("cluster", "init", "--key-file", tmp_path / "key")[1].strip()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run("cluster", "join", token)[0] == 0
    assert (tmp_path / "config" / "p2pmodel" / "cluster-key").read_text().strip() == token
    assert run("cluster", "token")[1].strip() == token
    assert run("cluster", "join", token)[0] == 0  # again is no mistake


def test_another_clusters_key_is_not_overwritten(run, tmp_path):
    file = tmp_path / "key"
    run("cluster", "init", "--key-file", file)
    before = file.read_text()
    code, _, err = run("cluster", "init", "--key-file", file)
    assert code == 2
    assert str(file) in err
    assert file.read_text() == before


def test_half_a_token_is_refused_and_nothing_is_written(run, tmp_path):
    token = run("cluster", "init", "--key-file", tmp_path / "key")[1].strip()
    code, _, err = run("cluster", "join", token[:-3], "--key-file", tmp_path / "joined")
    assert code == 2
    assert token[:-3] not in err
    assert not (tmp_path / "joined").exists()


def test_token_without_a_cluster_says_how_to_make_one(run):
    code, _, err = run("cluster", "token")
    assert code == 2
    assert "p2pmodel cluster init" in err


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_another_user_who_took_a_dead_daemons_port_is_not_taken_for_it(run, daemon, host):
    """It would be sent the user's token for the hub."""
    daemon.stop()
    os.seteuid(65534)
    try:
        squatter = socket.create_server((host, daemon.port))
    finally:
        os.seteuid(0)
    with squatter:
        code, _, err = run("status")
    assert (code, "No p2pmodel daemon runs" in err) == (6, True)
