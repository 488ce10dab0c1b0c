"""Modules that were saved whole, with classes that are not installed.

    python truth.py      writes expected.json; needs PyTorch
"""
import os
import sys

folder = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(folder, "../../../Scripts/lib"))
os.chdir(folder)
from report_truth import case, entry, load, refusal, tensors, write

import torch

classes = {f"models.{module}.{name}": torch.nn.Module for module, name in [
    ("yolo", "DetectionModel"), ("yolo", "Detect"), ("yolo", "Model"), ("common", "Conv"), ("common", "C3"), ("common", "Bottleneck")]}
cases = []
for name in ("whole.pt", "yolo.pt"):
    values = tensors(load(name, classes))
    cases.append(case(name, name, values, says=["state_dict()"]))
    cases.append({"what": name + " converted", "run": [["convert", "{in}/" + name, "{out}/m.safetensors", "--to", "safetensors"]],
                  "digest": "{out}/m.safetensors", "tensors": values})
write(folder, cases)
