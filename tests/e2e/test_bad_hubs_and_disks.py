"""A hub that errs or lies, names that no disk may hold, a disk that rots: never a wrong byte, nothing outside the store,
and the daemon lives on.

Each way on its own: tests/unit/upstream, tests/unit/store. Here all of them go through one daemon, by its doors.
"""

import json
import sqlite3
from pathlib import Path
from urllib.parse import quote

import pytest
from daemons import CHUNK, MIB, House, files_in, until
from noise import noise

NOTHING_LEFT = 502, 503, 504


@pytest.fixture(scope="module")
def node(house):
    return house.daemon("node")


@pytest.mark.parametrize(
    ("number", "fault"),
    list(
        enumerate(
            [
                {"truncate_at": MIB},
                {"reset_at": MIB},
                {"extra_bytes": 1000},
                {"endless": True},
                {"ignore_range": True},
                {"content_range": "bytes 0-9/10"},
                {"status": 500},
                {"status": 503},
                {"status": 429, "headers": {"Retry-After": "0"}},
                {"gzip": True},
                {"drop": True},
                {"flip_at": MIB},
                {"etag": "0" * 64},
            ]
        )
    ),
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_hub_that_errs_once_costs_a_try_and_no_byte_is_wrong(site, node, number, fault):
    weights = noise(100 + number, 5 * MIB)
    site.hub.add_repo("model", f"acme/bad{number}", {"model.safetensors": weights})
    site.hub.fault("GET .*(/blobs/|safetensors)", host="hub" if "etag" in fault else "cdn", times=1, **fault)
    done = node.bring(f"acme/bad{number}")
    assert site.hub.stats()["faults_played"] == 1
    if done["event"] == "done":
        assert files_in(done["path"])["model.safetensors"] == weights
    else:
        assert done["kind"] in {"UnavailableError", "WrongAnswerError", "SourceError"}
    assert node.ask(f"/acme/bad{number}/resolve/main/model.safetensors").body == weights


def test_a_mirror_that_always_lies_gives_nobody_a_byte(site, house):
    site.hub.add_repo("model", "acme/lies", {"model.safetensors": noise(1, 5 * MIB)})
    site.hub.fault("/blobs/", host="cdn", flip_at=CHUNK + 1)
    plan = house.plan("distrustful")
    plan.config.write_text(plan.config.read_text().replace("trusted = true", "trusted = false"))
    node = plan.start()
    answer = node.ask("/acme/lies/resolve/main/model.safetensors")
    assert answer.status in NOTHING_LEFT
    assert len(answer.body) < 1000
    assert not list((node.state / "blobs/sha256").rglob("?" * 64))


@pytest.mark.scorecard("S19")
def test_a_redirect_to_what_is_no_web_address_is_not_followed(site, node):
    """Into the LAN, to http, in circles: tests/unit/upstream/test_redirects.py."""
    site.hub.add_repo("model", "acme/sent", {"model.safetensors": noise(2, 5 * MIB)})
    site.hub.fault("resolve/.*safetensors", location="file:///etc/passwd")
    answer = node.ask("/acme/sent/resolve/main/model.safetensors")
    assert answer.status in NOTHING_LEFT
    assert b"root:" not in answer.body


HOSTILE = {
    "dots": "../../escape",
    "absolute": "/tmp/p2pmodel-escape",
    "inner-dots": "a/../../escape",
    "nul": "nul\0name",
    "backslash": "back\\slash",
    "long": "x" * 5000,
    "deep": "a/" * 600 + "b",
}


@pytest.mark.scorecard("S17")
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_name_is_refused_and_nothing_is_written(site, node, kind):
    repo, name = f"acme/hostile-{kind}", HOSTILE[kind]
    site.hub.add_repo("model", repo, {"config.json": b"{}", name: b"escaped"})
    assert node.bring(repo)["event"] == "error"
    assert not list(node.folder.parent.rglob("*escape*"))
    assert not Path("/tmp/p2pmodel-escape").exists()
    assert node.ask(f"/{repo}/resolve/main/{quote(name, safe='')}").status in {400, 404, 414, 431, 502, 504}
    assert node.ask("/healthz").status == 200


def test_names_that_differ_by_case_alone_are_two_files(site, node):
    files = {"Config.json": b"upper", "config.json": b"lower"}
    site.hub.add_repo("model", "acme/twins", files)
    assert files_in(node.bring("acme/twins")["path"]) == files


# The disk


@pytest.fixture
def kept(site, tmp_path):
    """A node that holds a model and is down; the hub still has it."""
    files = {"config.json": b"{}", "model.safetensors": noise(3, 9 * MIB)}
    if ("model", "acme/kept") not in {(repo.kind, repo.name) for repo in site.hub.shelf.repos.values()}:
        site.hub.add_repo("model", "acme/kept", files)
    with House(tmp_path, site) as house:
        node = house.daemon("kept")
        node.bring("acme/kept")
        assert node.stop() == 0
        yield node, files


def flip(path, at):
    """One bit, as a disk that rots does it: with the times and the size that the file had."""
    mode = path.stat().st_mode
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    path.chmod(mode)


@pytest.mark.scorecard("S28")
@pytest.mark.parametrize("while_it_runs", [False, True])
def test_a_chunk_that_was_flipped_on_disk_is_never_served_and_is_mended(kept, while_it_runs):
    node, files = kept
    [blob] = [path for path in (node.state / "blobs/sha256").rglob("*") if path.is_file() and path.stat().st_size > MIB]
    if while_it_runs:
        node.start()
        assert node.ask("/acme/kept/resolve/main/model.safetensors").body == files["model.safetensors"]
        flip(blob, 5 * MIB)
    else:
        flip(blob, 5 * MIB)
        node.start()
    path = "/acme/kept/resolve/main/model.safetensors"
    ranges = [node.ask(path, Range=f"bytes={start}-{start + 999}").body for start in (0, 5 * MIB - 500, 8 * MIB)]
    for start, body in zip((0, 5 * MIB - 500, 8 * MIB), ranges, strict=True):
        assert body in (files["model.safetensors"][start : start + 1000], b"") or body.startswith(b"{")
    assert node.bring("acme/kept")["event"] == "done"
    assert node.ask(path).body == files["model.safetensors"]
    assert blob.read_bytes() == files["model.safetensors"]


@pytest.mark.scorecard("S28")
@pytest.mark.parametrize("damage", ["garbage", "gone", "half", "row"])
def test_a_damaged_index_costs_no_byte_and_no_crash(site, kept, damage):
    node, files = kept
    index = node.state / "index.sqlite"
    if damage == "garbage":
        index.write_bytes(noise(4, 20_000))
    elif damage == "gone":
        index.unlink()
    elif damage == "half":
        index.write_bytes(index.read_bytes()[: index.stat().st_size // 2])
    else:
        with sqlite3.connect(index) as rows:
            rows.execute("UPDATE blobs SET digests = zeroblob(length(digests))")
        rows.close()
    site.hub.reset()
    node.start()
    assert files_in(node.bring("acme/kept")["path"]) == files
    assert node.ask("/acme/kept/resolve/main/model.safetensors").body == files["model.safetensors"]
    assert site.sent <= 9 * MIB + 2


def test_a_daemon_that_cannot_announce_itself_serves_all_the_same(house):
    """As on a full device, where nothing new can be written and what is held is wanted."""
    node = house.plan("unannounced")
    (node.state / "run/daemon.json").mkdir(parents=True)
    node.begin()
    until(lambda: '"ready"' in node.log, "it to be up")
    assert "unannounced" in node.log
    ready = next(json.loads(line) for line in node.log.splitlines() if '"ready"' in line)
    node.port = int(ready["gateway"].rpartition(":")[2])
    assert node.ask("/healthz").status == 200
    assert node.stop() == 0


def test_models_in_quick_succession_make_room_for_each_other(site, house):
    node = house.daemon("one-after-the-other", store__quota="12MiB")
    for number in range(4):
        site.hub.add_repo("model", f"acme/next{number}", {"w.bin": noise(95 + number, 5 * MIB)})
        node.fetch(f"acme/next{number}")
        assert node.ask(f"/acme/next{number}/resolve/main/w.bin").status == 200  # so that it is kept open for the next reader


def test_a_model_that_can_never_fit_costs_no_other_model(site, house):
    site.hub.add_repo("model", "acme/fits", {"w.bin": noise(90, 5 * MIB)})
    site.hub.add_repo("model", "acme/huge", {f"{number}.bin": noise(91 + number, 5 * MIB) for number in range(3)})
    node = house.daemon("small-quota", store__quota="12MiB")
    node.fetch("acme/fits")
    refused = node.command("fetch", "acme/huge")
    assert (refused.code, "store.quota" in refused.err) == (1, True)
    assert node.fetch("acme/fits")["upstream"] == 0
