"""huggingface_hub uploads through a real daemon to the demo hub, and a second node has it without asking the hub for a byte."""

from __future__ import annotations

from pathlib import Path

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
        public = one.state / "blobs"
        until(lambda: len([path for path in public.rglob("*") if path.is_file()]) >= 4, "the files to be public")
        done = two.fetch("alice/new", "--exclude", ".gitattributes")
        assert (done["upstream"], done["files"]) == (0, 4)
        assert site.sent == 0


@of_huggingface
def test_an_upload_with_hf_xet_switched_on_arrives_and_is_there_at_once(site, client, folder, tmp_path, name):
    """Where the hub may choose, it is not offered Xet and the files are kept; a newer client takes them to it past us."""
    (folder / "packs.bin").write_bytes(b"packs well " * 200_000)
    settings = {name: value for name, value in PLAIN.items() if name != "HF_HUB_DISABLE_XET"}
    with House(tmp_path / "house", site) as house:
        one = house.daemon("one")
        script = UPLOAD.format(repo="alice/xet", private=True, folder=str(folder))
        script += "from huggingface_hub import snapshot_download\nresult = snapshot_download('alice/xet')"
        here = Path(client.run(one.url, script, **settings))
        sent = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert {path: (here / path).read_bytes() for path in sent} == sent
        assert (here / "sub/later.txt").read_bytes() == b"later"
        seen = site.hub.stats()["requests"]
        assert ("POST xet shard" in seen) == (name == "hub-2")
        assert site.hub.stats()["auth_leaks"] == 0


MODELSCOPE = """
from modelscope.hub.api import HubApi
api = HubApi()
api.login({token!r})
api.create_repo({repo!r}, repo_type="model", visibility="public")
api.upload_folder(repo_id={repo!r}, folder_path={folder!r})
done = api.upload_file(path_or_fileobj=b"later", path_in_repo="sub/later.txt", repo_id={repo!r})
result = done["oid"] if isinstance(done, dict) else done.oid
"""


@pytest.mark.parametrize("name", ["modelscope"])
def test_what_was_uploaded_to_modelscope_is_at_a_second_node_without_a_byte_of_it_from_the_hub(site, client, folder, tmp_path):
    with House(tmp_path / "house", site) as house:
        one = house.daemon("one")
        two = house.daemon("two", [one])
        oid = client.run(one.url, MODELSCOPE.format(token=TOKEN, repo="alice/scope", folder=str(folder)))
        repo = site.hub.repo("model", "alice/scope")
        assert repo.head.id == oid
        assert {path: file.content.body for path, file in repo.head.files.items() if path in FILES} == FILES
        assert site.hub.stats()["auth_leaks"] == 0
        until(lambda: len([path for path in (one.state / "blobs").rglob("*") if path.is_file()]) >= 4, "the files to be public")
        done = two.fetch("alice/scope", "--hub", "modelscope", "--exclude", ".gitattributes", "--exclude", "README.md")
        assert (done["upstream"], done["files"]) == (0, 4)
        assert site.sent <= 4  # a byte a listing: whether its files are for everybody
