import os

import seen
from huggingface_hub import HfApi, HfFileSystem, hf_hub_download

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
if os.environ["STATE"] == "cold":  # the ranges alone leave most of it at the hub
    hf_hub_download(repo, "model.safetensors")
seen.say(result)
