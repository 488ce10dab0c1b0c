"""Tensors whose strides are not in the order of their dimensions.

    python truth.py      writes expected.json; needs PyTorch
"""
import os
import sys

folder = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(folder, "../../../Scripts/lib"))
os.chdir(folder)
from report_truth import case, entry, load, refusal, tensors, write

write(folder, [case(name, name, tensors(load(name))) for name in ("cl.pt", "cl.legacy.pt")])
