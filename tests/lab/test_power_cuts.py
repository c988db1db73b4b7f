"""The power goes at any moment of a fetch: what was said to be here is here and right, and no record claims what is not.

A cut is the file system's own shutdown call, which throws away whatever was not synced. P2PMODEL_CUTS=100 for the long run.
"""

import hashlib
import os
import random
import shutil
import threading
import time
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import pytest
from daemons import files_in
from lan import Lan

from p2pmodel.content import Blob, BlobId
from p2pmodel.store import Store

CUTS = int(os.environ.get("P2PMODEL_CUTS", "12"))
AT_ONCE = 4
KEPT = 8  # acknowledged files that are looked at after each cut: the disk has room for no more of them in a long run
MODEL_MIB = 64
RATE = 30e6
LATEST_S = 8.0  # longer than a fetch takes: some cuts come after an answer, soon or late

pytestmark = [pytest.mark.lab, pytest.mark.scorecard("S2"), pytest.mark.timeout(3600)]


@pytest.fixture
def lan(tmp_path):
    with Lan(tmp_path, 1, rate="1gbit", origin_rate="1gbit") as lan:
        yield lan


@pytest.fixture(params=["ext4", "xfs"])
def disk(lan, request):
    if shutil.which(f"mkfs.{request.param}") is None:
        pytest.skip(f"apt-get install {'e2fsprogs' if request.param == 'ext4' else 'xfsprogs'}")
    return lan.lab("disk", 1, "--size=2G", f"--fs={request.param}").strip()


def blob_of(model):
    return Blob(BlobId("sha256", hashlib.sha256(model.weights).hexdigest()), len(model.weights))


class Found:
    """What the disk holds of a model after a cut."""

    def __init__(self, state, model):
        store, blob = Store(state, fsync=True), blob_of(model)
        try:
            self.held = store.find(blob.id) is not None
            stored = store.open(blob, private=False)
            self.sealed, self.claimed = stored.sealed, set(stored.claimed)
            right = {index for index in self.claimed if stored.confirm(index)}
            self.wrong = len(self.claimed - right)
            if self.sealed:
                self.wrong += os.pread(stored.fileno(), blob.size + 1, 0) != model.weights
            stored.close()
        finally:
            store.close()


def let_go(state, model):
    store = Store(state, fsync=True)
    store.remove(blob_of(model).id)
    store.close()


def test_a_power_cut_leaves_no_wrong_byte_no_false_claim_and_loses_no_file_that_was_acknowledged(lan, disk, new_model, figure):
    dice, node = random.Random(1), lan.daemon(1, node__state_dir=f"{disk}/state")
    node.state = Path(disk) / "state"
    lan.hub.pace.rate = RATE
    models, acknowledged, claims, wrong, lost = [new_model(lan, MODEL_MIB)], 0, 0, 0, 0  # all but the last are acknowledged
    for _ in range(CUTS):
        node.start()
        answers = []

        def bring(answers=answers, name=models[-1].name):
            with suppress(OSError, HTTPException, IndexError, ValueError):  # what a client sees of a power cut
                answers.append(node.bring(name))

        client = threading.Thread(target=bring)
        client.start()
        time.sleep(dice.uniform(0.05, LATEST_S))
        lan.lab("powercut", 1)
        client.join()
        node.wait()
        if any(answer["event"] == "done" for answer in answers):
            acknowledged += 1
            models.append(new_model(lan, MODEL_MIB))
        for model in models:
            found = Found(node.state, model)
            claims += len(found.claimed)
            wrong += found.wrong
            lost += model is not models[-1] and not found.sealed
        if len(models) > KEPT:
            let_go(node.state, models[0])
            lan.hub.remove_repo("model", models.pop(0).name)
    done = node.start().bring(models[-1].name)
    figure(f"{CUTS} cuts: {acknowledged} files were acknowledged, {lost} lost; {claims} chunks claimed; {wrong} wrong")
    assert (wrong, lost) == (0, 0)
    assert acknowledged
    assert claims
    assert files_in(done["path"]) == models[-1].files


def test_the_path_that_a_fetch_told_of_is_there_after_a_cut_right_behind_it(lan, disk, new_model, figure):
    """A program that has it in its configuration loads from there, with the hub or without."""
    node, lost = lan.daemon(1, node__state_dir=f"{disk}/state"), 0
    node.state = Path(disk) / "state"
    for _ in range(AT_ONCE):
        model = new_model(lan, 8)
        path = Path(node.start().bring(model.name)["path"])
        lan.lab("powercut", 1)
        node.wait()
        ref = path.parents[1] / "refs" / "main"
        lost += not (path.exists() and files_in(path) == model.files and ref.read_text() == path.name)
    figure(f"{AT_ONCE} cuts, {lost} paths lost")
    assert lost == 0
