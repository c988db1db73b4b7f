import os

import seen

try:
    from modelscope import snapshot_download
except ImportError:  # up to 1.15
    from modelscope.hub.snapshot_download import snapshot_download

seen.say(seen.tree(snapshot_download(os.environ["REPO"])))
