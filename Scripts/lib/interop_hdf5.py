"""Checks that h5py, Keras and NumPy load what `cairn convert` writes, and that `cairn digest` sees what they wrote.

Usage: interop_hdf5.py CAIRN [--rounds N] [--seed S]      (Python with h5py, numpy, ml_dtypes, keras and torch)
Prints a line for each check; exits with 1 when one fails. Random files are made from the seed, which is printed.
"""
import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import h5py
import ml_dtypes
import numpy as np

NAMES = {
    "bool": "BOOL", "int8": "I8", "uint8": "U8", "int16": "I16", "uint16": "U16", "int32": "I32", "uint32": "U32",
    "int64": "I64", "uint64": "U64", "float16": "F16", "float32": "F32", "float64": "F64", "complex64": "C64",
    "complex128": "C128", "bfloat16": "BF16",
}
failures = 0


def check(name, problems):
    global failures
    print(("ok      " if not problems else "FAILED  ") + name + ("" if not problems else ": " + str(problems[:4])), flush=True)
    failures += bool(problems)


def cairn(*arguments):
    run = subprocess.run([options.cairn, *arguments], capture_output=True, text=True)
    if run.returncode != 0:
        raise RuntimeError(f"cairn {' '.join(arguments)}: {run.stderr.strip()}")
    return run.stdout


def digest(path):
    document = json.loads(cairn("digest", path, "--json"))
    return {tensor["fqn"]: tensor for tensor in document["tensors"]}, document["objects"]


def record(array):
    """What a digest says of an array."""
    array = np.asarray(array)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return NAMES[array.dtype.name], list(array.shape), hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def compare(found, expected):
    problems = [f"{name}: {found.get(name)} instead of {what}" for name, what in expected.items()
                if name not in found or (found[name]["dtype"], found[name]["shape"], found[name]["sha256"]) != what]
    return problems + [f"{name} is not in the source" for name in found if name not in expected]


def same(one, other):
    one, other = np.asarray(one), np.asarray(other)
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


# ---- files of h5py, read by cairn

def random_array(rng, shape, dtype):
    if dtype == "bool":
        return rng.random(shape) > 0.5
    if np.dtype(dtype).kind in "iu":
        return rng.integers(0, 100, shape).astype(dtype)
    if np.dtype(dtype).kind == "c":
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)
    return (rng.standard_normal(shape) * 50).astype(dtype)


def random_file(rng, path):
    """A file with datasets of random shapes, types, layouts, filters and limits, some of them written in part."""
    libver = [None, "latest", ("v108", "v110"), ("v112", "v112"), ("v110", "v110")][rng.integers(5)]
    options = {} if libver is None else {"libver": libver}
    if rng.random() < 0.3:
        options["userblock_size"] = int(512 << rng.integers(0, 3))
    elif rng.random() < 0.2:
        options.update(fs_strategy="page", fs_page_size=4096)
    expected = {}
    with h5py.File(path, "w", **options) as file:
        for number in range(12):
            shape = tuple(int(extent) for extent in rng.integers(1, 40, rng.integers(1, 4)))
            dtype = ["f4", "f8", "f2", ">f4", ">i8", "i4", "i2", "u1", "u8", "bool", "c8", "c16", ">c8"][rng.integers(13)]
            data = random_array(rng, shape, dtype)
            keywords = {}
            if rng.random() < 0.8:
                keywords["chunks"] = tuple(int(rng.integers(1, extent + 1)) for extent in shape)
                if rng.random() < 0.3:
                    # Many chunks: index blocks on several levels and in pages.
                    shape = (int(rng.integers(500, 6000)),)
                    data = random_array(rng, shape, dtype)
                    keywords["chunks"] = (int(rng.integers(1, 4)),)
                limits = rng.integers(3, size=len(shape))
                keywords["maxshape"] = tuple(
                    None if limit == 0 else extent * 3 if limit == 1 else extent for limit, extent in zip(limits, shape))
                if rng.random() < 0.6:
                    choice = ["gzip", "lzf", None][rng.integers(3)]
                    if choice:
                        keywords["compression"] = choice
                    keywords["shuffle"] = bool(rng.random() < 0.5)
                    keywords["fletcher32"] = bool(rng.random() < 0.5)
                elif np.dtype(dtype).kind in "iu":
                    keywords["scaleoffset"] = 0
            if rng.random() < 0.3 and np.dtype(dtype).kind in "iuf":
                keywords["fillvalue"] = 7
            name = f"g{number % 3}/d{number}"
            if rng.random() < 0.25:
                dataset = file.create_dataset(name, shape=shape, dtype=data.dtype, **keywords)
                part = tuple(slice(0, max(1, extent // 2)) for extent in shape)
                if rng.random() < 0.7:
                    dataset[part] = data[part]
            else:
                dataset = file.create_dataset(name, data=data, **keywords)
            expected[name] = record(dataset[()])
    return expected, str(options)


def check_random_files(folder, seed, rounds):
    print(f"seed {seed}")
    for number in range(rounds):
        rng = np.random.default_rng(seed + number)
        path = os.path.join(folder, "random.h5")
        expected, described = random_file(rng, path)
        try:
            found, _ = digest(path)
            problems = compare(found, expected)
        except Exception as error:
            problems = [error]
        check(f"h5py file {number} {described}", problems)
        if problems:
            os.rename(path, os.path.join(folder, f"failed-{number}.h5"))


# ---- what cairn writes, read by its peers

def check_numpy(folder, rng):
    arrays = {f"t/{dtype.strip('<>')}": random_array(rng, (5, 3), dtype) for dtype in
              ["f4", "f8", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "bool", "c8", "c16"]}
    arrays["empty"] = np.zeros((0, 4), "f4")
    arrays["fortran"] = np.asfortranarray(rng.standard_normal((7, 9)))
    arrays["big"] = np.arange(11, dtype=">i4")
    arrays["ünï.x"] = np.arange(3)
    source, target = os.path.join(folder, "a.npz"), os.path.join(folder, "b.npz")
    for write in (np.savez, np.savez_compressed):
        write(source, **arrays)
        expected = {name: record(array) for name, array in arrays.items()}
        check(f"{write.__name__} read", compare(digest(source)[0], expected))
        cairn("convert", source, target, "--to", "npz", "--force")
        with np.load(target) as loaded:
            plain = {name: array.astype(array.dtype.newbyteorder("<")) for name, array in arrays.items()}
            check(f"npz of {write.__name__} loaded by NumPy",
                  [name for name in plain if not same(loaded[name], plain[name])] + [n for n in loaded if n not in plain])
    single = os.path.join(folder, "one.npy")
    cairn("convert", source, single, "--to", "npy", "--include", "fortran", "--force")
    check("npy loaded and mapped by NumPy", [] if same(np.load(single), arrays["fortran"])
          and same(np.load(single, mmap_mode="r"), arrays["fortran"]) else ["differs"])
    hdf5 = os.path.join(folder, "n.h5")
    cairn("convert", source, hdf5, "--to", "hdf5", "--force")
    with h5py.File(hdf5) as file:
        check("hdf5 loaded by h5py", [name for name, array in plain.items() if not same(file[name][()], array)])
    with h5py.File(hdf5, "a") as file:
        file["added/later"] = np.arange(4)
    check("hdf5 extended by h5py", compare(digest(hdf5)[0], expected | {"added/later": record(np.arange(4))}))


def check_values(folder):
    """Values written by cairn as h5py and NumPy see them."""
    source, hdf5, npz = (os.path.join(folder, name) for name in ("v.h5", "w.h5", "w.npz"))
    with h5py.File(source, "w") as file:
        file["w"] = np.ones(3, "f4")
        file["alias"] = file["w"]
        group = file.create_group("state")
        group.attrs.update({"step": 5, "lr": 0.25, "name": "ünï", "on": True, "betas": [0.9, 0.999],
                            "names": ["a", "b"], "none": h5py.Empty("i8"), "long": np.arange(5000)})
    before = digest(source)
    for target, kind in ((hdf5, "hdf5"), (npz, "npz")):
        cairn("convert", source, target, "--to", kind, "--force")
        check(f"values through {kind}", [] if digest(target) == before else ["the digest differs"])
    with h5py.File(hdf5) as file:
        attributes = file["state"].attrs
        wrong = [name for name, value in {"step": 5, "lr": 0.25, "name": "ünï", "on": True}.items()
                 if attributes[name] != value]
        wrong += [] if list(attributes["names"]) == ["a", "b"] and len(attributes["long"]) == 5000 else ["arrays"]
        wrong += [] if isinstance(attributes["none"], h5py.Empty) else ["none"]
        wrong += [] if file["alias"] == file["w"] else ["alias"]
        check("values loaded by h5py", wrong)
    with np.load(npz) as loaded:
        check("values loaded by NumPy", [] if loaded["state/step"] == 5 and loaded["state/name"] == "ünï"
              and loaded["state/betas"].tolist() == [0.9, 0.999] else ["differ"])


def check_bfloat16(folder, rng):
    source, target, npz = (os.path.join(folder, name) for name in ("bf.h5", "bg.h5", "bg.npz"))
    array = rng.standard_normal((6, 5)).astype(ml_dtypes.bfloat16)
    with h5py.File(source, "w") as file:
        file.create_dataset("w", data=array.view("V2")).attrs["dtype"] = "bfloat16"
    check("bfloat16 read", compare(digest(source)[0], {"w": record(array)}))
    cairn("convert", source, target, "--to", "hdf5", "--force")
    with h5py.File(target) as file:
        good = file["w"].attrs["dtype"] == "bfloat16" and same(file["w"][()].view(ml_dtypes.bfloat16), array)
    check("bfloat16 loaded by h5py", [] if good else ["differs"])
    cairn("convert", source, npz, "--to", "npz", "--force")
    with np.load(npz) as loaded:
        check("bfloat16 loaded by NumPy", [] if same(loaded["w"].view(ml_dtypes.bfloat16), array) else ["differs"])


def check_keras(folder, rng):
    import keras
    import torch

    def build(policy):
        keras.config.set_dtype_policy(policy)
        inputs = keras.Input((8,), dtype="int32")
        x = keras.layers.Embedding(50, 16)(inputs)
        x = x + keras.layers.MultiHeadAttention(2, 8)(x, x)
        x = keras.layers.LayerNormalization()(x)
        x = keras.layers.Dense(32, activation="gelu")(x)
        x = keras.layers.BatchNormalization()(x)
        model = keras.Model(inputs, keras.layers.Dense(50)(x))
        model.compile(optimizer="adamw", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    def bits(model):
        # The optimizer's moments and counters are loaded too.
        variables = [variable.value.detach().cpu() for variable in model.variables + model.optimizer.variables]
        return [tensor.view({2: torch.int16, 4: torch.int32}[tensor.element_size()]).numpy().tobytes() for tensor in variables]

    def loaded(path, policy, seed):
        keras.utils.set_random_seed(seed)
        model = build(policy)
        model.optimizer.build(model.trainable_variables)
        model.load_weights(path)
        return model

    for policy in ("float32", "bfloat16", "mixed_bfloat16"):
        keras.utils.set_random_seed(1)
        model = build(policy)
        tokens = rng.integers(0, 50, (8, 8)).astype("int32")
        model.fit(tokens, tokens, epochs=1, verbose=0)
        for name in ("m.keras", "m.weights.h5"):
            path, target = os.path.join(folder, name), os.path.join(folder, "converted.weights.h5")
            model.save(path) if name == "m.keras" else model.save_weights(path)
            cairn("convert", path, target, "--to", "keras-weights", "--force")
            check(f"digest of {name} kept ({policy})", [] if digest(path) == digest(target) else ["differs"])
            check(f"{name} converted and loaded by Keras ({policy})",
                  [] if bits(loaded(target, policy, 2)) == bits(model) else ["weights differ"])
            # By way of a format that knows nothing of Keras.
            middle = os.path.join(folder, "m.safetensors")
            cairn("convert", path, middle, "--to", "safetensors", "--force")
            cairn("convert", middle, target, "--to", "keras-weights", "--force")
            check(f"{name} by way of safetensors ({policy})",
                  [] if bits(loaded(target, policy, 3)) == bits(model) else ["weights differ"])
    keras.config.set_dtype_policy("float32")


parser = argparse.ArgumentParser()
parser.add_argument("cairn")
parser.add_argument("--rounds", type=int, default=20)
parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
options = parser.parse_args()
folder = tempfile.mkdtemp(prefix="cairn-interop-")
generator = np.random.default_rng(options.seed)
check_random_files(folder, options.seed, options.rounds)
check_numpy(folder, generator)
check_values(folder)
check_bfloat16(folder, generator)
check_keras(folder, generator)
if failures:
    print(f"{failures} checks failed; the files are in {folder}")
    sys.exit(1)
import shutil
shutil.rmtree(folder)
print("all checks passed")
