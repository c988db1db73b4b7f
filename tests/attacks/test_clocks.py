"""Clocks that are wrong, or jump in the middle of a fetch. Needs libfaketime (`apt-get install libfaketime`)."""

import time
from pathlib import Path

import pytest
from daemons import MIB, House, Site, files_in
from noise import noise

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
PATIENCE_S = 30

pytestmark = [
    pytest.mark.attacks,
    pytest.mark.scorecard("S23"),
    pytest.mark.timeout(120),
    pytest.mark.skipif(LIBRARY is None, reason="apt-get install libfaketime"),
]


def clock(file, offset):
    """Environment of a process whose wall clock says something else; its monotonic one is right, as the kernel keeps it."""
    file.write_text(offset)
    return {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


@pytest.fixture
def site():
    with Site() as site:
        yield site


@pytest.mark.parametrize("offset", ["-1d", "+30d", "+365d", "-365d"])
def test_a_node_whose_clock_is_off_is_a_member_like_any_other(site, tmp_path, offset):
    files = {"config.json": b"{}", "model.safetensors": noise(1, 9 * MIB)}
    site.hub.add_repo("model", "acme/tiny", files)
    with House(tmp_path, site) as house:
        assert house.user.run("cluster", "init", "--key-file", tmp_path / "key").code == 0
        one = house.daemon("one", cluster__key_file=str(tmp_path / "key"))
        one.bring("acme/tiny")
        off = house.plan("off", [one], cluster__key_file=str(tmp_path / "key"))
        off.start(**clock(tmp_path / "clock", offset)).linked(1)
        sent = site.sent
        done = off.bring("acme/tiny")
        assert (done["event"], done["upstream"]) == ("done", 0)
        assert site.sent == sent
        assert files_in(done["path"]) == files


def test_a_clock_that_jumps_during_a_fetch_changes_nothing(site, tmp_path, figure):
    weights = noise(2, 24 * MIB)
    site.hub.add_repo("model", "acme/big", {"model.safetensors": weights})
    with House(tmp_path, site) as house:
        node = house.plan("node")
        node.start(**clock(tmp_path / "clock", "+0"))
        site.hub.pace.rate = 8 * MIB
        fetch = node.begin_command("fetch", "acme/big", "--json")
        began = time.monotonic()
        for offset in ("+3600", "-3600", "-1d", "+30d"):
            time.sleep(0.6)
            (tmp_path / "clock").write_text(offset)
        out, err = fetch.communicate(timeout=PATIENCE_S)
        assert fetch.returncode == 0, out + err
        figure(f"24 MiB at 8 MiB/s in {time.monotonic() - began:.1f} s while the clock jumped four times")
        assert site.sent <= len(weights)
        assert node.ask("/acme/big/resolve/main/model.safetensors").body == weights
