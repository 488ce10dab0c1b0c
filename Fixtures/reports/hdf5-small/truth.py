"""Writes expected.json from what h5py reads of the files beside it. Needs h5py with HDF5 2.0, and numpy.

`python truth.py --make` makes fill_nine_4mib.h5 first.
"""
import hashlib
import json
import os
import sys

import h5py
import numpy as np

os.chdir(os.path.dirname(os.path.abspath(__file__)))
NAMES = {"float32": "F32", "float64": "F64", "int32": "I32", "int64": "I64", "uint8": "U8", "complex64": "C64"}

if "--make" in sys.argv:
    with h5py.File("fill_nine_4mib.h5", "w") as file:
        file["good"] = np.arange(6, dtype="f4")
        file.create_dataset("x", (1 << 22,), "u1", chunks=(1 << 16,), fillvalue=9, compression="gzip")[5] = 1
        file.create_dataset("y", (3, 2), np.dtype(("<i4", (4, 2))), chunks=(2, 2), fillvalue=None)

# What is left out, and what must be said of it.
LEFT_OUT = {
    "filter_blosc.h5": {"x": "32001 (Blosc)"},
    "floats_other_forms.h5": {"longdouble": "long double", "nbit20": "bits of exponent"},
    "netcdf_dimension.h5": {"nCells": "never written"},
    "one_bad_header.h5": {"bad": "it is damaged"},
    "reference112_dataset.h5": {"r": "references"},
    "sparse_4tb.h5": {"sparse": "never written"},
    "virtual_of_itself.h5": {"v": "virtual"},
    "virtual_v112.h5": {"v": "virtual"},
    "latin1_dataset.h5": {"gr": "no UTF-8"},
    "reference112_attribute.h5": {"the attribute r of /good": "references"},
}


def record(array):
    array = np.ascontiguousarray(array)
    array = array.astype(array.dtype.newbyteorder("<"))
    return [NAMES[array.dtype.name], list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]


def leaves(value):
    """A value as the digest has it."""
    if isinstance(value, np.ndarray) and value.dtype.names is None:
        return [leaf for element in value for leaf in [leaves(element)]]
    if isinstance(value, (np.bool_, bool)):
        return bool(value)
    if isinstance(value, np.generic):
        return value.item()
    return value.decode() if isinstance(value, bytes) else value


cases = []
for name in sorted(os.listdir(".")):
    if not name.endswith(".h5") or name == "cut_short.h5":
        continue
    left_out = LEFT_OUT.get(name, {})
    tensors, objects = {}, []

    def add_values(path, attributes):
        for key in attributes:
            try:
                value = attributes[key]
            except Exception:
                continue
            if isinstance(value, h5py.Empty):
                continue
            value = leaves(value)
            for place, part in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if isinstance(part, complex):
                    objects.append([path + [key, "r"], part.real])
                    objects.append([path + [key, "i"], part.imag])
                else:
                    objects.append([path + [key] + ([] if place is None else [place]), part])

    def walk(group, path):
        add_values(path, group.attrs)
        for key in group:
            try:
                item = group[key]
            except Exception:
                continue
            if isinstance(key, bytes) or not key.isascii():
                continue
            where = path + [key]
            if isinstance(item, h5py.Group):
                walk(item, where)
                continue
            if "/".join(where) in left_out:
                continue
            if item.dtype.kind == "O":
                objects.append([where, leaves(item[()])])
                continue
            array = item[()]
            if item.dtype.names and item.dtype.names != ("r", "i"):
                if array.size <= 4096:
                    for row, element in enumerate(array):
                        objects.extend([where + [row, member], leaves(element[member])] for member in item.dtype.names)
                else:
                    tensors.update({"/".join(where + [member]): record(array[member]) for member in item.dtype.names})
                continue
            tensors["/".join(where)] = record(array)
            if name == "bf16_long_attribute.h5":
                # h5py widens bfloat16.
                bits = (array.view("<u4") >> 16).astype("<u2")
                tensors["/".join(where)] = ["BF16", list(bits.shape), hashlib.sha256(bits.tobytes()).hexdigest()]
            add_values(where, item.attrs)

    with h5py.File(name) as file:
        walk(file, [])
    if name == "values_meet.h5":
        # A link's name is taken: an attribute of that name has @ in front, as often as it takes.
        objects = [[["x"], "text"], [["@x"], "text too"], [["@@x"], 5]]
    case = {"what": f"{name}: all that h5py reads, or said by name", "digest": "{in}/" + name, "tensors": tensors,
            "objects": objects, "digest_says": [word for pair in left_out.items() for word in pair]}
    cases.append(case)
    cases.append({"what": f"{name} is damaged only where it is", "run": [["verify", "--deep", "{in}/" + name]],
                  "exit": 1 if name == "one_bad_header.h5" else 0})

good = {"good": record(np.arange(6, dtype="f4"))}
cases += [
    {"what": "a file that was cut short", "run": [["inspect", "{in}/cut_short.h5"]], "exit": 2,
     "says": ["cut_short.h5", "the file was cut short", "bytes"]},
    {"what": "a file that was cut short is damage", "run": [["verify", "{in}/cut_short.h5"]], "exit": 1},
    {"what": "BF16 stays BF16 beside an attribute longer than 512 bytes",
     "run": [["convert", "{in}/bf16_long_attribute.h5", "{out}/o.h5", "--to", "hdf5"]], "digest": "{out}/o.h5",
     "tensors": next(case["tensors"] for case in cases if "bf16" in case["what"]),
     "objects": next(case["objects"] for case in cases if "bf16" in case["what"])},
    {"what": "all texts of a large header come back",
     "run": [["convert", "{in}/header_over_512_text_v110.h5", "{out}/o.h5", "--to", "hdf5"]], "digest": "{out}/o.h5",
     "tensors": good, "objects": next(case["objects"] for case in cases if "512_text" in case["what"])},
]
with open("expected.json", "w") as file:
    json.dump({"cases": cases}, file, indent=1)
    file.write("\n")
print(len(cases), "cases")
