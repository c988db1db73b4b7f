import os
import subprocess

import seen

base = os.environ["URL"] + "/" + os.environ["REPO"] + "/resolve/main/"


def curl(*arguments):
    subprocess.run(["curl", "-sSfL", *arguments], check=True)


curl("-o", "whole", base + "model.safetensors")
curl("-o", "range", "-r", "5000000-5000999", base + "model.safetensors")
curl("-o", "last", "-r", "-1000", base + "model.safetensors")
with open("whole", "rb") as whole, open("resumed", "wb") as resumed:
    resumed.write(whole.read(3_000_000))
curl("-o", "resumed", "-C", "-", base + "model.safetensors")
seen.say({name: seen.file(name) for name in ("whole", "range", "last", "resumed")})
