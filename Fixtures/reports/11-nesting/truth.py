"""Keys with dots, integers as keys, lists and tuples, in torch.save and in torch.distributed.checkpoint.

    python truth.py      writes expected.json; needs PyTorch
"""
import os
import sys

folder = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(folder, "../../../Scripts/lib"))
os.chdir(folder)
from report_truth import case, entry, load, refusal, tensors, write

state = load("st.pt")
plain = {}
for key, value in state.items():
    for name, sum in tensors(value, str(key)).items():
        # Where two ways lead to one name, the dots within keys get a backslash.
        if name in plain:
            plain[name.replace(".", "\\.") if isinstance(key, str) and "." in key else name] = sum
            if not (isinstance(key, str) and "." in key):
                plain[name.replace(".", "\\.")] = plain.pop(name) if False else first
        else:
            plain[name] = first = sum
write(folder, [case("torch.save", "st.pt", plain), case("torch.distributed.checkpoint", "dcp", plain)])
