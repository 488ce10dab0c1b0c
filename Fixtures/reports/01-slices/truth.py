"""Slices, columns, steps and single elements of a larger tensor, each saved with all of its storage.

    python truth.py      writes expected.json; needs PyTorch
"""
import os
import sys

folder = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(folder, "../../../Scripts/lib"))
os.chdir(folder)
from report_truth import case, entry, load, refusal, tensors, write

write(folder, [case(name, name, tensors(load(name))) for name in ("slices.pt", "slices.legacy.pt")])
