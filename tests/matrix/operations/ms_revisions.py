import os

import seen
from modelscope.hub.snapshot_download import snapshot_download

repo = os.environ["REPO"]
seen.say({name: seen.tree(snapshot_download(repo, revision=name, cache_dir=name)) for name in ("master", "v1.0")})
