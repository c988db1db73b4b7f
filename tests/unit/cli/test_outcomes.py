"""How commands end: codes that scripts rely on, sentences that people read."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from p2pmodel import __version__, errors
from p2pmodel.cli import outcome


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.P2pmodelError("failed"), 1),
        (errors.StoreFullError("full"), 1),
        (errors.ConfigError("wrong"), 2),
        (click.UsageError("wrong"), 2),
        (errors.EntryNotFoundError("no file"), 3),
        (errors.RepoNotFoundError("no repo"), 3),
        (errors.GatedRepoError("gated"), 4),
        (errors.UnavailableError("offline"), 5),
        (errors.RateLimitedError("patience", retry_after_s=1.0), 5),
        (errors.NoDaemonError("none"), 6),
        (KeyboardInterrupt(), 130),
        (PermissionError(13, "Permission denied", "/state"), 1),
        (RuntimeError("a bug"), 1),
        (BaseExceptionGroup("tasks", [ExceptionGroup("more", [ValueError(), errors.ConfigError("port in use")])]), 2),
        (BaseExceptionGroup("tasks", [KeyboardInterrupt()]), 130),
    ],
)
def test_each_failure_has_its_code_and_one_sentence(error, code, capsys):
    assert outcome.report(error) == code
    told = capsys.readouterr().err
    assert told.strip()
    assert "Traceback" not in told


def test_what_to_do_next_follows_what_went_wrong(capsys):
    outcome.report(errors.UnavailableError("No source has it.", next_step="Connect to the hub."))
    assert capsys.readouterr().err == "Error: No source has it. Connect to the hub.\n"


def test_a_bug_is_raised_to_whoever_debugs(monkeypatch):
    monkeypatch.setenv("P2PMODEL_LOG__LEVEL", "debug")
    with pytest.raises(RuntimeError):
        outcome.report(RuntimeError("a bug"))


def test_what_is_no_bug_keeps_its_code_and_its_sentence_for_whoever_debugs(monkeypatch, capsys):
    monkeypatch.setenv("P2PMODEL_LOG__LEVEL", "debug")
    assert outcome.report(errors.NoDaemonError("No daemon runs.")) == 6
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "branch"),
    [
        ("RepoNotFoundError", errors.NotFoundError),
        ("RateLimitedError", errors.UnavailableError),
        ("StoreFullError", errors.StoreError),
        ("PeerProtocolError", errors.P2pmodelError),
        ("annotations", errors.P2pmodelError),
        ("NoSuchThing", errors.P2pmodelError),
    ],
)
def test_a_daemons_failure_comes_back_as_its_branch(name, branch):
    failure = outcome.failure(name, "told", "do this")
    assert type(failure) is branch
    assert (str(failure), failure.next_step) == ("told", "do this")


_SHOW = [sys.executable, "-c", "import sys; from p2pmodel.cli import main; sys.exit(main(['config', 'show']))"]


def test_a_reader_that_has_had_enough_is_no_failure():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(_SHOW, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_device_under_stdout_is_a_failure_told_once():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(_SHOW, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "Error: No space left on device.\n")


def test_version_help_and_mistakes_end_as_they_should(run):
    assert run("--version") == (0, f"p2pmodel {__version__}\n", "")
    run("list")  # whose module bears the name of a built-in function
    code, out, _ = run("-h")
    assert code == 0
    for name in ("serve", "fetch", "list", "status", "peers", "cluster", "env", "config", "demo"):
        assert f"\n  {name} " in out
    assert run("fetsch")[0] == 2
    assert run("fetch")[0] == 2
    code, _, err = run("fetch", "a/b", "--frobnicate")
    assert code == 2
    assert "frobnicate" in err


def test_every_command_has_help(run):
    for name in ("serve", "fetch", "list", "status", "peers", "cluster", "env", "config", "demo"):
        code, out, _ = run(name, "-h")
        assert (code, out.startswith(f"Usage: p2pmodel {name}")) == (0, True)


def test_help_loads_neither_rooms_nor_libraries_that_it_does_not_need():
    program = (
        "import sys; from p2pmodel.cli import main; main(['--help']); "
        "print(sorted({'trio', 'httpcore2', 'zeroconf', 'rich', 'cryptography', 'msgspec', 'dataclasses'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.endswith("[]\n")


def test_a_config_mistake_is_a_usage_error_with_its_place(run, tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('[gateway]\nlisten = "localhost:x"\n')
    code, _, err = run("status", "--config", file)
    assert code == 2
    assert f"{file}:2: gateway.listen must be an address" in err
    assert run("status", "--set", "gateway.listen")[0] == 2
    assert run("status", "--set", "gateway.lsten=x:1")[0] == 2
