"""Models of transformers in files of torch.save: with an index, and one by itself.

    python truth.py      writes expected.json; needs PyTorch
"""
import os
import sys

folder = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(folder, "../../../Scripts/lib"))
os.chdir(folder)
from report_truth import case, entry, load, refusal, tensors, write

import torch
import json

shards = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
whole = {}
for shard in shards:
    whole.update(tensors(load("model/" + shard)))
single = tensors(load("single/pytorch_model.bin"))
base = {name: list(sum) for name, sum in whole.items()}
write(folder, [
    case("a directory with an index", "model", whole),
    case("the index itself", "model/pytorch_model.bin.index.json", whole),
    case("a directory with one file", "single", single),
    {"what": "verified in full", "run": [["verify", "--deep", "{in}/model"]], "prints": ["ok"]},
    {"what": "converted", "run": [["convert", "{in}/model", "{out}/m.safetensors", "--to", "safetensors"]],
     "digest": "{out}/m.safetensors", "tensors": whole},
    {"what": "a recipe's model", "run": [["merge", "--recipe", "{in}/recipe.yaml", "-o", "{out}/m.safetensors"]],
     "digest": "{out}/m.safetensors", "tensors": whole},
    {"what": "an index whose shard is missing", "run": [["digest", "{in}/missing"]], "exit": 2,
     "says": ["pytorch_model-00002-of-00002.bin", "missing"]},
    {"what": "the same verified", "run": [["verify", "{in}/missing"]], "exit": 1},
    {"what": "a shard that is a pointer", "run": [["digest", "{in}/pointer"]], "exit": 2,
     "says": ["pytorch_model-00002-of-00002.bin", "a Git LFS pointer"]},
])
