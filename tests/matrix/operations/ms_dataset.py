import os

import seen
from modelscope import dataset_snapshot_download
from modelscope.hub.file_download import dataset_file_download

repo = os.environ["REPO"]
seen.say({"all": seen.tree(dataset_snapshot_download(repo)), "one": seen.file(dataset_file_download(repo, "part7.csv"))})
