"""A value of every kind beside a tensor: containers and their subclasses, objects, types, functions, numbers.

    python truth.py      writes expected.json; needs PyTorch
"""
import os
import sys

folder = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(folder, "../../../Scripts/lib"))
os.chdir(folder)
from report_truth import case, entry, load, refusal, tensors, write

import torch


class Pair(tuple):
    def __new__(cls, *parts):
        return tuple.__new__(cls, parts)


classes = {
    "mylib.x.AttrDict": dict, "easydict.EasyDict": dict, "mylib.x.MyList": list, "mylib.x.NT": Pair,
    "mylib.x.TensorSub": torch.Tensor,
}
cases = []
for name in sorted(os.listdir(".")):
    if not name.endswith(".pt"):
        continue
    if name == "memfmt.pt":
        # The save failed half way: PyTorch finds no data.pkl either.
        cases.append(refusal("a save that failed", name, ["data.pkl"]))
        continue
    state = load(name, classes)
    # Without elements there is nothing to compare: only what they are is shown.
    for key in [key for key, value in state.items() if name in ("lazy.pt", "meta.pt", "uninit.pt") and key == "x"]:
        del state[key]
    cases.append(case(name, name, tensors(state)))
write(folder, cases)
