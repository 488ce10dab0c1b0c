"""Pickles without PyTorch's container, in every protocol, and files of joblib and gzip.

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


def unpickled(name):
    with open(name, "rb") as file:
        return pickle.load(file)


names = ["sd.pkl", "module.pkl"] + [f"np_p{protocol}.pkl" for protocol in range(6)]
cases = [case(name, name, tensors(unpickled(name))) for name in names]
cases += [
    case("checkpoint.pth.tar", "checkpoint.pth.tar", tensors(load("checkpoint.pth.tar"))),
    refusal("joblib", "j.joblib", ["joblib"]), refusal("joblib, compressed", "jz.joblib", ["zlib", "joblib"]),
    refusal("gzip", "sd.pt.gz", ["compressed with gzip"]),
]
write(folder, cases)
