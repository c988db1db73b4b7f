"""What clients have downloaded before p2pmodel came is taken in place and shared; what is held is kept, removed, mended."""

import hashlib
import json
import os
import subprocess
import urllib.request
from pathlib import Path

import pytest
from daemons import MIB, files_in, until
from noise import noise

pytestmark = pytest.mark.houses

FILES = {"config.json": b'{"a": 1}', "model.safetensors": noise(31, 9 * MIB), "deep/w.bin": noise(32, 11 * MIB)}
SIZE = sum(map(len, FILES.values()))


def listing(site, repo):
    """Commit, and the name of each file's blob, as the hub says."""
    with urllib.request.urlopen(f"{site.url}/api/models/{repo}/revision/main") as answer:
        commit = json.load(answer)["sha"]
    with urllib.request.urlopen(f"{site.url}/api/models/{repo}/tree/{commit}?recursive=true") as answer:
        entries = [entry for entry in json.load(answer) if entry["type"] == "file"]
    return commit, {entry["path"]: entry.get("lfs", entry)["oid"] for entry in entries}


def huggingface_cache(site, folder, repo, files):
    """As huggingface_hub leaves it."""
    commit, names = listing(site, repo)
    home = folder / "hub" / f"models--{repo.replace('/', '--')}"
    for path, data in files.items():
        blob, link = home / "blobs" / names[path], home / "snapshots" / commit / path
        for each in (blob, link):
            each.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (home / "blobs" / "half.incomplete").write_bytes(b"half")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    return home


def used(*folders):
    """Bytes on disk, each file once however many links it has."""
    done = subprocess.run(["du", "-sc", "--block-size=1", *map(str, folders)], capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1].split()[0])


def command(node, name, *arguments):
    done = node.command(name, *arguments)
    assert done.code == 0, done.err
    return done


@pytest.fixture(scope="module")
def nodes(house):
    one = house.daemon("one")
    return one, house.daemon("two", [one])


@pytest.fixture(scope="module")
def adopted(site, house, nodes):
    site.hub.add_repo("model", "acme/old", FILES)
    folder = house.folder / "cache"
    home = huggingface_cache(site, folder, "acme/old", FILES)
    before = used(folder, nodes[0].state)
    site.hub.reset()
    report = command(nodes[0], "adopt", folder, "--json").json[str(folder)]
    return home, report, before, used(folder, nodes[0].state), site.sent


def test_a_cache_is_adopted_in_place_without_a_byte_from_the_hub(nodes, adopted):
    home, report, before, after, sent = adopted
    assert (report["adopted"], report["failed"], report["repos_public"]) == (3, 0, 1)
    assert sent == 0
    assert after - before < 0.01 * SIZE
    assert files_in(home / "snapshots") == {f"{next((home / 'snapshots').iterdir()).name}/{k}": v for k, v in FILES.items()}
    fetched = nodes[0].bring("acme/old")
    assert (fetched["here"], fetched["upstream"], fetched["peers"]) == (SIZE, 0, 0)
    assert files_in(fetched["path"]) == FILES


@pytest.mark.usefixtures("adopted")
def test_a_peer_gets_all_of_it_with_no_byte_from_the_hub(site, nodes):
    fetched = nodes[1].bring("acme/old")
    assert (fetched["peers"], fetched["upstream"], site.sent) == (SIZE, 0, 0)
    assert files_in(fetched["path"]) == FILES
    told = until(
        lambda: command(nodes[0], "info", "acme/old", "--json").json["snapshots"][0]["holders"], "the peer to be told of"
    )
    assert [(holder["files"], holder["bytes"]) for holder in told] == [(3, SIZE)]


@pytest.mark.usefixtures("adopted")
def test_adopting_again_hashes_nothing_and_knows_it_after_a_restart(house, nodes):
    nodes[0].stop()
    nodes[0].start().linked(1)
    report = command(nodes[0], "adopt", house.folder / "cache", "--json").json[str(house.folder / "cache")]
    assert (report["adopted"], report["here"]) == (0, 3)


def test_a_file_that_its_owner_changes_is_served_right_and_left_as_it_is(site, nodes, adopted):
    home = adopted[0]
    blob = home / "blobs" / hashlib.sha256(FILES["deep/w.bin"]).hexdigest()
    with blob.open("r+b") as file:
        file.seek(5 * MIB)
        file.write(b"mine")
    mine = blob.read_bytes()
    report = command(nodes[0], "verify", "acme/old", "--json").json
    assert (report["damaged"], report["mended"], report["failures"]) == (1, 1, [])
    assert files_in(nodes[0].bring("acme/old")["path"]) == FILES
    assert blob.read_bytes() == mine
    assert site.sent == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads what belongs to another user")
def test_another_users_cache_is_used_where_it_lies(site, house, nodes):
    data = {"w.bin": noise(36, 6 * MIB)}
    site.hub.add_repo("model", "acme/theirs", data)
    home = huggingface_cache(site, house.folder / "theirs", "acme/theirs", data)
    blob = next((home / "blobs").glob("[0-9a-f]" * 64))
    os.chown(blob, 65534, 65534)
    site.hub.reset()
    command(nodes[0], "adopt", house.folder / "theirs")
    assert blob.stat().st_nlink == 1
    assert files_in(nodes[0].bring("acme/theirs")["path"]) == data
    assert files_in(nodes[1].bring("acme/theirs")["path"]) == data
    assert (site.sent, blob.stat().st_nlink) == (0, 1)


def test_a_folder_that_is_no_cache_is_named_and_not_a_silent_success(nodes, tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"of no repo that anybody could name")
    done = nodes[0].command("adopt", tmp_path)
    assert done.code == 3
    assert str(tmp_path) in done.err


def test_a_damaged_or_foreign_name_is_not_believed(site, house, nodes):
    site.hub.add_repo("model", "acme/lie", {"w.bin": noise(33, 2 * MIB)})
    folder = house.folder / "lying"
    home = huggingface_cache(site, folder, "acme/lie", {"w.bin": noise(34, 2 * MIB)})
    done = nodes[0].command("adopt", folder, "--json")
    assert done.code == 1
    assert "not what its name says" in done.json[str(folder)]["failures"][0]
    assert files_in(home / "blobs")[hashlib.sha256(noise(33, 2 * MIB)).hexdigest()] == noise(34, 2 * MIB)


def test_what_the_hub_does_not_give_to_strangers_stays_private(site, house, nodes):
    data = {"w.bin": noise(35, 2 * MIB)}
    site.hub.add_repo("model", "acme/hidden", data, private=True)
    home = house.folder / "hidden/hub/models--acme--hidden"
    blob = home / "blobs" / hashlib.sha256(data["w.bin"]).hexdigest()
    blob.parent.mkdir(parents=True)
    blob.write_bytes(data["w.bin"])
    (home / "snapshots" / ("ab" * 20)).mkdir(parents=True)
    report = command(nodes[0], "adopt", house.folder / "hidden", "--json").json[str(house.folder / "hidden")]
    assert (report["adopted"], report["repos_public"]) == (1, 0)
    assert nodes[0].ask("/-/api/info?repo=acme/hidden").status == 404
    assert (nodes[0].state / "private/blobs/sha256" / blob.name[:2] / blob.name).samefile(blob)


LAYOUTS = {
    "acme/scope1.9": "hub/acme/scope1.9",
    "acme/scope1.30": "hub/models/acme/scope1___30",
    "acme/scope1.38": "models/acme--scope1.38/snapshots/master",
}


def test_modelscope_caches_of_every_age_are_known(site, house, nodes):
    folder = house.folder / "ms"
    repos = {name: {"configuration.json": b"{%d}" % at, "weights/w.bin": noise(at, MIB)} for at, name in enumerate(LAYOUTS, 40)}
    for name, data in repos.items():
        site.hub.add_repo("model", name, data)
        for path, content in data.items():
            (folder / LAYOUTS[name] / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / LAYOUTS[name] / path).write_bytes(content)
        (folder / LAYOUTS[name] / ".msc").write_bytes(b"a pickle that nobody opens")
    report = command(nodes[0], "adopt", folder, "--json").json[str(folder)]
    assert (report["adopted"], report["repos_public"], report["failures"]) == (6, 3, [])
    for name, data in repos.items():
        fetched = nodes[1].bring(name, hub="modelscope")
        assert fetched["upstream"] == 0
        assert files_in(fetched["path"]) == data
    assert site.sent <= len(nodes) * len(repos)  # a byte each: whether the hub gives files to strangers


def test_pins_and_removal(site, nodes):
    site.hub.add_repo("model", "acme/go", {"w.bin": noise(51, 5 * MIB), "shared.bin": FILES["model.safetensors"]})
    node = nodes[0]
    path = node.bring("acme/go")["path"]
    [commit] = command(node, "pin", "acme/go", "--json").json["pinned"]
    [held] = [each for each in command(node, "list", "--json").json["snapshots"] if each["repo"] == "acme/go"]
    assert held["pinned"]
    assert held["used"]
    refused = node.command("rm", "acme/go")
    assert (refused.code, "pinned" in refused.err) == (1, True)
    assert command(node, "unpin", "acme/go", "--json").json["unpinned"]
    removed = command(node, "rm", f"acme/go@{commit[:12]}", "--json").json  # as `list` shows it
    assert (removed["blobs"], removed["bytes"], removed["busy"]) == (1, 5 * MIB, 0)
    assert not Path(path).exists()
    assert node.bring("acme/old")["upstream"] == 0


def rotten(node):
    """How many chunks were found damaged on its disk."""
    text = node.ask("/metrics").body.decode()
    return float(text.partition('p2pmodel_verify_failures_total{kind="chunk",source="store"} ')[2].partition("\n")[0])


def test_verify_mends_what_rotted(site, nodes):
    data = {"w.bin": noise(52, 9 * MIB)}
    site.hub.add_repo("model", "acme/rot", data)
    node = nodes[0]
    node.bring("acme/rot")
    name = hashlib.sha256(data["w.bin"]).hexdigest()
    file = node.state / "blobs/sha256" / name[:2] / name
    file.chmod(0o644)
    with file.open("r+b") as opened:
        opened.seek(6 * MIB)
        opened.write(b"rot")
    before = rotten(node)
    report = command(node, "verify", "acme/rot", "--json").json
    assert (report["files"], report["damaged"], report["mended"]) == (1, 1, 1)
    assert rotten(node) == before + 1
    assert files_in(node.bring("acme/rot")["path"]) == data


def test_the_doctor_sees_a_running_daemon_and_its_hubs(nodes):
    findings = {each["check"]: each for each in command(nodes[0], "doctor", "--json").json["findings"]}
    assert [findings[name]["state"] for name in ("daemon", "peers", "disk", "huggingface")] == ["ok"] * 4


def test_the_doctor_says_what_is_wrong(house):
    nowhere = house.plan("nowhere", node__offline=True, store__min_free="9999TB")
    done = nowhere.command("doctor", "--json")
    assert done.code == 1
    bad = [each for each in done.json["findings"] if each["state"] == "bad"]
    assert [each["check"] for each in bad] == ["disk"]
    assert "min_free" in bad[0]["next_step"]


def test_the_doctor_looks_at_the_way_to_the_state_as_a_daemon_does(house):
    unsafe = house.plan("unsafe", node__offline=True)
    unsafe.state.parent.mkdir(parents=True, exist_ok=True)
    unsafe.state.parent.chmod(0o777)
    done = unsafe.command("doctor", "--json")
    assert [each["check"] for each in done.json["findings"] if each["state"] == "bad"] == ["disk"]
    assert done.code == 1
