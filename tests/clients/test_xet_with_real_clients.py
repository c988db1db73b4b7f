"""hf_xet stays switched on and never leaves localhost: the gateway is its storage, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from daemons import MIB, House, Site
from noise import noise

pytestmark = [pytest.mark.clients, pytest.mark.timeout(400)]

TOKEN = "hf_aliceAliceAlice"
FILES = {
    "config.json": b'{"model_type": "bert"}',
    "tiny.bin": b"t",
    "exact.bin": noise(7, 16 * MIB),
    "model.safetensors": noise(8, 37 * MIB + 4321),
}
SNAPSHOT = """
from huggingface_hub import hf_hub_download, snapshot_download
local = os.environ["HOME"] + "/local"
result = [snapshot_download({repo!r}), hf_hub_download({repo!r}, "model.safetensors", local_dir=local)]
"""
of_huggingface = pytest.mark.parametrize("name", ["hub-2", "hub-0.36"])


@pytest.fixture(scope="module")
def site():
    with Site() as site:
        site.hub.add_repo("model", "acme/tiny", FILES)
        site.hub.add_repo("model", "acme/secret", FILES, private=True)
        site.hub.add_user(TOKEN, "alice")
        yield site


@pytest.fixture
def house(site, tmp_path):
    site.hub.reset()
    with House(tmp_path / "house", site) as house:
        yield house


def xet_requests(node) -> int:
    return int(
        sum(count for labels, count in node.metrics("p2pmodel_gateway_requests_total").items() if 'route="xet"' in labels)
    )


def check(result):
    for path, data in FILES.items():
        assert Path(result[0], path).read_bytes() == data
    assert Path(result[1]).read_bytes() == FILES["model.safetensors"]


@of_huggingface
@pytest.mark.parametrize("repo", ["acme/tiny", "acme/secret"])
def test_all_files_come_by_xet_cold_and_warm_and_private_ones_to_whom_they_belong(site, house, client, name, repo):
    one = house.daemon("one", **{"gateway.xet": "all"})
    check(client.run(one.url, SNAPSHOT.format(repo=repo), home="cold", HF_TOKEN=TOKEN))
    assert xet_requests(one) >= 8
    sent = site.sent
    check(client.run(one.url, SNAPSHOT.format(repo=repo), home="warm", HF_TOKEN=TOKEN))
    assert site.sent == sent


@pytest.mark.parametrize("name", ["hub-2"])
def test_a_client_that_remembers_the_hubs_own_xet_names_gets_the_same_files_from_the_node(site, house, client, name):
    """Its cached listing asks for them by Xet, whatever we offer."""
    failing = "from huggingface_hub import snapshot_download\ntry:\n    result = snapshot_download('acme/tiny')\n"
    failing += "except Exception as error:\n    result = str(error)"
    assert "no Xet server" in client.run(site.url, failing)  # the demo hub names its files, and has no storage to read from
    one = house.daemon("one")
    check(client.run(one.url, SNAPSHOT.format(repo="acme/tiny")))
    assert xet_requests(one) > 0
