"""Files that were cut short, and files that a download, a broken disk or a wrong name left in a checkpoint's place.

    python truth.py      writes expected.json; needs PyTorch and safetensors
"""
import os
import sys

folder = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(folder, "../../../Scripts/lib"))
os.chdir(folder)
from report_truth import case, entry, load, refusal, tensors, write

import re
from safetensors.torch import load_file

cases = [case("whole", name, tensors(load(name))) for name in ("full.pt", "full.legacy.pt")]
cases.append(case("whole", "full.safetensors", tensors(load_file("full.safetensors"))))
for name in sorted(os.listdir(".")):
    if name.startswith("cut_"):
        cases.append(refusal("could not be read", name, [name]))
        cases.append(refusal("and is damaged", name, ["damaged"], code=1, command="verify"))
for name in ("empty.pt", "zeros.pt"):
    words = ["an empty file"] if name == "empty.pt" else ["nothing but zeros"]
    cases.append(refusal("could not be read", name, words))
    cases.append(refusal("and is damaged", name, ["damaged"], code=1, command="verify"))
for name, words in {
    "html.pt": ["an HTML page"], "html.safetensors": ["an HTML page"], "lfs.bin": ["a Git LFS pointer", "1347683532"],
    "lfs.safetensors": ["a Git LFS pointer", "git lfs pull"], "xml.bin": ["XML", "AccessDenied"],
    "err.pth": ["JSON", "Repository not found"],
}.items():
    if name.startswith("lfs"):
        words = [words[0], re.search("size ([0-9]+)", open(name).read())[1], "git lfs pull"]
    cases.append(refusal("what it is instead", name, words))
    cases.append(refusal("which is no damage", name, words, command="verify"))
cases += [
    case("safetensors under another name", "pt_named.pt", tensors(load_file("pt_named.pt"))),
    case("the same", "pytorch_model.bin", tensors(load_file("pytorch_model.bin"))),
    case("torch.save under another name", "st_named.safetensors", tensors(load("st_named.safetensors"))),
]
write(folder, cases)
