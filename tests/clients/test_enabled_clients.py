"""Real clients in a program that says `p2pmodel.enable()`: every file is a link to the daemon's, not a copy over HTTP."""

import sysconfig
from pathlib import Path

import msgspec
import pytest
from daemons import MIB, House, Site
from noise import noise

import p2pmodel

pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]

FILES = {"config.json": b"{}", "deep/w.bin": noise(71, 6 * MIB)}
#: Without installing p2pmodel into the client's environment: what it needs is taken from ours, behind the client's own.
PATHS = [str(Path(p2pmodel.__file__).parents[1]), sysconfig.get_path("purelib"), str(Path(msgspec.__file__).parents[1])]
SEEN = f"import sys; sys.path += {PATHS}\nimport p2pmodel\n"
ENABLE = f"{SEEN}p2pmodel.enable()\n"
REPORT = """
root = pathlib.Path(path)
files = {f.relative_to(root).as_posix(): f for f in root.rglob("*") if f.is_file() and not f.name.startswith(".")}
result = {name: [file.stat().st_nlink, file.read_bytes().hex()[:64], file.stat().st_size] for name, file in files.items()}
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    site = Site()
    site.hub.add_repo("model", "acme/linked", FILES)
    with site, House(tmp_path_factory.mktemp("house"), site) as house:
        yield house.daemon("one")


def check(result):
    assert {name: tuple(rest) for name, (_, *rest) in result.items()} == {
        name: (data.hex()[:64], len(data)) for name, data in FILES.items()
    }
    assert all(links > 1 for links, *_ in result.values())


@pytest.mark.parametrize("name", ["hub-2", "hub-0.36"])
def test_huggingface_hub(client, node):
    script = ENABLE + "from huggingface_hub import snapshot_download\n"
    path = 'path = snapshot_download("acme/linked")'
    state = {"P2PMODEL_NODE__STATE_DIR": str(node.state)}
    check(client.run(node.url, script + path + REPORT, **state))


@pytest.mark.parametrize("name", ["hub-2"])
def test_huggingface_hub_by_the_environment_alone(client, node):
    script = SEEN + "from huggingface_hub import snapshot_download\npath = snapshot_download('acme/linked')"
    check(client.run(node.url, script + REPORT, P2PMODEL_NODE__STATE_DIR=str(node.state), P2PMODEL_ENABLE="1"))


@pytest.mark.parametrize("name", ["modelscope"])
def test_modelscope(client, node):
    script = ENABLE + "from modelscope import snapshot_download\n"
    path = 'path = snapshot_download("acme/linked")'
    state = {"P2PMODEL_NODE__STATE_DIR": str(node.state)}
    check(client.run(node.url, script + path + REPORT, **state))
