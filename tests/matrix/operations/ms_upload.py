"""The first state uploads; the others only read what the cluster has since."""

import inspect
import os
import random

import seen
from modelscope.hub.api import HubApi
from modelscope.hub.snapshot_download import snapshot_download

repo = os.environ["REPO"]
if os.environ["STATE"] == "cold":
    api = HubApi()
    api.login(os.environ["TOKEN"])
    os.makedirs("up/sub")
    for path, data in (
        ("README.md", b"# up"),
        ("small.txt", b"small"),
        ("sub/weights.bin", random.Random(6).randbytes(9 << 20)),
    ):
        with open(os.path.join("up", path), "wb") as file:
            file.write(data)
    if hasattr(api, "create_repo"):
        asked = inspect.signature(api.create_repo).parameters  # its default config is written by a git clone
        plain = {"create_default_config": False} if "create_default_config" in asked else {}
        api.create_repo(repo, repo_type="model", visibility="public", **plain)
    else:
        api.create_model(repo, visibility=5, license="Apache License 2.0")
    api.upload_folder(repo_id=repo, folder_path="up", commit_message="up")
seen.say(seen.tree(snapshot_download(repo)))
