import os

import seen
from huggingface_hub import HfApi

repo, api = os.environ["REPO"], HfApi()
info = api.model_info(repo, files_metadata=True)
result = {
    "sha": info.sha,
    "sizes": {one.rfilename: one.size for one in info.siblings},
    "files": sorted(api.list_repo_files(repo)),
}
if hasattr(api, "list_repo_tree"):  # from 0.20 on
    result["tree"] = sorted(one.path for one in api.list_repo_tree(repo, "sub"))
    result["paths"] = [one.path for one in api.get_paths_info(repo, ["config.json", "sub", "none"])]
else:
    result["tree"] = result["paths"] = "no such call"
seen.say(result)
