import json
import os

import seen
from modelscope.hub.file_download import model_file_download

repo = os.environ["REPO"]
seen.say({path: seen.file(model_file_download(repo, path)) for path in json.loads(os.environ["PATHS"])})
