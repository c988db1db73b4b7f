import os

import seen
from huggingface_hub import HfApi, hf_hub_download

repo, api = os.environ["REPO"], HfApi()
seen.say(
    {
        "repo": seen.outcome(api.model_info, "alice/none"),
        "revision": seen.outcome(api.model_info, repo, revision="none"),
        "file": seen.outcome(hf_hub_download, repo, "none").replace("Remote", ""),
        "private": seen.outcome(hf_hub_download, repo + "-private", "config.json"),
        "config.json": seen.file(hf_hub_download(repo, "config.json")),
    }
)
