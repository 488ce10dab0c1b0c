"""Writes the inputs that a fuzzer begins with: `fuzz_seeds.py TARGET FOLDER`, from Fixtures in the current folder.

Checksums of zip archives are left out, which a reader must accept: behind one that is wrong nothing else would be tried.
"""

import glob
import hashlib
import io
import os
import struct
import sys
import zipfile

# Longer ones slow the fuzzer down and teach it little; files of HDF5 are never short.
MOST_BYTES = 1 << 15
MOST_HDF5_BYTES = 1 << 17


def files(*patterns):
    for pattern in patterns:
        for path in sorted(glob.glob("Fixtures/" + pattern, recursive=True)):
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    yield file.read()


def members(archive, suffix):
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        for name in file.namelist():
            if name.endswith(suffix):
                try:
                    yield file.read(name)
                except zipfile.BadZipFile:
                    continue


def is_zip(data):
    return data[:4] == b"PK\x03\x04" and zipfile.is_zipfile(io.BytesIO(data))


def without_checksums(data):
    if not is_zip(data):
        return data
    changed = bytearray(data)
    position = struct.unpack_from("<I", data, data.rindex(b"PK\x05\x06") + 16)[0]
    while data[position : position + 4] == b"PK\x01\x02":
        changed[position + 16 : position + 20] = bytes(4)
        position += 46 + sum(struct.unpack_from("<HHH", data, position + 28))
    return bytes(changed)


def reduced(archive):
    """The pickle and the small records of an archive, in a new one."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as file, zipfile.ZipFile(result, "w") as new:
        for entry in file.infolist():
            if entry.file_size > 1 << 12:
                continue
            try:
                data = file.read(entry)
            except zipfile.BadZipFile:
                # Some fixtures are damaged on purpose.
                continue
            new.writestr(zipfile.ZipInfo(entry.filename), data, entry.compress_type)
    return result.getvalue()


def pickles():
    for data in files("torch/**/*", "deepspeed/**/*.pt", "dcp/**/*.distcp", "trainers/**/*"):
        if is_zip(data):
            yield from members(data, "data.pkl")
    yield from files("dcp/**/.metadata", "reshard/**/.metadata", "megatron/**/.metadata")
    for data in files("numpy/object_pickle.npz"):
        for array in members(data, ".npy"):
            yield array[10 + struct.unpack_from("<H", array, 8)[0] :]


def archives():
    for data in files("torch/**/*", "numpy/*.npz", "deepspeed/**/ln_f.bias/*.pt"):
        if is_zip(data):
            yield data
            yield reduced(data)


def seeds(target):
    match target:
        case "pickle":
            yield from pickles()
        case "zip":
            yield from archives()
        case "torch":
            yield from archives()
            yield from files("torch/**/*.pt", "torch/**/*.pth", "torch/**/*.bin", "torch/**/*.pkl")
        case "safetensors":
            yield from files("safetensors/**/*.safetensors", "safetensors/malformed/**/*")
        case "numpy":
            yield from files("numpy/*.npy", "numpy/*.npz")
            for data in files("numpy/*.npz"):
                yield from members(data, ".npy")
                yield reduced(data)
        case "dcp":
            yield from files("dcp/**/.metadata", "reshard/**/.metadata", "megatron/**/.metadata")
        case "manifest":
            # All before the seal, which the target puts back.
            yield from (data[:-32] for data in files("cairn/**/manifest.json"))
        case "rankfile":
            yield from files("cairn/**/rank-*.safetensors")
        case "hdf5":
            yield from files("hdf5/**/*.h5")
        case _:
            sys.exit("no such target: " + target)


target, folder = sys.argv[1:]
os.makedirs(folder, exist_ok=True)
for seed in seeds(target):
    if len(seed) <= (MOST_HDF5_BYTES if target == "hdf5" else MOST_BYTES):
        seed = without_checksums(seed)
        with open(os.path.join(folder, hashlib.sha256(seed).hexdigest()[:16]), "wb") as file:
            file.write(seed)
