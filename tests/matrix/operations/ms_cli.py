import os
import subprocess

import seen

subprocess.run(["modelscope", "download", "--model", os.environ["REPO"], "--local_dir", "here"], check=True)
seen.say(seen.tree("here"))
