"""The state directory: whose it is, which version, how many daemons."""

import os
import stat
import subprocess
import sys

import pytest
from fakes.stores import OnDisk, sample

from p2pmodel.errors import StoreBusyError, StoreDamagedError, StoreError, StoreTooNewError
from p2pmodel.store.layout import Layout

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving files away takes root")


@pytest.fixture
def state(tmp_path):
    """Made by an earlier run."""
    Layout(tmp_path / "state").unlock()
    return tmp_path / "state"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_second_daemon_is_refused_and_told_the_pid_of_the_first(tmp_path):
    first = Layout(tmp_path)
    with pytest.raises(StoreBusyError, match=f"pid {os.getpid()}"):
        Layout(tmp_path)
    first.unlock()
    Layout(tmp_path).unlock()


def test_the_lock_dies_with_its_process(tmp_path):
    hold = "import os, pathlib, sys, p2pmodel.store.layout as it; it.Layout(pathlib.Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", hold, tmp_path], check=False).returncode == -9
    Layout(tmp_path).unlock()


@pytest.mark.scorecard("S33")
def test_a_newer_format_is_refused_and_left_alone(state):
    (state / "VERSION").write_text("2\n")
    with pytest.raises(StoreTooNewError, match="format 2"):
        Layout(state)
    assert (state / "VERSION").read_text() == "2\n"


@pytest.mark.parametrize("text", ["", "one", "0", "-1", "\x00\xff"])
def test_a_version_that_is_none_is_damage(state, text):
    (state / "VERSION").write_text(text)
    with pytest.raises(StoreDamagedError):
        Layout(state)
    (state / "VERSION").write_text("1\n")
    Layout(state).unlock()


def test_everybody_may_read_what_is_public_and_nobody_else_what_is_private(tmp_path):
    old = os.umask(0o077)
    house = OnDisk(tmp_path / "state")
    public, private = sample(1, 10), sample(2, 10)
    public.put(house.store)
    private.put(house.store, private=True)
    house.close()
    os.umask(old)
    assert mode(house.path(public.blob.id)) == 0o444
    assert mode(house.path(private.blob.id)) == 0o400
    assert {mode(path) for path in house.path(public.blob.id).parents if path.is_relative_to(house.state_dir)} == {0o755}
    assert {mode(path) for path in house.path(private.blob.id).parents if path.is_relative_to(house.state_dir / "private")} == {
        0o700
    }
    assert mode(house.state_dir / "partial") == 0o700
    assert mode(house.state_dir / "index.sqlite") == 0o600


@pytest.mark.scorecard("S17")
@pytest.mark.parametrize("name", ["blobs", "blobs/sha256", "partial", "hub", "modelscope", "private", "private/blobs"])
@pytest.mark.parametrize("kind", ["link", "file", "open"])
def test_a_planted_directory_is_refused(state, tmp_path, name, kind):
    planted, elsewhere = state / name, tmp_path / "elsewhere"
    elsewhere.mkdir()
    if kind == "open":
        planted.chmod(0o777)
    else:
        planted.rename(state / "aside")
        planted.symlink_to(elsewhere) if kind == "link" else planted.touch()
    with pytest.raises(StoreError, match=name):
        Layout(state)
    assert list(elsewhere.iterdir()) == []


@as_root
@pytest.mark.parametrize("name", ["", "partial", "private"])
def test_a_directory_of_somebody_else_is_refused(state, name):
    os.chown(state / name, 1234, 1234)
    with pytest.raises(StoreError, match="1234"):
        Layout(state)


def test_a_way_that_everybody_may_change_is_refused(tmp_path):
    way = tmp_path / "way"
    way.mkdir()
    way.chmod(0o777)
    with pytest.raises(StoreError, match="changed by everybody"):
        Layout(way / "state")
    way.chmod(0o1777)
    Layout(way / "state").unlock()


def test_the_state_directory_may_be_our_own_link_to_another_place(state, tmp_path):
    (tmp_path / "link").symlink_to(state)
    layout = Layout(tmp_path / "link")
    assert layout.root == state
    layout.unlock()


@as_root
def test_a_link_of_somebody_else_is_not_followed(state, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(state)
    os.lchown(link, 1234, 1234)
    with pytest.raises(StoreError, match="1234"):
        Layout(link)


def test_a_planted_fan_out_directory_is_refused(tmp_path):
    house, blob = OnDisk(tmp_path / "state"), sample(1, 10)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (house.state_dir / "blobs" / "sha256" / blob.blob.id.hex[:2]).symlink_to(elsewhere)
    with pytest.raises(StoreError, match="not a directory"):
        blob.put(house.store)
    assert list(elsewhere.iterdir()) == []
    house.close()


def test_files_with_other_names_are_left_alone(tmp_path):
    house = OnDisk(tmp_path / "state")
    house.close()
    strangers = [
        house.state_dir / name for name in ("partial/README", "partial/sha256-xyz.log", "blobs/sha256/notes", "mine.txt")
    ]
    for stranger in strangers:
        stranger.write_text("mine")
    house.start()
    assert list(house.store.blobs()) == []
    assert all(stranger.exists() for stranger in strangers)
    house.close()
