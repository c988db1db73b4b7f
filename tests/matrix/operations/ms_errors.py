import os

import seen
from modelscope.hub.file_download import model_file_download
from modelscope.hub.snapshot_download import snapshot_download

repo = os.environ["REPO"]
asked = {
    "repo": seen.outcome(snapshot_download, "alice/none"),
    "file": seen.outcome(model_file_download, repo, "none"),
    "private": seen.outcome(snapshot_download, repo + "-private"),
}
result = {name: found.endswith(("Error", "NotExist")) or found for name, found in asked.items()}
seen.say(result | {"config.json": seen.file(model_file_download(repo, "config.json"))})
