"""`p2pmodel fetch` through a running daemon."""

import json
import re
import socket
import sys
from types import ModuleType, SimpleNamespace

import pytest

from p2pmodel.cli import progress
from p2pmodel.cli.progress import FetchEvent
from p2pmodel.cli.report import VerifyReport
from p2pmodel.settings import HostPort

COMMIT = "c" * 40


@pytest.fixture
def snapshot(tmp_path):
    """A snapshot's directory as the store makes it: links to blobs."""
    folder = tmp_path / "hub" / "models--org--model" / "snapshots" / COMMIT
    blobs = folder.parents[1] / "blobs"
    blobs.mkdir(parents=True)
    (folder / "sub").mkdir(parents=True)
    for name, content in (("config.json", b"{}"), ("sub/weights.bin", b"weights")):
        etag = (content.hex() * 40)[:40]
        (blobs / etag).write_bytes(content)
        (blobs / etag).chmod(0o444)
        (folder / name).symlink_to(blobs / etag)
    return folder


@pytest.fixture
def fetched(daemon, snapshot):
    step = {
        "event": "progress",
        "commit": COMMIT,
        "files": 2,
        "files_done": 0,
        "bytes": 100,
        "here": 10,
        "peers": 40,
        "upstream": 0,
        "rate": 25.0,
        "path": None,
    }
    done = step | {"event": "done", "files_done": 2, "peers": 80, "upstream": 10, "path": str(snapshot)}
    daemon.events = [step, done]
    return daemon


def test_stdout_is_the_snapshots_path_alone_and_progress_goes_to_stderr(run, fetched, snapshot):
    summary = "org/model: 100 B of 100 B (here 10 B, peers 80 B, hub 10 B)"
    assert run("fetch", "org/model") == (0, f"{snapshot}\n", f"{summary}\n")


def test_quiet_is_quiet(run, fetched, snapshot):
    assert run("fetch", "-q", "org/model") == (0, f"{snapshot}\n", "")


def test_json_is_one_document_with_the_bytes_by_source(run, fetched, snapshot):
    document = json.loads(run("fetch", "org/model", "--json")[1])
    assert document.pop("seconds") >= 0
    assert document == {
        "commit": COMMIT,
        "files": 2,
        "bytes": 100,
        "here": 10,
        "peers": 80,
        "upstream": 10,
        "path": str(snapshot),
    }


def test_hugging_face_is_asked_for_its_main_branch_unless_said_otherwise(run, fetched):
    run("fetch", "qwen/Qwen-7B-Chat")
    run("fetch", "qwen/Qwen-7B-Chat", "--hub", "modelscope")
    run(
        "fetch",
        "org/data@v1",
        "a.json",
        "b.json",
        "--type",
        "dataset",
        "--include",
        "*.json",
        "--exclude",
        "x*",
        "--exclude",
        "y*",
    )
    queries = [query for _, query, _ in fetched.asked]
    assert queries[0] == {"hub": ["huggingface"], "type": ["model"], "repo": ["qwen/Qwen-7B-Chat"], "revision": ["main"]}
    assert queries[1]["hub"] == ["modelscope"]
    assert queries[1]["revision"] == ["master"]
    assert queries[2] == {
        "hub": ["huggingface"],
        "type": ["dataset"],
        "repo": ["org/data"],
        "revision": ["v1"],
        "file": ["a.json", "b.json"],
        "include": ["*.json"],
        "exclude": ["x*", "y*"],
    }


@pytest.mark.parametrize("repo", ["", "../etc", "a/b/c", "org/model@", "org/mo del"])
def test_what_is_no_repo_is_a_usage_error_before_anybody_is_asked(run, fetched, repo):
    assert run("fetch", repo)[0] == 2
    assert fetched.asked == []


@pytest.mark.parametrize(
    ("kind", "code"),
    [("RepoNotFoundError", 3), ("GatedRepoError", 4), ("UnavailableError", 5), ("StoreFullError", 1), ("ConfigError", 2)],
)
def test_a_failed_fetch_tells_the_daemons_reason_and_ends_with_its_code(run, fetched, kind, code):
    fetched.events = [fetched.events[0], {"event": "error", "kind": kind, "message": "It is so.", "next_step": "Do that."}]
    ended, out, err = run("fetch", "org/model")
    assert (ended, out) == (code, "")
    assert "Error: It is so. Do that." in err


def test_a_daemon_that_stops_in_the_middle_is_told_and_the_command_resumes(run, fetched):
    fetched.cut_after = 50
    code, out, err = run("fetch", "org/model")
    assert (code, out) == (1, "")
    assert "The same command resumes" in err


def test_an_answer_that_ends_without_a_path_is_a_failure(run, fetched):
    fetched.events.pop()
    assert run("fetch", "org/model")[0] == 1


def test_interrupting_keeps_what_was_fetched_and_says_so(run, fetched, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(progress._Lines, "update", interrupt)
    code, out, err = run("fetch", "org/model")
    assert (code, out) == (130, "")
    assert "What was fetched is kept; the same command resumes." in err


def test_offline_is_said_to_the_daemon_that_runs(run, fetched, snapshot):
    assert run("fetch", "org/model", "--offline")[:2] == (0, f"{snapshot}\n")
    assert fetched.asked[-1][1]["offline"] == ["1"]


def test_a_name_that_is_no_text_is_a_mistake_of_the_command_line(run, fetched):
    code, out, err = run("fetch", "org/model", "\udcff.txt")
    assert (code, out) == (2, "")
    assert "not UTF-8" in err


def test_an_announcement_that_a_crash_left_behind_hides_no_daemon_that_runs(run, fetched, snapshot, tmp_path, state_dir):
    system = tmp_path / "var" / "run" / "daemon.json"
    system.parent.mkdir(parents=True)
    (state_dir / "run" / "daemon.json").rename(system)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    fetched.announce(gateway=f"localhost:{port}")  # with the pid of a process that lives
    assert run("fetch", "org/model", "-q") == (0, f"{snapshot}\n", "")


def test_patterns_that_leave_no_file_are_an_error_and_not_an_empty_success(run, fetched):
    fetched.events = [{**fetched.events[-1], "files": 0, "bytes": 0, "upstream": 0, "here": 0}]
    code, out, err = run("fetch", "org/model", "--include", "*.xyz")
    assert (code, out) == (3, "")
    assert "No file of org/model" in err


def test_without_a_daemon_fetch_is_one_for_the_time_it_takes_on_free_ports(run, fetched, snapshot, state_dir, monkeypatch):
    """`p2pmodel.process` is played here: what is handed to it, and that its gateway is asked."""
    (state_dir / "run" / "daemon.json").unlink()
    asked_for = []

    def run_for(settings, job):
        asked_for.append(settings)
        return job(SimpleNamespace(node_id="ab" * 20, gateway=HostPort("localhost", fetched.port), peering=1))

    house = ModuleType("p2pmodel.process")
    house.run_for = run_for
    monkeypatch.setitem(sys.modules, "p2pmodel.process", house)
    assert run("fetch", "org/model", "--offline", "--set", "node.name=me")[:2] == (0, f"{snapshot}\n")
    (settings,) = asked_for
    assert (settings.gateway.listen.port, settings.peering.listen.port) == (0, 0)
    assert (settings.node.name, settings.node.offline, settings.node.state_dir) == ("me", True, state_dir)


# Tokens


def test_the_users_own_token_goes_with_the_request(run, fetched, monkeypatch, tmp_path):
    run("fetch", "org/model")
    (tmp_path / "home" / ".cache" / "huggingface").mkdir(parents=True)
    (tmp_path / "home" / ".cache" / "huggingface" / "token").write_text("hf_from_file\n")
    run("fetch", "org/model")
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms_canary")
    _, out, err = run("fetch", "org/model")
    run("fetch", "org/model", "--hub", "modelscope")
    sent = [headers.get("Authorization") for _, _, headers in fetched.asked]
    assert sent == [None, "Bearer hf_from_file", "Bearer hf_canary", "Bearer ms_canary"]
    assert "canary" not in out + err


def test_a_gateway_that_wants_a_token_gets_it_from_the_configured_file(run, fetched, tmp_path):
    (tmp_path / "token").write_text("secret\n")
    run("fetch", "org/model", "--set", f"gateway.token_file={tmp_path / 'token'}")
    assert fetched.asked[0][2]["X-P2pmodel-Token"] == "secret"


# --to


def test_to_hard_links_the_files_into_the_directory(run, fetched, tmp_path, snapshot):
    code, out, _ = run("fetch", "org/model", "--to", tmp_path / "here")
    assert (code, out) == (0, f"{tmp_path / 'here'}\n")
    assert (tmp_path / "here" / "sub" / "weights.bin").read_bytes() == b"weights"
    assert (tmp_path / "here" / "config.json").samefile(snapshot / "config.json")
    assert not (tmp_path / "here" / "config.json").is_symlink()


@pytest.mark.parametrize(
    ("selection", "expected"),
    [(("config.json",), "config.json"), (("--include", "sub/*"), "weights.bin"), (("--exclude", "*.bin"), "config.json")],
)
def test_to_takes_only_the_files_that_were_asked_for(run, fetched, tmp_path, selection, expected):
    fetched.events[-1]["files"] = 1
    assert run("fetch", "org/model", "--to", tmp_path / "out", *selection)[0] == 0
    assert [file.name for file in (tmp_path / "out").rglob("*") if file.is_file()] == [expected]


def test_to_fails_where_the_snapshot_is_not_for_this_user_to_read(run, fetched, tmp_path):
    fetched.events[-1]["path"] = str(tmp_path / "private")
    code, out, err = run("fetch", "org/model", "--to", tmp_path / "out")
    assert (code, out) == (1, "")
    assert "p2pmodel env" in err
    assert not (tmp_path / "out").exists()


# Words for people


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (999_960_000, "1.0 GB"), (2_000_000_000, "2.0 GB"), (5e15, "5000.0 TB")],
)
def test_amounts_read_well(count, words):
    assert progress.amount(count) == words


@pytest.mark.parametrize(("duration", "words"), [(0.4, "0 s"), (75, "1 min 15 s"), (7300, "2 h 1 min")])
def test_durations_read_well(duration, words):
    assert progress.seconds(duration) == words


def test_lines_come_now_and_then_and_once_at_the_end(capsys):
    now = [0.0]
    lines = progress._Lines("org/model", lambda: now[0])
    event = FetchEvent(event="progress", bytes=100, peers=10)
    for at, rate in ((0.5, 0.0), (2.1, 0.0), (3.0, 0.0), (4.2, 45.0)):
        now[0], event.rate = at, rate
        lines.update(event)
    lines.update(FetchEvent(event="done", bytes=100, peers=100, path="/p"))
    assert capsys.readouterr().err.splitlines() == [
        "org/model: 10 B of 100 B (here 0 B, peers 10 B, hub 0 B), waiting",
        "org/model: 10 B of 100 B (here 0 B, peers 10 B, hub 0 B), 45 B/s, 2 s to go",
        "org/model: 100 B of 100 B (here 0 B, peers 100 B, hub 0 B)",
    ]


def test_while_several_files_come_it_says_how_many_are_there():
    event = FetchEvent(event="progress", files=10_000, files_done=1_234, bytes=100, upstream=5)
    assert event.words == "5 B of 100 B, 1,234 of 10,000 files (here 0 B, peers 0 B, hub 5 B)"
    assert (
        VerifyReport(event="progress", files=3, files_done=1, bytes=9, bytes_done=4).progress.words
        == "4 B of 9 B, 1 of 3 files"
    )


@pytest.mark.parametrize("columns", [40, 80])
def test_on_a_terminal_nothing_is_cut_off_however_narrow_it_is(monkeypatch, capsys, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress._Bar("org/model") as bar:
        bar.update(FetchEvent(event="progress", files=10, bytes=210_800_000, upstream=17_800_000, rate=34e6))
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    assert "34.0 MB/s, 6 s to go" in shown
    assert "hub 17.8 MB)" in " ".join(shown.split())
    assert "…" not in shown
