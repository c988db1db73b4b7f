import os

import seen
from huggingface_hub import snapshot_download

repo = os.environ["REPO"]
seen.say({"cache": seen.tree(snapshot_download(repo)), "folder": seen.tree(snapshot_download(repo, local_dir="here"))})
