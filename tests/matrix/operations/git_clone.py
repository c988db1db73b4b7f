import os
import subprocess

import seen

subprocess.run(["git", "lfs", "install", "--skip-repo"], check=True, stdout=subprocess.DEVNULL)
subprocess.run(["git", "clone", "-q", os.environ["URL"] + "/" + os.environ["REPO"], "here"], check=True)
head = subprocess.run(["git", "-C", "here", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
seen.say({"head": head, "files": seen.tree("here")})
