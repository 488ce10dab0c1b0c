"""Writes expected.json: a weight in 8-bit floats with the scale of its only block (DeepSeek's weight_scale_inv), read by the
safetensors library. Codes and scales are copied as they are; the mean of codes is no mean of weights, and is refused."""

import hashlib
import json
import os

import torch
from safetensors.torch import load_file

here = os.path.dirname(os.path.abspath(__file__))
NAMES = {torch.float8_e4m3fn: "F8_E4M3", torch.float32: "F32"}
tensors = {
    name: [NAMES[tensor.dtype], list(tensor.shape), hashlib.sha256(tensor.view(torch.uint8).numpy().tobytes()).hexdigest()]
    for name, tensor in load_file(f"{here}/m0/model.safetensors").items()
}
one, other = (load_file(f"{here}/{name}/model.safetensors") for name in ("m0", "m1"))
# What an average of codes would be, and what the weights' is: not the same.
codes = (one["l.weight"].float() + other["l.weight"].float()) / 2 * (one["l.weight_scale_inv"] + other["l.weight_scale_inv"]) / 2
weights = (one["l.weight"].float() * one["l.weight_scale_inv"] + other["l.weight"].float() * other["l.weight_scale_inv"]) / 2
assert not torch.equal(codes, weights)

OUT = ["-o", "{out}/o.safetensors"]
refused = {
    "a conversion of types": ["convert", "{in}/m0", "{out}/o.safetensors", "--to", "safetensors", "--dtype", "BF16"],
    "an average": ["average", "{in}/m0", "{in}/m1", *OUT],
    "a recipe": ["merge", "{in}/r.yml", *OUT],
    "an interpolation": ["interpolate", "{in}/m0", "{in}/m1", "--at", "0.5", *OUT],
    "a comparison": ["diff", "{in}/m0", "{in}/m1"],
}
cases = [
    {"what": what, "run": [command], "exit": 2, "says": ["l.weight", "FP8", "weight_scale_inv"], "absent": ["{out}/o.safetensors"]}
    for what, command in refused.items()
]
cases += [
    {"what": "a copy", "run": [["convert", "{in}/m0", "{out}/o.pt", "--to", "torch"]], "digest": "{out}/o.pt", "tensors": tensors,
     "never_says": ["FP8"]},
    {"what": "what it is", "run": [["inspect", "{in}/m0"]], "prints": ["FP8", "weight_scale_inv"]},
    {"what": "a copy without the scales",
     "run": [["convert", "{in}/m0", "{out}/o.safetensors", "--to", "safetensors", "--exclude", "*_scale_inv"]],
     "says": ["l.weight_scale_inv", "cannot be read"], "digest": "{out}/o.safetensors",
     "tensors": {"l.weight": tensors["l.weight"]}},
]
with open(f"{here}/expected.json", "w") as file:
    json.dump({"cases": cases}, file, indent=1)
    file.write("\n")
