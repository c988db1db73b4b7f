import os

import seen
from modelscope.hub.api import HubApi
from modelscope.hub.snapshot_download import snapshot_download

HubApi().login(os.environ["TOKEN"])
seen.say(seen.tree(snapshot_download(os.environ["REPO"])))
