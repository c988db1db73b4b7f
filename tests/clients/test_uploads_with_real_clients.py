"""huggingface_hub uploads through a real daemon to the demo hub, and a second node has it without asking the hub for a byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from daemons import MIB, House, Site, files_in, until
from noise import noise

from p2pmodel.demo.repos import Content
from p2pmodel.limits import DISCLOSURE_BYTES

pytestmark = [pytest.mark.clients, pytest.mark.timeout(400)]

TOKEN = "hf_aliceAliceAlice"
PLAIN = {"HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
LOOKS = 8 * DISCLOSURE_BYTES  # whether the hub gives each file to strangers
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
        assert site.sent <= LOOKS


XET = {name: value for name, value in PLAIN.items() if name != "HF_HUB_DISABLE_XET"}
#: Bytes that pack well as they lie, and such that pack well when the first of every four stand together.
PACKED = {
    "words.bin": b"packs well " * 200_000,
    "floats.safetensors": b"".join(bytes([n * 7 & 255, n * 13 & 255, 60 + n % 3, 63]) for n in range(700_001)) + b"end",
    "empty.bin": b"",
}


@pytest.mark.parametrize(("name", "grants"), [("hub-2", True), ("hub-2", False), ("hub-0.36", True)])
def test_an_upload_with_hf_xet_switched_on_is_at_a_second_node_without_a_byte_from_the_hub(
    site, client, folder, tmp_path, name, grants
):
    """Where the hub may choose it is not offered Xet; newer clients take nothing else, and go where a grant leads them."""
    site.hub.huggingface.writing.xet.grants = grants
    for path, data in PACKED.items():
        (folder / path).write_bytes(data)
    with House(tmp_path / "house", site) as house:
        one = house.daemon("one")
        two = house.daemon("two", [one])
        client.run(one.url, UPLOAD.format(repo="alice/xet", private=False, folder=str(folder)), **XET)
        repo = site.hub.repo("model", "alice/xet")
        sent = FILES | PACKED | {"sub/later.txt": b"later"}
        assert {path: file.content.body for path, file in repo.head.files.items() if path in sent} == sent
        large = repo.head.files["floats.safetensors"].content
        assert large.xet_root == (Content.of(large.body, xet=True).xet_root if name == "hub-2" else "")
        asked = site.hub.stats()["requests"]
        assert ("POST xet shard" in asked, "PUT xet granted" in asked, "POST xet xorb" in asked) == (
            name == "hub-2",
            name == "hub-2" and grants,
            name == "hub-2" and not grants,
        )
        assert site.hub.stats()["auth_leaks"] == 0
        public = one.state / "blobs"
        until(lambda: len([path for path in public.rglob("*") if path.is_file()]) >= len(sent), "the files to be public")
        done = two.fetch("alice/xet", "--exclude", ".gitattributes")
        assert (done["upstream"], done["files"]) == (0, len(sent))
        assert {path: data for path, data in files_in(done["path"]).items() if path in sent} == sent
        assert site.sent <= LOOKS


@pytest.mark.parametrize("name", ["hub-2"])
def test_a_private_upload_by_xet_is_there_at_once_and_private(site, client, folder, tmp_path):
    with House(tmp_path / "house", site) as house:
        one = house.daemon("one")
        script = UPLOAD.format(repo="alice/mine", private=True, folder=str(folder))
        script += "from huggingface_hub import snapshot_download\nresult = snapshot_download('alice/mine')"
        here = Path(client.run(one.url, script, **XET))
        assert {path: (here / path).read_bytes() for path in FILES} == FILES
        assert site.sent == len((here / ".gitattributes").read_bytes())
        assert list((one.state / "blobs").rglob("*.safetensors")) == []
        assert [path for path in (one.state / "blobs").rglob("*") if path.is_file()] == []


AGAIN = """
from huggingface_hub import HfApi
result = HfApi().upload_file(path_or_fileobj={path!r}, path_in_repo={name!r}, repo_id="alice/share").oid
"""


@pytest.mark.parametrize("name", ["hub-2"])
def test_of_a_file_that_shares_bytes_with_an_earlier_one_the_rest_is_sent_and_the_node_has_it_all(
    site, client, folder, tmp_path
):
    """The client remembers what the hub has, and so does the node, over its own end."""
    with House(tmp_path / "house", site) as house:
        one = house.daemon("one")
        client.run(one.url, UPLOAD.format(repo="alice/share", private=False, folder=str(folder)), **XET)
        until(lambda: len(files_in(one.state / "blobs")) >= 4, "the files to be public")
        for number in (1, 2):
            sent = site.hub.huggingface.writing.xet.received
            path = folder / f"large{number}.safetensors"
            path.write_bytes(FILES["large.safetensors"] + noise(number, MIB))
            client.run(one.url, AGAIN.format(path=str(path), name=path.name), **XET)
            assert MIB < site.hub.huggingface.writing.xet.received - sent < 2 * MIB
            head = site.hub.repo("model", "alice/share").head
            assert head.files[path.name].content.body == path.read_bytes()
            assert one.fetch("alice/share", "--include", path.name)["upstream"] == 0
            one.stop()
            one.config.write_text(one.config.read_text().replace("localhost:0", f"localhost:{one.port}"))
            one.start()  # at the address by which the client remembers
        assert site.sent <= LOOKS


@pytest.mark.parametrize("name", ["hub-2"])
@pytest.mark.parametrize("grants", [True, False])
def test_an_upload_by_xet_outlives_a_hub_that_fails_at_first(site, client, folder, tmp_path, grants):
    site.hub.huggingface.writing.xet.grants = grants
    site.hub.fault("granted|xorbs/default", status=503, times=2)
    site.hub.fault("shards", drop=True, times=1)
    with House(tmp_path / "house", site) as house:
        one = house.daemon("one")
        client.run(one.url, UPLOAD.format(repo="alice/hard", private=False, folder=str(folder)), **XET)
        until(lambda: len(files_in(one.state / "blobs")) >= 4, "the files to be public")
        assert site.hub.stats()["faults_played"] == 3
        assert site.sent <= LOOKS


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
        assert site.sent <= LOOKS
