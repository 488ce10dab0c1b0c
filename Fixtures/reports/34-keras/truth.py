"""Writes expected.json from what h5py reads of Keras's files beside it. Needs h5py, numpy and ml_dtypes.

`python truth.py --make` makes the int4 model first, with Keras 3.15.
"""
import hashlib
import io
import json
import os
import sys
import zipfile

import h5py
import numpy as np

os.chdir(os.path.dirname(os.path.abspath(__file__)))
NAMES = {"float32": "F32", "int32": "I32", "int8": "I8", "int64": "I64"}

if "--make" in sys.argv:
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,), dtype="int32"), keras.layers.Embedding(16, 8), keras.layers.Dense(6)])
    model.quantize("int4")
    model.save_weights("int4.weights.h5")


def record(dataset):
    array = dataset[()]
    name = NAMES.get(array.dtype.name)
    if array.dtype.kind == "V" and array.dtype.itemsize == 2:
        # Keras has one type of two bytes that HDF5 lacks.
        name = "BF16"
    return [name, list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]


def tensors(file):
    found = {}
    with h5py.File(file) as opened:
        opened.visititems(
            lambda name, item: found.update({name: record(item)}) if isinstance(item, h5py.Dataset) else None)
    return found


def weights(name):
    if name.endswith(".keras"):
        with zipfile.ZipFile(name) as archive:
            return tensors(io.BytesIO(archive.read("model.weights.h5")))
    return tensors(name)


cases = []
for name in sorted(os.listdir(".")):
    if not name.endswith((".keras", ".h5")):
        continue
    expected = weights(name)
    cases.append({"what": f"{name} as h5py reads it", "digest": "{in}/" + name, "tensors": expected})
    cases.append({"what": f"{name} by way of HDF5", "run": [["convert", "{in}/" + name, "{out}/o.h5", "--to", "hdf5"]],
                  "digest": "{out}/o.h5", "tensors": expected})
    if name in ("int8.keras", "int4.weights.h5"):
        cases.append({
            "what": f"{name}: the kernels of quantised layers are no weights by themselves, and stay what they are",
            "run": [["convert", "{in}/" + name, "{out}/o.safetensors", "--to", "safetensors", "--dtype", "f32"]],
            "says": ["integers of quantised layers of Keras", "scales beside them"],
            "digest": "{out}/o.safetensors", "tensors": expected})
cases.append({"what": "sharded weights", "digest": "{in}/s.weights.json", "tensors": weights("s_00000.weights.h5")})
cases.append({"what": "weights that Keras loads", "run": [
    ["convert", "{in}/m.keras", "{out}/o.weights.h5", "--to", "keras-weights"]], "digest": "{out}/o.weights.h5",
    "tensors": weights("m.keras")})
cases.append({"what": "the old .h5 has names that are none of Keras's weights", "run": [
    ["convert", "{in}/m.h5", "{out}/o.weights.h5", "--to", "keras-weights"]], "exit": 2,
    "says": ["m", "Keras finds variables by other names", "rename them"], "absent": ["{out}/o.weights.h5"]})
with open("expected.json", "w") as file:
    json.dump({"cases": cases}, file, indent=1)
    file.write("\n")
print(len(cases), "cases")
