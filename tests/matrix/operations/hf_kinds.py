import os

import seen
from huggingface_hub import snapshot_download

repo = os.environ["REPO"]
seen.say({kind: seen.tree(snapshot_download(repo, repo_type=kind)) for kind in ("dataset", "space")})
