"""huggingface_hub uploads through a real daemon to the demo hub, and a second node has it without asking the hub for a byte."""

from __future__ import annotations

import pytest
from daemons import MIB, House, Site, noise, until

pytestmark = [pytest.mark.clients, pytest.mark.timeout(400)]

TOKEN = "hf_aliceAliceAlice"
PLAIN = {"HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
FILES = {"config.json": b'{"model_type": "bert"}', "weights.bin": noise(5, 3 * MIB), "large.safetensors": noise(6, 17 * MIB)}

UPLOAD = """
from huggingface_hub import HfApi
api = HfApi()
api.create_repo({repo!r}, private={private}, exist_ok=True)
folder = {folder!r}
api.upload_folder(repo_id={repo!r}, folder_path=folder)
done = api.upload_file(path_or_fileobj=b"later", path_in_repo="sub/later.txt", repo_id={repo!r})
result = done.oid
"""


@pytest.fixture
def site():
    with Site() as site:
        site.hub.add_user(TOKEN, "alice")
        yield site


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "upload"
    folder.mkdir()
    for path, data in FILES.items():
        (folder / path).write_bytes(data)
    return folder


of_huggingface = pytest.mark.parametrize("name", ["hub-2", "hub-0.36"])


@of_huggingface
def test_what_was_uploaded_is_at_a_second_node_without_a_byte_from_the_hub(site, client, folder, tmp_path, name):
    with House(tmp_path / "house", site) as house:
        one = house.daemon("one")
        two = house.daemon("two", [one])
        two.linked(1)
        oid = client.run(one.url, UPLOAD.format(repo="alice/new", private=False, folder=str(folder)), **PLAIN)
        repo = site.hub.repo("model", "alice/new")
        assert repo.head.id == oid
        assert {path: file.content.body for path, file in repo.head.files.items() if path in FILES} == FILES
        assert site.hub.stats()["auth_leaks"] == 0
        until(lambda: not two.fetch("alice/new", "config.json", "large.safetensors")["upstream"], "both files at a peer")
        done = two.fetch("alice/new", "--exclude", ".gitattributes")
        assert (done["upstream"], done["files"]) == (0, 4)
        assert site.sent == 0
