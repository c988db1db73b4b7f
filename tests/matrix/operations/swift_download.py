"""Its own download path, without the gigabytes that training needs: transformers is only imported there, never used."""

import os
import sys
from unittest.mock import MagicMock

import seen

for name in ("transformers", "transformers.trainer", "transformers.utils", "transformers.integrations"):
    sys.modules[name] = MagicMock()

from swift.hub import get_hub

unwanted = ["*.zip", "*.gguf", "*.pth", "*.pt", "consolidated*", "onnx/*", "*.safetensors.md", "*.msgpack", "*.h5"]
folder = get_hub(use_hf=False).download_model(os.environ["REPO"], None, unwanted)
part = get_hub(use_hf=False).download_model(os.environ["REPO"], "master", [], allow_patterns=["sub/*"], cache_dir="part")
seen.say({"all": seen.tree(folder), "part": seen.tree(part)})
