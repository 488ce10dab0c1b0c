"""Writes expected.json: a weight in bitsandbytes' NF4 (codes, absmax, quant_state), read by the safetensors library. Codes and
what lies beside them are copied as they are; a merge of them, and an adapter on top of them, are refused."""

import hashlib
import json
import os

import torch
from safetensors.torch import load_file

here = os.path.dirname(os.path.abspath(__file__))
NAMES = {torch.uint8: "U8", torch.float32: "F32"}
tensors = {
    name: [NAMES[tensor.dtype], list(tensor.shape), hashlib.sha256(tensor.numpy().tobytes()).hexdigest()]
    for name, tensor in load_file(f"{here}/m0/model.safetensors").items()
}
assert "l.weight.quant_state.bitsandbytes__nf4" in tensors

OUT = ["-o", "{out}/o.safetensors"]
refused = {
    "a conversion of types": ["convert", "{in}/m0", "{out}/o.safetensors", "--to", "safetensors", "--dtype", "F16"],
    "an average": ["average", "{in}/m0", "{in}/m1", *OUT],
    "a recipe": ["merge", "{in}/r.yml", *OUT],
    "an adapter on codes": ["merge", "{in}/r2.yml", *OUT],
    "an interpolation": ["interpolate", "{in}/m0", "{in}/m1", "--at", "0.5", *OUT],
    "a comparison": ["diff", "{in}/m0", "{in}/m1"],
}
cases = [
    {"what": what, "run": [command], "exit": 2, "says": ["l.weight", "bitsandbytes NF4"], "absent": ["{out}/o.safetensors"]}
    for what, command in refused.items()
]
cases += [
    {"what": "a copy", "run": [["convert", "{in}/m0", "{out}/o.pt", "--to", "torch"]], "digest": "{out}/o.pt", "tensors": tensors,
     "never_says": ["NF4"]},
    {"what": "what it is", "run": [["inspect", "{in}/m0"]], "prints": ["bitsandbytes NF4"]},
    {"what": "a copy without the scales",
     "run": [["convert", "{in}/m0", "{out}/o.safetensors", "--to", "safetensors", "--exclude", "*.absmax"]],
     "says": ["l.weight.absmax", "cannot be read"]},
]
with open(f"{here}/expected.json", "w") as file:
    json.dump({"cases": cases}, file, indent=1)
    file.write("\n")
