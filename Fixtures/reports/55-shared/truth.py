"""Python objects that a pickle has once and names many times.

    python truth.py      writes expected.json; needs PyTorch
"""
import os
import sys

folder = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(folder, "../../../Scripts/lib"))
os.chdir(folder)
from report_truth import case, entry, load, refusal, tensors, write

cases = []
for name in sorted(os.listdir(".")):
    if name.endswith(".pt"):
        cases.append(case(name, name, tensors(load(name))))
write(folder, cases)
