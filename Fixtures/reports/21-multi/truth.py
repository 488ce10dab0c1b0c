"""Several saves in one file, and bytes behind a save.

    python truth.py      writes expected.json; needs PyTorch
"""
import os
import sys

folder = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(folder, "../../../Scripts/lib"))
os.chdir(folder)
from report_truth import case, entry, load, refusal, tensors, write

import pickle
import torch
import zipfile

cases = []


def add(name, states):
    for number, state in enumerate(states, 1):
        says = [f"{len(states)} saves", "--part"]
        cases.append(case(f"{name}, part {number}", name, tensors(state), ["--part", str(number)], says))
    cases.append(case(f"{name}, the first", name, tensors(states[0]), says=[f"{len(states)} saves", "--part"]))
    cases.append({"what": f"{name}, one too many", "run": [["digest", "{in}/" + name, "--part", str(len(states) + 1)]],
                  "exit": 2, "says": [f"part 1 to {len(states)}"]})


def each(name, read):
    states = []
    with open(name, "rb") as file:
        while file.tell() < os.path.getsize(name):
            states.append(read(file))
    return states


add("legacy3.pt", each("legacy3.pt", lambda file: torch.load(file, weights_only=False)))
add("pickles.pkl", each("pickles.pkl", pickle.load))
data = open("zip2.pt", "rb").read()
second = data.index(b"PK\x03\x04", data.index(b"PK\x05\x06"))
import io
add("zip2.pt", [torch.load(io.BytesIO(data[:second])), torch.load(io.BytesIO(data[second:]))])
for name in ("trail.pt", "trail_legacy.pt"):
    cases.append(case(name, name, tensors(load(name)), says=["are no save and are not read"]))
write(folder, cases)
