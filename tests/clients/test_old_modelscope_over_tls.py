"""modelscope as old as 1.9 through a real daemon over TLS, set up by what `p2pmodel env` prints and nothing else."""

from __future__ import annotations

import pytest
from daemons import MIB, House, Site, files_in
from noise import noise

pytestmark = [pytest.mark.clients, pytest.mark.timeout(400)]

FILES = {"config.json": b"{}", "sub/odd name +.txt": b"odd", "model.safetensors": noise(4, 12 * MIB)}
TOKEN = "ms_alice"
of_old_versions = pytest.mark.parametrize("name", ["modelscope-1.9", "modelscope-1.22", "modelscope-1.37"])

SNAPSHOT = "from modelscope.hub.snapshot_download import snapshot_download\nresult = snapshot_download({repo!r})"
LOGIN = "from modelscope.hub.api import HubApi\nHubApi().login({token!r})\n"


def downloaded(folder: str) -> dict[str, bytes]:
    """Without the client's own notes."""
    return {path: data for path, data in files_in(folder).items() if not path.startswith(".")}


@pytest.fixture
def site():
    with Site() as site:
        site.hub.add_repo("model", "acme/tiny", FILES)
        site.hub.add_repo("model", "acme/secret", {"w.bin": b"secret"}, private=True)
        site.hub.add_user(TOKEN, "alice")
        yield site


@of_old_versions
def test_public_and_private_models_come_cold_warm_and_with_the_hub_gone(site, client, tmp_path, name):
    with House(tmp_path / "house", site, {"gateway.tls_listen": "localhost:0"}) as house:
        node = house.daemon("one")
        lines = [line.removeprefix("export ").split("=", 1) for line in node.command("env").out.splitlines()]
        named = {key: value for key, value in lines if key in {"MODELSCOPE_DOMAIN", "REQUESTS_CA_BUNDLE"}}
        assert downloaded(client.run(node.url, SNAPSHOT.format(repo="acme/tiny"), home="cold", **named)) == FILES
        sent = site.sent
        assert downloaded(client.run(node.url, SNAPSHOT.format(repo="acme/tiny"), home="warm", **named)) == FILES
        assert site.sent == sent
        refused = f"try:\n    {SNAPSHOT.format(repo='acme/secret')}".replace("\nresult", "\n    result")
        refused += "\nexcept Exception as error:\n    result = type(error).__name__"
        assert client.run(node.url, refused, home="stranger", **named).endswith("Error")
        private = LOGIN.format(token=TOKEN) + SNAPSHOT.format(repo="acme/secret")
        assert downloaded(client.run(node.url, private, home="alice", **named)) == {"w.bin": b"secret"}
        site.down()
        assert downloaded(client.run(node.url, SNAPSHOT.format(repo="acme/tiny"), home="gone", **named)) == FILES
