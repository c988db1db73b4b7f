import os

import seen
from huggingface_hub import snapshot_download

revisions = ["main", "v1.0", "side/branch", "refs/pr/1", os.environ["COMMIT"]]
repo = os.environ["REPO"]
seen.say({name: seen.tree(snapshot_download(repo, revision=name)) for name in revisions})
