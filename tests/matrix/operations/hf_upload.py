"""The first state uploads; the others only read what the cluster has since."""

import os
import random

import seen
from huggingface_hub import HfApi, snapshot_download

repo, token = os.environ["REPO"], os.environ["TOKEN"]
if os.environ["STATE"] == "cold":
    api = HfApi(token=token)
    os.makedirs("up/sub")
    for path, data in (("small.txt", b"small"), ("sub/weights.bin", random.Random(int(os.environ["SEED"])).randbytes(9 << 20))):
        with open(os.path.join("up", path), "wb") as file:
            file.write(data)
    api.create_repo(repo, exist_ok=True)
    api.upload_folder(repo_id=repo, folder_path="up")
    api.upload_file(repo_id=repo, path_or_fileobj=b"later", path_in_repo="later.txt")
seen.say(seen.tree(snapshot_download(repo)))
