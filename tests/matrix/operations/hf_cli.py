import os
import shutil
import subprocess

import seen

program = shutil.which("hf") or shutil.which("huggingface-cli")
subprocess.run([program, "download", os.environ["REPO"], "--local-dir", "here"], check=True)
seen.say(seen.tree("here"))
