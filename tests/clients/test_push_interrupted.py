"""`p2pmodel push` when something goes wrong: what the hub has is not sent again, and the words say what to do."""

import hashlib
import time

import pytest
from daemons import MIB, House, Site, finish, until
from noise import noise

from p2pmodel.cli import parts
from p2pmodel.limits import PUSH_PARTS_AT_ONCE

huggingface_hub = pytest.importorskip("huggingface_hub")
pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]

OLD, NEW = "hf_oldOldOldOld", "hf_newNewNewNew"
PARTS = 40
LARGE = noise(91, PARTS * MIB // 2)
PLAIN = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


@pytest.fixture
def site():
    with Site() as site:
        site.hub.huggingface.writing.part_bytes = len(LARGE) // PARTS
        site.hub.add_user(OLD, "alice")
        yield site


@pytest.fixture
def node(site, tmp_path):
    with House(tmp_path / "house", site) as house:
        (house.user.home / "token").write_text(OLD)
        yield house.daemon("one")
        for place in (house.user.home / ".cache").rglob("*"):
            assert "push" not in place.parts or place.is_dir(), "an upload that is done is still remembered"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "w.safetensors").write_bytes(LARGE)
    (folder / "config.json").write_bytes(b"{}")
    return folder


def push(node, folder, *arguments, **environ):
    tokens = {"HF_TOKEN_PATH": str(node.user.home / "token"), "MODELSCOPE_API_TOKEN": OLD}
    settings = {**PLAIN, **tokens, "MODELSCOPE_UPLOAD_BLOB_MAX_ATTEMPTS": "1", **environ}
    return node.begin_command("push", folder, "alice/new", "--json", "-q", *arguments, **settings)


def pushed(node, folder, *arguments):
    return finish(push(node, folder, *arguments), 100.0)


def puts(site, what="PUT cdn upload"):
    return site.hub.counters.requests[what]


def killed_half_way(site, process):
    """How many parts had come."""
    until(lambda: puts(site) >= PARTS // 2, "half of the parts")
    process.kill()
    process.communicate()
    came = puts(site)
    assert came < PARTS
    site.hub.reset()
    return came


def is_there(site):
    assert site.hub.repo("model", "alice/new").head.files["w.safetensors"].content.body == LARGE


def test_killed_in_the_middle_of_a_file_the_same_command_sends_the_parts_that_are_missing(site, node, folder):
    site.hub.fault("^PUT", delay_s=0.2)
    process = push(node, folder)
    came = killed_half_way(site, process)
    [record] = [path for path in (node.user.home / ".cache/p2pmodel/push").iterdir() if path.is_file()]
    assert record.stat().st_mode & 0o077 == 0
    assert pushed(node, folder).code == 0
    assert puts(site) <= PARTS - came + PUSH_PARTS_AT_ONCE
    is_there(site)


def test_parts_go_side_by_side(site, node, folder):
    site.hub.fault("^PUT", delay_s=0.5)
    began = time.monotonic()
    assert pushed(node, folder).code == 0
    assert time.monotonic() - began < PARTS * 0.5


def test_a_token_that_runs_out_on_the_way_is_read_again(site, node, folder):
    site.hub.fault("^PUT", delay_s=0.1)
    process = push(node, folder)
    until(lambda: puts(site) >= 3, "the first parts")
    site.hub.add_user(NEW, "alice")
    (node.user.home / "token").write_text(NEW)
    del site.hub.shelf.users[OLD]
    done = finish(process, 100.0)
    assert done.code == 0, done.err
    assert puts(site) == PARTS
    is_there(site)


def test_a_token_that_runs_out_for_good_is_said_and_the_same_command_goes_on(site, node, folder):
    site.hub.fault("^PUT", delay_s=0.1)
    process = push(node, folder)
    until(lambda: puts(site) >= 3, "the first parts")
    user = site.hub.shelf.users.pop(OLD)
    done = finish(process, 100.0)
    assert (done.code, "401" in done.err, "the same command resumes" in done.err) == (4, True, True)
    assert OLD not in done.err
    site.hub.shelf.users[OLD] = user
    assert pushed(node, folder).code == 0
    assert puts(site) == PARTS
    is_there(site)


def test_killed_in_the_middle_of_an_upload_by_xet_the_hub_keeps_the_pieces_that_it_has(site, node, folder):
    (folder / "w.safetensors").write_bytes(noise(93, 140 * MIB))  # in pieces of some 64 MiB
    pytest.importorskip("hf_xet")
    site.hub.fault("^PUT", delay_s=2.0)
    process = push(node, folder, HF_HUB_DISABLE_XET="0")
    until(lambda: puts(site, "POST xet commit") >= 1, "the first piece", 60.0)
    process.kill()
    process.communicate()
    site.hub.reset()
    done = finish(push(node, folder, HF_HUB_DISABLE_XET="0"), 100.0)
    assert done.code == 0, done.err
    assert puts(site, "POST xet commit") < puts(site, "POST xet grant")  # a piece that is there is not committed again
    assert site.hub.repo("model", "alice/new").head.files["w.safetensors"].content.size == 140 * MIB


@pytest.mark.parametrize("fault", [{"status": 500}, {"drop": True}, {"status": 503, "headers": {"Retry-After": "0"}}])
def test_a_hub_that_fails_now_and_then_is_asked_again(site, node, folder, fault):
    site.hub.fault("^PUT", skip=5, times=2, **fault)
    site.hub.fault("lfs/objects/batch|commit/", times=1, **fault)
    done = pushed(node, folder)
    assert done.code == 0, done.err
    is_there(site)


@pytest.mark.parametrize("fault", [{"status": 500}, {"drop": True}])
def test_a_hub_that_fails_for_good_is_said_and_the_same_command_goes_on(site, node, folder, fault):
    site.hub.fault("^PUT", skip=PARTS // 2, **fault)
    done = pushed(node, folder)
    assert (done.code, "The same command resumes" in done.err, "Traceback" in done.err) == (5, True, False)
    assert "signature=" not in done.err
    site.hub.reset()
    assert pushed(node, folder).code == 0
    assert puts(site) <= PARTS // 2
    is_there(site)


def test_places_that_have_run_out_are_asked_for_anew(site, node, folder):
    site.hub.fault("^PUT", skip=10, times=2, status=403)
    assert pushed(node, folder).code == 0
    assert puts(site) <= PARTS + 2 * PUSH_PARTS_AT_ONCE
    is_there(site)


def test_a_hub_that_has_forgotten_the_parts_gets_them_again(site, node, folder):
    site.hub.fault("^PUT", delay_s=0.1)
    killed_half_way(site, push(node, folder))
    site.hub.storage.forget_parts()
    assert pushed(node, folder).code == 0
    assert PARTS < puts(site) < 2 * PARTS
    is_there(site)


def test_modelscope_takes_whole_files_and_those_that_it_has_are_not_sent_again(site, node, folder):
    (folder / "a.bin").write_bytes(noise(92, 6 * MIB))
    site.hub.fault("PUT .*/lfs/objects/", skip=1, drop=True)
    done = pushed(node, folder, "--hub", "modelscope")
    assert (done.code, "The same command resumes" in done.err, "Traceback" in done.err) == (5, True, False)
    site.hub.reset()
    done = pushed(node, folder, "--hub", "modelscope")
    assert done.code == 0, done.err
    assert puts(site, "PUT ms upload") == 1


def test_storage_that_takes_nothing_more_is_given_the_part_again(site, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "PUSH_SILENCE_S", 1.0)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    site.hub.fault("^PUT", skip=3, times=1, delay_s=20)
    site.hub.add_repo("model", "alice/new", {"config.json": b"{}"})
    (tmp_path / "w.safetensors").write_bytes(LARGE)
    where = parts.Target(huggingface_hub, site.url, "alice/new", "model", "main", tmp_path / "push", token=OLD)
    parts.send(where, [tmp_path / "w.safetensors"])
    assert site.hub.storage.uploaded[hashlib.sha256(LARGE).hexdigest()].body == LARGE
    assert not list((tmp_path / "push").iterdir())
