"""Checkpoints with schedulers, enumerations, classes within classes and methods, which older protocols spell with getattr.

    python truth.py      writes expected.json; needs PyTorch
"""
import os
import sys

folder = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(folder, "../../../Scripts/lib"))
os.chdir(folder)
from report_truth import case, entry, load, refusal, tensors, write


class Outer:
    class Inner:
        pass


class Numbers:
    A = "A"


classes = {"mylib.cfg2.Outer": Outer, "mylib.config.E": Numbers}
write(folder, [case(name, name, tensors(load(name, classes))) for name in sorted(os.listdir(".")) if name.endswith(".pt")])
