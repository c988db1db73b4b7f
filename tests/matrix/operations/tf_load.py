import os

import seen
from transformers import AutoConfig, AutoTokenizer

repo = os.environ["REPO"]
config = AutoConfig.from_pretrained(repo)
tokenizer = AutoTokenizer.from_pretrained(repo)
seen.say({"type": config.model_type, "layers": config.num_hidden_layers, "ids": tokenizer("hello brave world")["input_ids"]})
