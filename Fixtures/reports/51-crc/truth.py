"""Makes files with and without checksums, as PyTorch and NumPy write them, and expected.json: python truth.py, with torch, safetensors.

Of each there is a copy with one bit of data changed. PyTorch reads all of them without a word, and gives other numbers.
"""
import hashlib, json, os, pickle

import numpy
import safetensors.numpy
import torch

os.chdir(os.path.dirname(os.path.abspath(__file__)))
numbers = numpy.arange(64, dtype=numpy.float32) + 0.5
state = {"w": torch.from_numpy(numbers)}


def flip(name):
    with open(name, "rb") as file:
        raw = bytearray(file.read())
    raw[raw.index(numbers.tobytes()) + 100] ^= 1
    stem, extension = os.path.splitext(name)
    with open(stem + "_flip" + extension, "wb") as file:
        file.write(raw)
    return stem + "_flip" + extension


torch.save(state, "zip.pt")
torch.save(state, "legacy.pt", _use_new_zipfile_serialization=False)
torch.serialization.set_crc32_options(False)
torch.save(state, "nocrc.pt")
torch.serialization.set_crc32_options(True)
with torch.serialization.skip_data():
    torch.save(state, "skip.pt")
with open("bare.pkl", "wb") as file:
    pickle.dump({"w": numbers}, file, protocol=2)
numpy.save("w.npy", numbers)
numpy.savez("w.npz", w=numbers)
safetensors.numpy.save_file({"w": numbers}, "w.safetensors")

right = {"w": ["F32", [64], hashlib.sha256(numbers.tobytes()).hexdigest()]}
ALL = "no checksums"
cases = []
for name, is_summed in (("zip.pt", True), ("w.npz", True), ("legacy.pt", False), ("nocrc.pt", False), ("w.npy", False), ("w.safetensors", False)):
    changed = flip(name)
    tensor = {"w": right["w"]} if name != "w.npy" else None
    case = {"what": f"{name}, which {'has' if is_summed else 'has no'} checksums", "run": [["verify", "--deep", "{in}/" + name]],
            "digest": "{in}/" + name, "prints": ["ok", "checksums, data" if is_summed else "(structure, data)"]}
    if tensor:
        case["tensors"] = tensor
    case["never_says" if is_summed else "says"] = [ALL]
    cases.append(case)
    flipped = {"what": changed, "run": [["verify", "--deep", "{in}/" + changed]]}
    if is_summed:
        flipped |= {"exit": 1, "prints": ["damaged", "CRC-32"]}
    else:
        flipped |= {"prints": ["ok (structure, data)"], "says": [ALL, "cannot be noticed"]}
    cases.append(flipped)
    cases.append({"what": f"{name}, its description alone", "run": [["verify", "{in}/" + name]], "prints": ["ok (structure)"]})
for name in ("skip.pt", "bare.pkl"):
    cases.append({"what": name, "run": [["verify", "--deep", "{in}/" + name]], "prints": ["ok (structure, data)"], "says": [ALL]})
with open("expected.json", "w") as file:
    json.dump({"cases": cases}, file, indent=1)
    file.write("\n")
