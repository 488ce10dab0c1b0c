"""Takes the prefixes of wrappers off names with PyTorch, and writes expected.json: python truth.py, with torch."""
import hashlib, json, os

import torch

os.chdir(os.path.dirname(os.path.abspath(__file__)))
state = torch.load("ck.pt", weights_only=True)


def entries(rename):
    found = {}
    for name, tensor in state["model"].items():
        found[rename("model." + name)] = ["F32", list(tensor.shape), hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()]
    return found


def compiled(name):
    return name.replace("_orig_mod.", "")


def bare(name):
    return compiled(name).replace("module.", "").removeprefix("model.")


target = "{out}/m.safetensors"
convert = ["convert", "{in}/ck.pt", target, "--to", "safetensors"]
cases = [
    {"what": "names are kept as they are", "digest": "{in}/ck.pt", "tensors": entries(str), "objects": [[["step"], state["step"]]]},
    {"what": "torch.compile's prefix wherever it stands", "run": [convert + ["--rename", "*_orig_mod.*=$1$2"]], "digest": target,
     "tensors": entries(compiled), "objects": [[["step"], state["step"]]]},
    {"what": "all prefixes, whatever their order",
     "run": [convert + ["--rename", "model._orig_mod.module.*=$1", "--rename", "model.module._orig_mod.*=$1", "--rename",
                        "model._orig_mod.*=$1"]], "digest": target, "tensors": entries(bare)},
    {"what": "a rule that fits nothing is a mistake", "run": [convert + ["--rename", "_orig_mod.*=$1"]], "exit": 2,
     "says": ["a pattern fits no name"], "absent": [target]},
    {"what": "two names that would become one", "run": [convert + ["--rename", "model.*=w"]], "exit": 2,
     "says": ["would both be named"], "absent": [target]},
]
for name, rename in (("o.safetensors", bare), ("o2.safetensors", compiled)):
    cases.append({"what": name, "digest": "{in}/" + name, "tensors": entries(rename)})
with open("expected.json", "w") as file:
    json.dump({"cases": cases}, file, indent=1)
    file.write("\n")
