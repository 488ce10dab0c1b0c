"""Settings and objects beside a model, in every protocol. Protocol 0 spells storages as text, which PyTorch itself does not load.

    python truth.py      writes expected.json; needs PyTorch
"""
import os
import sys

folder = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(folder, "../../../Scripts/lib"))
os.chdir(folder)
from report_truth import case, entry, load, refusal, tensors, write

import pickle
import re
import torch
import zipfile
from report_truth import stand_ins


def spelt(name):
    """A zip file of protocol 0."""
    archive = zipfile.ZipFile(name)
    prefix = name[:-3] + "/"

    class Unpickler(stand_ins({}).Unpickler):
        def persistent_load(self, text):
            type_name, key = re.search(r"<class 'torch\.(\w+)'>, '(\w+)'", text).groups()
            data = archive.read(f"{prefix}data/{key}")
            plain = torch.frombuffer(bytearray(data), dtype=getattr(torch, type_name).dtype)
            return torch.storage.TypedStorage(wrap_storage=plain.untyped_storage(), dtype=plain.dtype, _internal=True)

    with archive.open(prefix + "data.pkl") as file:
        return Unpickler(file).load()


cases = []
for name in sorted(os.listdir(".")):
    if name.endswith(".pt"):
        cases.append(case(name, name, tensors(spelt(name) if name.endswith("_p0.pt") else load(name))))
write(folder, cases)
