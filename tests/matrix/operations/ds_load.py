import os

import seen
from datasets import load_dataset

repo = os.environ["REPO"]
seen.say({name: list(load_dataset(repo, data_files="data/rows." + name, split="train")) for name in ("csv", "json", "parquet")})
