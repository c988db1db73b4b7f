"""A kill, a power cut or an error at every step of a store's life: nothing false is believed, nothing promised is lost."""

import errno
import os
import shutil
import signal
from contextlib import suppress

import pytest
from fakes.stores import FaultyDisk, Killed, OnDisk, Sample, sample, seal_of, word_for

from p2pmodel.content import Grade, chunk_digest
from p2pmodel.content.pieces import piece_entry
from p2pmodel.errors import StoreError, StoreFullError
from p2pmodel.limits import CHUNK_BYTES
from p2pmodel.store import Store
from p2pmodel.store.disk import Disk, disk_errors

BIG = sample(1, CHUNK_BYTES + 5)
HIDDEN = sample(2, 900, "git-sha1")
TWIN = sample(2, 900, "sha256")
OTHER = sample(3, 800)
PIECES = piece_entry(b"some") + piece_entry(b"more")


def life(store, say):
    """Each kind of step at least once. What is said has been promised."""
    stored = store.open(BIG.blob, private=False)
    BIG.write(stored, [1], Grade.SINGLE, word_for(BIG, 1))
    stored.commit()
    say("one chunk")
    BIG.write(stored, [0])
    stored.commit()
    say("both chunks")
    stored.finish(None, seal_of(stored))
    say("sealed")
    stored.close()
    store.keep_pieces(BIG.blob.id, PIECES)
    hidden = store.open(HIDDEN.blob, private=True)
    HIDDEN.write(hidden)
    hidden.commit()
    hidden.publish()
    hidden.withdraw()
    hidden.publish()
    hidden.finish(None, seal_of(hidden))
    hidden.close()
    twin = store.open(TWIN.blob, private=False)
    TWIN.write(twin)
    twin.commit()
    twin.finish(TWIN.alias, seal_of(twin))
    twin.close()
    say("hidden")
    stored = store.open(BIG.blob, private=False)
    stored.drop([0])
    say("unsealed")
    BIG.write(stored, [0])
    stored.finish(None, seal_of(stored))
    stored.close()
    say("sealed again")
    other = store.open(OTHER.blob, private=False)
    OTHER.write(other)
    other.finish(None, seal_of(other))
    other.close()


def whole_life(tmp_path):
    disk = FaultyDisk()
    house = OnDisk(tmp_path / "whole", disk=disk)
    life(house.store, lambda word: None)
    house.close()
    return disk.steps


def held_after_confirming(store: Store, blob: Sample):
    """What the store says of a blob, after making it prove it; every sealed byte is right."""
    state = store.find(blob.blob.id)
    if state is None:
        return set()
    stored = store.open(blob.blob, private=state.private)
    if stored.sealed:
        assert os.pread(stored.fileno(), blob.blob.size + 1, 0) == blob.data
    claimed = set(stored.claimed)
    singles = [index for index in claimed if stored.grade(index) is Grade.SINGLE]
    assert all(stored.word(index) == word_for(blob, index) for index in singles), "a claim that rests on a word came before it"
    assert {index for index in claimed if stored.confirm(index)} == claimed, "a record claimed what is not there"
    held = {index for index in stored.held if stored.check(index)}
    stored.close()
    return held


def judge(house, said):
    """The next run: promises are kept, and the same life can be lived to its end without a manual step."""
    store = house.start()
    held = held_after_confirming(store, BIG)
    assert store.pieces(BIG.blob.id, 0, 10) in {b"", PIECES}
    if "one chunk" in said:
        assert 1 in held
    if "both chunks" in said and "hidden" not in said:
        assert held == {0, 1}
    if "sealed again" in said or ("sealed" in said and "hidden" not in said):
        assert store.find(BIG.blob.id).sealed
    hidden = held_after_confirming(store, HIDDEN)
    if "hidden" in said:
        assert hidden == {0}
        assert not store.find(HIDDEN.blob.id).private
    for blob in (BIG, HIDDEN, TWIN, OTHER):
        stored = store.open(blob.blob, private=False)
        blob.write(stored, [] if stored.sealed else set(range(blob.count)) - set(stored.held))
        stored.finish(None, seal_of(stored))
        stored.close()
        assert held_after_confirming(store, blob) == set(range(blob.count))
    house.close()


@pytest.mark.scorecard("S1")
def test_a_kill_at_any_step_costs_at_most_what_was_not_committed(tmp_path):
    steps = len(whole_life(tmp_path))
    assert steps > 40
    for at in range(1, steps + 1):
        state = tmp_path / f"killed-{at}"
        ear, mouth = os.pipe()
        child = os.fork()
        if child == 0:
            _die_at(at, state, mouth)
        os.close(mouth)
        _, status = os.waitpid(child, 0)
        with os.fdopen(ear, encoding="ascii") as said:
            words = said.read().split(",")
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        house = OnDisk.__new__(OnDisk)
        house.state_dir, house.settings = state, {"fsync": False}
        judge(house, words)
        shutil.rmtree(state)


def _die_at(at, state, mouth):
    class Dying(FaultyDisk):
        def step(self, name):
            super().step(name)
            if len(self.steps) == at:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        store = Store(state, fsync=False, disk=Dying())
        life(store, lambda word: os.write(mouth, word.encode() + b","))
    finally:
        os._exit(1)


class PowerCutDisk(FaultyDisk):
    """Remembers what was synced. `cut` takes everything else back: the worst that a file system may do."""

    def __init__(self, top, aside, at):
        super().__init__(at=at, error=Killed())
        self._top, self._aside = top, aside
        self._synced = {}  # inode -> bytes
        self._moves = []  # (undo, directory): not durable until the directory is synced

    def create(self, path, size):
        fd = super().create(path, size)
        self._moves.append((lambda: path.unlink(missing_ok=True), path.parent))
        return fd

    def sync_data(self, fd):
        super().sync_data(fd)
        self._remember(fd)

    def sync(self, fd):
        super().sync(fd)
        self._remember(fd)

    def _remember(self, fd):
        there = os.fstat(fd)
        self._synced[there.st_ino] = os.pread(fd, there.st_size, 0)

    def sync_directory(self, path):
        super().sync_directory(path)
        self._moves = [move for move in self._moves if move[1] != path]

    def rename(self, source, target):
        super().rename(source, target)
        self._moves.append((lambda: target.rename(source), target.parent))

    def unlink(self, path):
        self.step("unlink")
        if path.exists():
            kept = self._aside / str(len(self.steps))
            path.rename(kept)
            self._moves.append((lambda: None if path.exists() else kept.rename(path), path.parent))

    def cut(self):
        for undo, _ in reversed(self._moves):
            undo()
        for path in self._top.rglob("*"):
            if path.is_file() and ("blobs" in path.parts or "partial" in path.parts):
                mode = path.stat().st_mode
                path.chmod(0o600)
                path.write_bytes(self._synced.get(path.stat().st_ino, b"\0" * path.stat().st_size))
                path.chmod(mode)


@pytest.mark.scorecard("S2")
def test_a_power_cut_at_any_step_leaves_no_false_claim_and_keeps_every_promise(tmp_path):
    aside = tmp_path / "aside"
    aside.mkdir()
    for at in range(1, len(whole_life(tmp_path)) + 1):
        state = tmp_path / f"cut-{at}"
        disk = PowerCutDisk(state, aside, at)
        said = []
        house = OnDisk(state, disk=disk)
        with pytest.raises(Killed):
            life(house.store, said.append)
        del house.settings["disk"]
        for entry in house.store._image.entries.values():
            if entry.live is not None:
                entry.live.shut()
        house.store._undo.close()
        disk.cut()
        judge(house, said)
        shutil.rmtree(state)


@pytest.mark.scorecard("S3")
@pytest.mark.parametrize(("code", "sticky"), [(errno.EIO, False), (errno.ENOSPC, True)])
def test_an_error_at_any_step_is_named_and_the_next_try_succeeds(tmp_path, code, sticky):
    for at in range(1, len(whole_life(tmp_path)) + 1):
        state = tmp_path / f"failed-{at}"
        house = OnDisk(state, disk=FailingDisk(at, code, sticky=sticky))
        said = []
        with suppress(StoreFullError if code == errno.ENOSPC else StoreError):
            life(house.store, said.append)
        house.store._disk._error = None
        held_before = held_after_confirming(house.store, BIG)
        assert "one chunk" not in said or 1 in held_before
        with_all = house.store.open(BIG.blob, private=False)
        BIG.write(with_all, set(range(2)) - set(with_all.held))
        with_all.finish(None, seal_of(with_all))
        with_all.close()
        del house.settings["disk"]
        house.crash().close()
        judge(house, said)
        shutil.rmtree(state)


class FailingDisk(FaultyDisk):
    def __init__(self, at, code, *, sticky):
        super().__init__(at=at, error=OSError(code, os.strerror(code)), sticky=sticky)

    def step(self, name):
        if self._error is not None:
            with disk_errors("testing"):
                super().step(name)


def test_the_steps_of_a_seal_come_in_the_order_that_survives(tmp_path):
    disk = FaultyDisk()
    house = OnDisk(tmp_path / "state", disk=disk)
    stored = house.store.open(BIG.blob, private=False)
    BIG.write(stored)
    disk.steps.clear()
    stored.commit()
    assert disk.steps == ["sync_data", "unlink", "create", "write", "sync_data", "sync_directory"]
    disk.steps.clear()
    stored.finish(None, seal_of(stored))
    assert disk.steps == ["chmod", "sync", "sync_directory", "rename", "sync_directory", "unlink", "unlink"]
    stored.close()
    house.close()


def test_writing_never_waits_for_the_device(tmp_path):
    disk = FaultyDisk()
    house = OnDisk(tmp_path / "state", disk=disk)
    stored = house.store.open(BIG.blob, private=False)
    disk.steps.clear()
    BIG.write(stored)
    assert disk.steps == ["write", "write"]
    stored.close()
    house.close()


def test_a_short_write_is_gone_on_with(tmp_path, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, memoryview(data)[: 1 + len(data) // 2], offset))
    disk = Disk(fsync=False)
    fd = disk.create(tmp_path / "file", 0)
    disk.write(fd, b"0123456789", 3)
    os.close(fd)
    assert (tmp_path / "file").read_bytes() == b"\0\0\0" + b"0123456789"


def test_a_write_between_the_steps_of_a_seal_changes_nothing(tmp_path):
    class Meddling(FaultyDisk):
        def step(self, name):
            super().step(name)
            if name == "rename":
                stored.write(1, memoryview(b"false"), chunk_digest(b"false"), Grade.OWN)

    house = OnDisk(tmp_path / "state", disk=Meddling())
    stored = house.store.open(BIG.blob, private=False)
    BIG.write(stored)
    stored.finish(None, seal_of(stored))
    assert os.pread(stored.fileno(), BIG.blob.size, 0) == BIG.data
    stored.close()
    house.close()
