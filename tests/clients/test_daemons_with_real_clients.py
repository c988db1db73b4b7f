"""Unmodified clients through real daemons: each file byte for byte, cold, warm at a peer, and with the hub gone.

huggingface_hub 2.4 and 0.36, both with hf_xet installed and enabled, and modelscope 1.40: a snapshot of a model and of a
dataset, single files, listings and ranged reads, safetensors metadata, what is not there, what is private, a body that is
cut, a wait longer than the client's patience, and the cache tree without any daemon.
"""

from __future__ import annotations

import json
import struct
import time
from contextlib import suppress

import pytest
from daemons import MIB, House, Site, files_in
from noise import noise

pytestmark = [pytest.mark.clients, pytest.mark.timeout(400)]

HUGGINGFACE = ["hub-2", "hub-0.36"]
of_everybody = pytest.mark.parametrize("name", [*HUGGINGFACE, "modelscope"])
of_huggingface = pytest.mark.parametrize("name", HUGGINGFACE)
of_modelscope = pytest.mark.parametrize("name", ["modelscope"])


def safetensors(seed: int, size: int) -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + noise(seed, size)


FILES = {
    "config.json": b'{"model_type": "bert"}',
    "empty.txt": b"",
    "sub/deep/vocab.txt": b"hello\n",
    "names with +#&%.txt": b"odd",
    "model.safetensors": safetensors(1, 12 * MIB),
}
SIZE = sum(map(len, FILES.values()))
DATA = {f"part{number}.csv": b"%d" % number for number in range(120)}
TOKEN = "hf_aliceAliceAlice"


def snapshot(name: str, repo: str, **options: object) -> str:
    """A script that downloads a model."""
    given = "".join(f", {key}={value!r}" for key, value in options.items())
    library = "modelscope" if name == "modelscope" else "huggingface_hub"
    return f"from {library} import snapshot_download\nresult = snapshot_download('{repo}'{given})"


def one_file(name: str, repo: str, path: str) -> str:
    if name == "modelscope":
        return f"from modelscope.hub.file_download import model_file_download as get\nresult = get('{repo}', '{path}')"
    return f"from huggingface_hub import hf_hub_download as get\nresult = get('{repo}', '{path}')"


def outcome(script: str) -> str:
    """The same script with the name of its error for a result, if it fails."""
    indented = script.replace("\n", "\n    ")
    return f"try:\n    {indented}\nexcept Exception as error:\n    result = type(error).__name__"


def downloaded(path: str) -> dict[str, bytes]:
    """The files of a snapshot, without the client's own notes."""
    return {path: data for path, data in files_in(path).items() if not path.startswith(".")}


@pytest.fixture(scope="module")
def site():
    with Site() as site:
        site.hub.add_repo("model", "acme/tiny", FILES)
        site.hub.add_repo("dataset", "acme/data", DATA)
        site.hub.add_repo("model", "acme/secret", {"config.json": b"secret", "w.bin": noise(2, MIB)}, private=True)
        site.hub.add_user(TOKEN, "alice")
        yield site


@pytest.fixture
def house(site, tmp_path):
    site.hub.reset()
    site.hub.pace.rate = None
    with House(tmp_path / "house", site) as house:
        yield house


@of_everybody
def test_a_model_comes_cold_then_from_a_peer_then_with_the_hub_gone(site, house, client, name):
    one = house.daemon("one")
    assert downloaded(client.run(one.url, snapshot(name, "acme/tiny"), home="cold")) == FILES
    probe = 1 if name == "modelscope" else 0  # a ModelScope listing does not say whether its files are public
    assert site.sent == SIZE + probe
    two = house.daemon("two", [one])
    site.hub.reset()
    assert downloaded(client.run(two.url, snapshot(name, "acme/tiny"), home="warm")) == FILES
    assert site.sent == probe
    site.down()
    try:
        for node in (one, two):
            assert downloaded(client.run(node.url, snapshot(name, "acme/tiny"), home=f"gone-{node.port}")) == FILES
    finally:
        site.up()


@of_everybody
def test_what_a_fetch_brought_is_served_to_clients_with_the_hub_gone(site, house, client, name):
    """The daemon never saw a client of this model before."""
    node = house.daemon("one")
    node.fetch("acme/tiny", "--hub", "modelscope" if name == "modelscope" else "huggingface")
    site.down()
    try:
        assert downloaded(client.run(node.url, snapshot(name, "acme/tiny"))) == FILES
        assert client.run(node.url, outcome(snapshot(name, "acme/unseen"))).endswith("Error")
    finally:
        site.up()


@of_everybody
def test_a_dataset_and_single_files(house, client, name):
    node = house.daemon("one")
    if name == "modelscope":
        script = "from modelscope import dataset_snapshot_download\nresult = dataset_snapshot_download('acme/data')"
    else:
        script = snapshot(name, "acme/data", repo_type="dataset")
    assert downloaded(client.run(node.url, script)) == DATA
    for path in ("sub/deep/vocab.txt", "names with +#&%.txt", "model.safetensors"):
        with open(client.run(node.url, one_file(name, "acme/tiny", path)), "rb") as file:  # noqa: PTH123  # a client's path
            assert file.read() == FILES[path]


@of_huggingface
def test_listings_infos_ranges_and_safetensors_metadata(site, house, client, name):
    node = house.daemon("one")
    result = client.run(
        node.url,
        """
from huggingface_hub import HfApi, HfFileSystem
api = HfApi()
info = api.model_info("acme/tiny", files_metadata=True)
with HfFileSystem().open("acme/tiny/model.safetensors", "rb") as file:
    file.seek(5_000_000)
    middle = file.read(1000).hex()
meta = api.get_safetensors_metadata("acme/tiny")
result = {
    "sha": info.sha, "sizes": {one.rfilename: one.size for one in info.siblings}, "middle": middle,
    "listed": sorted(api.list_repo_files("acme/tiny")), "tensors": list(meta.files_metadata["model.safetensors"].tensors),
    "ls": sorted(HfFileSystem().ls("acme/tiny/sub", detail=False)),
}
""",
    )
    assert result["sha"] == site.hub.repo("model", "acme/tiny").head.id
    assert result["sizes"] == {path: len(data) for path, data in FILES.items()}
    assert bytes.fromhex(result["middle"]) == FILES["model.safetensors"][5_000_000:5_001_000]
    assert (result["listed"], result["tensors"], result["ls"]) == (sorted(FILES), ["w"], ["acme/tiny/sub/deep"])


@of_huggingface
def test_what_is_not_there_and_what_is_private_is_told_in_the_clients_own_errors(house, client, name):
    node = house.daemon("one")
    script = """
from huggingface_hub import HfApi, hf_hub_download
def outcome(function, *arguments, **named):
    try:
        return str(function(*arguments, **named) is not None)
    except Exception as error:
        return type(error).__name__
api = HfApi()
result = [outcome(api.model_info, "acme/none"), outcome(api.model_info, "acme/tiny", revision="none"),
          outcome(hf_hub_download, "acme/tiny", "none").removeprefix("Remote"),
          outcome(hf_hub_download, "acme/secret", "config.json")]
"""
    missing = ["RepositoryNotFoundError", "RevisionNotFoundError", "EntryNotFoundError"]
    assert client.run(node.url, script) == [*missing, "RepositoryNotFoundError"]
    assert client.run(node.url, script, HF_TOKEN="hf_wrongWrongWrong") == [*missing, "RepositoryNotFoundError"]
    assert client.run(node.url, script, HF_TOKEN=TOKEN) == [*missing, "True"]
    assert downloaded(client.run(node.url, snapshot(name, "acme/secret"), HF_TOKEN=TOKEN))["config.json"] == b"secret"


@of_modelscope
def test_modelscope_is_told_what_is_not_there_and_what_is_private(house, client, name):
    node = house.daemon("one")
    for script in (snapshot(name, "acme/none"), one_file(name, "acme/tiny", "none"), snapshot(name, "acme/secret")):
        assert client.run(node.url, outcome(script)).endswith("Error")
    login = f"from modelscope.hub.api import HubApi\nHubApi().login('{TOKEN}')\n"
    assert downloaded(client.run(node.url, login + snapshot(name, "acme/secret")))["config.json"] == b"secret"


@of_everybody
def test_a_client_resumes_where_its_line_to_the_daemon_was_cut(site, house, client, name):
    """kill -9 of the daemon in the middle; it comes back at the same port, as a service does."""
    site.hub.pace.rate = 4e6
    node = house.daemon("one")
    download = client.begin(node.url, snapshot(name, "acme/tiny"))
    while site.sent < SIZE / 2:
        time.sleep(0.01)
    node.kill()
    node.config.write_text(node.config.read_text().replace("localhost:0", f"localhost:{node.port}"))
    site.hub.pace.rate = None
    node.start()
    with suppress(AssertionError):  # its own retries may be over before the daemon is back: the same call goes on then
        client.end(download)
    assert downloaded(client.run(node.url, snapshot(name, "acme/tiny"))) == FILES
    assert site.sent <= SIZE + 8 * MIB


@of_everybody
def test_a_file_that_peers_share_for_longer_than_the_clients_patience_arrives(site, house, client, name):
    """Bytes of a peer may not leave before the whole file is checked: 16 s of waiting, kept alive by interim responses."""
    repo = f"acme/slow-{name}"
    weights = noise(len(name), 16 * MIB)
    site.hub.add_repo("model", repo, {"model.safetensors": weights})
    one = house.daemon("one")
    two = house.daemon("two", [one])
    site.hub.pace.rate = 1e6
    other = one.begin_command("fetch", repo, "-q")
    begun = time.monotonic()
    result = client.run(two.url, one_file(name, repo, "model.safetensors"))
    assert time.monotonic() - begun > 10
    with open(result, "rb") as file:  # noqa: PTH123  # a client's path
        assert file.read() == weights
    assert other.wait(30) == 0
    other.communicate()
    gets = sum(count for labels, count in two.metrics("p2pmodel_gateway_requests_total").items() if "_file" in labels)
    assert gets <= 3  # a HEAD, a GET, perhaps a probe: nothing was asked again


@of_huggingface
def test_the_cache_tree_serves_without_any_daemon(house, client, name):
    node = house.daemon("one")
    path = node.fetch("acme/tiny")["path"]
    node.stop()
    tree = {"HF_HUB_CACHE": str(node.state / "hub"), "HF_HUB_OFFLINE": "1"}
    assert client.run("http://127.0.0.1:9", snapshot(name, "acme/tiny"), **tree) == path
    assert downloaded(path) == FILES
