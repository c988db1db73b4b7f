"""Rate limits of real daemons: changed by the owner while bytes flow, by SIGHUP, and by nobody else."""

import os
import signal
import tempfile
import time
from pathlib import Path

import pytest
from daemons import MIB, House, until
from noise import noise

RATE = 6_000_000
WEIGHTS = noise(3, 16 * MIB)  # 2.8 s


@pytest.fixture(scope="module")
def nodes(site, house):
    for name in ("one", "two", "three"):
        site.hub.add_repo("model", f"acme/{name}", {"model.safetensors": WEIGHTS[::-1] + name.encode()})
    one = house.daemon("one")
    return one, house.daemon("two", [one])


def limits_of(node):
    return {key: told["limit"] for key, told in node.command("limits", "--json").json["limits"].items()}


def seconds_of(work):
    began = time.monotonic()
    work()
    return time.monotonic() - began


@pytest.mark.parametrize(("limited", "key"), [("one", "peer_upload"), ("two", "peer_download")])
def test_a_limit_holds_between_two_nodes(site, nodes, limited, key):
    one, two = nodes
    repo = "acme/one" if limited == "one" else "acme/two"
    one.bring(repo)
    node = one if limited == "one" else two
    assert node.command("limits", f"{key}={RATE}").code == 0
    try:
        assert seconds_of(lambda: two.bring(repo)) == pytest.approx(len(WEIGHTS) / RATE, rel=0.1, abs=0.4)
        assert site.sent <= len(WEIGHTS) + 10, "what our own limit holds back is not asked of the hub"
    finally:
        assert node.command("limits", f"{key}=0").code == 0


def test_a_limit_on_the_hub_is_shown_at_work_and_lifted_in_the_middle(nodes):
    one, _ = nodes
    assert one.command("limits", f"upstream={RATE // 6}").code == 0
    before = one.received("upstream")
    fetch = one.begin_command("fetch", "acme/three")
    until(lambda: one.received("upstream") > before, "bytes to flow")
    shown = one.command("limits", "--json").json["limits"]["upstream"]
    assert shown["limit"] == RATE // 6
    assert shown["now"] > 0
    assert seconds_of(lambda: (one.command("limits", "upstream=0"), fetch.communicate())) < 10
    assert fetch.returncode == 0


def test_sighup_reads_the_config_again_and_says_what_waits_for_a_restart(house):
    node = house.daemon("reloaded")
    node.command("limits", "clients=77")
    node.config.write_text('limits.upstream = "3MB/s"\nlog.level = "debug"\n' + node.config.read_text())
    node.process.send_signal(signal.SIGHUP)
    until(lambda: '"reloaded"' in node.log, "the log to tell of it")
    assert '"limit": "upstream", "before": 0, "now": 3000000' in node.log
    assert '"needs_a_restart": ["log.level"]' in node.log
    assert (limits_of(node)["upstream"], limits_of(node)["clients"]) == (3_000_000, 256)
    node.config.write_text("limits.upstream = 'fast'\n" + node.config.read_text().partition("\n")[2])
    node.process.send_signal(signal.SIGHUP)
    until(lambda: '"not_reloaded"' in node.log, "the log to tell of the mistake")
    assert node.running
    node.stop()


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [("upstream=fast", 2, "must be a rate"), ("uplink=1", 2, "There are peer_upload"), ("clients=0", 2, "from 1 up")],
)
def test_a_change_that_cannot_be_is_told_in_a_sentence(nodes, change, code, said):
    done = nodes[0].command("limits", change)
    assert (done.code, done.out) == (code, "")
    assert said in done.err


def test_the_admin_socket_is_its_owners(nodes):
    assert (nodes[0].state / "run/admin.sock").stat().st_mode & 0o777 == 0o600


def test_a_stopped_daemon_is_no_daemon(house):
    node = house.daemon("stopped")
    node.stop()
    assert node.command("limits", "upstream=1").code == 6


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_reads_the_limits_and_changes_none(site):
    with tempfile.TemporaryDirectory() as place, House(Path(place), site) as house:
        Path(place).chmod(0o755)  # pytest's own folders are its user's alone
        node = house.daemon("node")
        results = [node.command_of_nobody("limits", *change) for change in ([], ["upstream=1"])]
        assert [done.code for done in results] == [0, 4]
        assert "upstream" in results[0].out
        assert results[1].err.startswith("Error: Only root and the user whom the daemon runs as")
        assert limits_of(node)["upstream"] == 0
