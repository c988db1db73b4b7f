"""`p2pmodel limits`. What a change does and who may make one: tests/e2e/test_limits.py."""

import json

import pytest

LIMITS = {
    "limits": {
        "peer_upload": {"limit": 50_000_000, "now": 12_345_678.9},
        "upstream": {"limit": 0, "now": 0},
        "clients": {"limit": 256, "now": 3},
        "something_new": {"limit": 5, "now": 1},
    }
}


@pytest.fixture
def limited(daemon):
    daemon.documents["limits"] = LIMITS
    return daemon


def test_limits_are_shown_as_they_are_written_beside_what_is_used(run, limited):
    code, out, _ = run("limits")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["LIMIT", "VALUE", "NOW"],
        ["peer_upload", "50MB/s", "12.3", "MB/s"],
        ["upstream", "none", "0", "B/s"],
        ["clients", "256", "3"],
        ["something_new", "5", "1"],
    ]


def test_json_is_the_daemons_own_document(run, limited):
    code, out, _ = run("limits", "--json")
    assert code == 0
    assert json.loads(out) == LIMITS


@pytest.mark.parametrize("text", ["upstream", "upstream=", "=5"])
def test_what_is_no_assignment_is_a_usage_error(run, limited, text):
    code, out, err = run("limits", text)
    assert (code, out) == (2, "")
    assert "KEY=VALUE" in err


@pytest.mark.parametrize("arguments", [(), ("upstream=1MB/s",)])
def test_without_a_daemon_there_is_nothing_to_limit(run, arguments):
    assert run("limits", *arguments)[0] == 6


def test_a_daemon_without_an_admin_socket_cannot_be_changed(run, limited):
    assert run("limits", "upstream=1MB/s")[0] == 6
