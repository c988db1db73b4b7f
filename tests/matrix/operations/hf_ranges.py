import os

import seen
from huggingface_hub import HfApi, HfFileSystem

repo = os.environ["REPO"]
system = HfFileSystem()
with system.open(repo + "/model.safetensors", "rb", block_size=1 << 20) as file:
    file.seek(5_000_000)
    result = {"middle": seen.sha256(file.read(1000)), "ls": sorted(system.ls(repo + "/sub", detail=False))}
if hasattr(HfApi, "get_safetensors_metadata"):  # from 0.20 on
    metadata = HfApi().get_safetensors_metadata(repo)
    result["tensors"] = list(metadata.files_metadata["model.safetensors"].tensors)
else:
    result["tensors"] = "no such call"
seen.say(result)
