"""Cold, alice pushes a small file and a large one; in every state a clone has them."""

import os
import random
import subprocess
from pathlib import Path

import seen

os.environ |= {f"GIT_{who}_{what}": "alice@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
url = os.environ["URL"].replace("://", f"://alice:{os.environ['TOKEN']}@") + "/" + os.environ["REPO"]


def git(*words):
    subprocess.run(["git", *words], check=True, stdout=subprocess.DEVNULL)


git("lfs", "install", "--skip-repo")
if os.environ["STATE"] == "cold":
    git("clone", "-q", url, "mine")
    Path("mine/small.txt").write_bytes(b"small")
    Path("mine/sub").mkdir()
    Path("mine/sub/weights.bin").write_bytes(random.Random(8).randbytes(9 << 20))
    git("-C", "mine", "add", "-A")
    git("-C", "mine", "commit", "-q", "-m", "more")
    git("-C", "mine", "push", "-q", "origin", "HEAD:main")
git("clone", "-q", url, "here")
seen.say(seen.tree("here"))
