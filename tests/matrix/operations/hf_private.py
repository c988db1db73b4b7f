import os

import seen
from huggingface_hub import HfApi, snapshot_download

repo, token = os.environ["REPO"], os.environ["TOKEN"]
seen.say({"name": HfApi().whoami(token=token)["name"], "files": seen.tree(snapshot_download(repo, token=token))})
