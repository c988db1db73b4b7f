import os
import sys

import seen
from datasets import load_dataset

repo = os.environ["REPO"]
rows = {}
for name in ("csv", "json", "parquet"):
    rows[name] = list(load_dataset(repo, data_files="data/rows." + name, split="train", streaming=True))
seen.say(rows)
sys.stdout.flush()
os._exit(0)  # the threads that pyarrow reads ahead with now and then abort a Python that ends
