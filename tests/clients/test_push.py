"""`p2pmodel push`: a folder goes to the hub once, and the cluster has it without asking the hub."""

import pytest
from daemons import MIB, House, Site, files_in
from noise import noise

from p2pmodel.limits import DISCLOSURE_BYTES

pytest.importorskip("huggingface_hub")
pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]

TOKEN = "hf_aliceAliceAlice"
FILES = {"config.json": b'{"a": 1}', "deep/w.safetensors": noise(81, 12 * MIB), "other.bin": noise(82, 6 * MIB)}


@pytest.fixture(scope="module")
def site():
    with Site() as site:
        site.hub.add_user(TOKEN, "alice")
        yield site


@pytest.fixture(scope="module")
def nodes(site, tmp_path_factory):
    with House(tmp_path_factory.mktemp("house"), site) as house:
        one = house.daemon("one")
        yield one, house.daemon("two", [one])


@pytest.fixture
def folder(tmp_path):
    for name, data in FILES.items():
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "model"


def push(node, *arguments, token=TOKEN):
    return node.command(
        "push", *arguments, "--json", "-q", HF_TOKEN=token, HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1"
    )


def put(site):
    """Files that came to the hub's storage."""
    return sum(count for what, count in site.hub.counters.requests.items() if what.startswith("PUT"))


def test_a_folder_is_uploaded_and_both_nodes_have_it_without_the_hub(site, nodes, folder):
    done = push(nodes[0], folder, "alice/new")
    assert done.code == 0, done.err
    assert done.json["shared"] is True
    site.hub.reset()
    for node in nodes:
        fetched = node.fetch("alice/new")
        brought = files_in(fetched["path"])
        assert {name: brought[name] for name in FILES} == FILES
        assert fetched["commit"] == done.json["commit"]
    assert site.sent < 1000 + len(FILES) * DISCLOSURE_BYTES  # .gitattributes, which the hub made
    held = nodes[0].state / "hub/models--alice--new/snapshots" / done.json["commit"] / "other.bin"
    assert held.resolve().samefile(folder / "other.bin")


def test_the_same_again_sends_nothing_and_a_change_only_itself(site, nodes, folder):
    site.hub.reset()
    (folder / "new.safetensors").write_bytes(noise(84, 2 * MIB))  # the hub has the others from elsewhere, and says so
    first = push(nodes[0], folder, "alice/again").json["commit"]
    assert put(site) > 0
    site.hub.reset()
    assert push(nodes[0], folder, "alice/again").json["commit"] == first
    assert put(site) == 0
    (folder / "other.bin").write_bytes(noise(83, 6 * MIB))
    second = push(nodes[0], folder, "alice/again")
    assert second.json["commit"] != first
    assert nodes[1].fetch("alice/again")["upstream"] < 1000


def test_a_private_repo_stays_private(nodes, folder):
    done = push(nodes[0], folder, "alice/secret", "--private")
    assert done.code == 0, done.err
    assert nodes[1].command("fetch", "alice/secret").code == 3


def test_modelscope_takes_a_folder_as_well(site, nodes, folder):
    done = nodes[0].command("push", folder, "alice/scope", "--hub", "modelscope", "--json", "-q", MODELSCOPE_API_TOKEN=TOKEN)
    assert done.code == 0, done.err
    assert done.json["shared"] is True
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == sorted(FILES)
    site.hub.reset()
    fetched = nodes[1].fetch("alice/scope", "--hub", "modelscope")
    brought = files_in(fetched["path"])
    assert {name: brought[name] for name in FILES} == FILES
    assert site.sent < 1000 + len(FILES) * DISCLOSURE_BYTES  # what the hub made itself
    site.hub.reset()
    again = nodes[0].command("push", folder, "alice/scope", "--hub", "modelscope", "-q", MODELSCOPE_API_TOKEN=TOKEN)
    assert again.code == 0, again.err
    assert site.hub.counters.requests["PUT ms upload"] == 0
    wrong = nodes[0].command("push", folder, "alice/scope", "--hub", "modelscope", "-q", MODELSCOPE_API_TOKEN="ms_wrong")
    assert (wrong.code in {3, 4}, "ms_wrong" in wrong.err) == (True, False)


def test_what_the_hub_refuses_is_said(site, nodes, folder):
    done = push(nodes[0], folder, "alice/new", token="hf_wrongWrong")
    assert done.code in {3, 4}
    assert "Traceback" not in done.err
    assert "hf_wrong" not in done.err
    site.down()
    try:
        done = push(nodes[0], folder, "alice/new")
        assert (done.code, "resumes" in done.err) == (5, True)
    finally:
        site.up()
