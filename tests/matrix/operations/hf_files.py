import json
import os

import seen
from huggingface_hub import hf_hub_download

repo = os.environ["REPO"]
seen.say({path: seen.file(hf_hub_download(repo, path)) for path in json.loads(os.environ["PATHS"])})
