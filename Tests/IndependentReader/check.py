"""Compares what read_cairn.py finds in stores of checkpoints with what is known to be in them.

    python3 check.py Fixtures/cairn/v1 [STORE …]

    python3 check.py --packages …

The first store has expected.json beside it. Every checkpoint of every store must hold the same state. Where the packages
safetensors and numpy are installed, safetensors opens every rank file too, and files that Cairn wrote for it from such a
checkpoint (`safetensors` folders beside the checkpoints of a store). With --packages it is an error if they are not, or if
there is no zstd decoder.
"""

import glob
import hashlib
import json
import os
import struct
import sys

import read_cairn

try:
    import numpy
    import safetensors
except ImportError:
    safetensors = None


def checkpoints(store):
    names = sorted(name for name in os.listdir(store) if name.startswith("step-"))
    read_cairn.check(names, f"{store} has no checkpoint")
    return [os.path.join(store, name) for name in names]


def canonical(document):
    return json.loads(json.dumps(document))


def same(left, right):
    """Equality that tells 3 from 3.0 and -0.0 from 0.0."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


def compare(folder, expected):
    checkpoint = read_cairn.Checkpoint(folder)
    found = canonical(checkpoint.digest())
    unread = set(found.pop("unread", []))
    wanted = dict(expected["digest"])
    wanted["tensors"] = [tensor for tensor in wanted["tensors"] if tensor["fqn"] not in unread]
    found_text = json.dumps(found, indent=1)
    read_cairn.check(same(found, wanted), f"{folder}: the digest differs from expected.json:\n{found_text}")
    for rank, values in enumerate(expected["ranks"]):
        if len(checkpoint.files) == len(expected["ranks"]):
            of_rank = checkpoint.files[rank].values.items()
            found_values = canonical([leaf for name, value in of_rank for leaf in read_cairn.leaves([name], value)])
            read_cairn.check(same(found_values, values), f"{folder}: the values of rank {rank} differ")
    line = f"{folder}: {len(found['tensors'])} tensors and {len(found['objects'])} values as expected"
    if unread:
        line += f"; NOT CHECKED for lack of a zstd decoder: {', '.join(sorted(unread))}"
    print(line)
    return checkpoint


def tensors_of_package(path):
    """What the package safetensors finds in a file: for each name its dtype, shape and bytes."""
    with open(path, "rb") as file:
        found = dict(safetensors.deserialize(file.read()))
    # The way that most programs take, which maps the file, must agree wherever numpy has the type.
    with safetensors.safe_open(path, framework="numpy") as opened:
        read_cairn.check(set(opened.keys()) == set(found), f"{path}: safe_open lists other names")
        for name, tensor in found.items():
            if tensor["dtype"] in ("BF16", "F4"):
                continue
            array = opened.get_tensor(name)
            read_cairn.check(list(array.shape) == tensor["shape"], f"{path}: safe_open gives {name} another shape")
            read_cairn.check(array.tobytes() == bytes(tensor["data"]), f"{path}: safe_open reads {name} otherwise")
    return found


def open_rank_files(checkpoint):
    """Another project's reader must find the same fragments in every file."""
    for file in checkpoint.files:
        (length,) = struct.unpack("<Q", file.bytes[:8])
        entries = json.loads(file.bytes[8 : 8 + length])
        metadata = entries.pop("__metadata__")
        found = tensors_of_package(file.path)
        read_cairn.check(set(found) == set(entries), f"{file.path}: other names")
        for key, entry in entries.items():
            begin, end = entry["data_offsets"]
            stored = file.bytes[file.data_start + begin : file.data_start + end]
            read_cairn.check(found[key]["dtype"] == entry["dtype"], f"{file.path}: {key} has another dtype")
            read_cairn.check(bytes(found[key]["data"]) == stored, f"{file.path}: {key} differs")
        with safetensors.safe_open(file.path, framework="numpy") as opened:
            read_cairn.check(opened.metadata() == metadata, f"{file.path}: other metadata")


def open_written_files(folder, expected, ties):
    """What Cairn writes for others, as one file or several: every tensor of the state, bit for bit, tied ones once."""
    found = {}
    for path in sorted(glob.glob(os.path.join(folder, "*.safetensors"))):
        for name, tensor in tensors_of_package(path).items():
            read_cairn.check(name not in found, f"{path}: {name} is in another file too")
            found[name] = tensor
    wanted = [tensor for tensor in expected["digest"]["tensors"] if tensor["fqn"] not in ties]
    for tensor in wanted:
        stored = found.pop(tensor["fqn"], None)
        read_cairn.check(stored is not None, f"{folder}: {tensor['fqn']} is missing")
        read_cairn.check(stored["dtype"] == tensor["dtype"], f"{folder}: {tensor['fqn']} has another dtype")
        digest = hashlib.sha256(bytes(stored["data"])).hexdigest()
        read_cairn.check(digest == tensor["sha256"], f"{folder}: {tensor['fqn']} differs")
    read_cairn.check(not found, f"{folder}: unknown tensors {sorted(found)}")
    print(f"{folder}: {len(wanted)} tensors as expected")


def check_refusals(folder):
    """A reader that accepts anything proves nothing: damage must be refused."""
    import shutil
    import tempfile

    for name in ["manifest.json", "rank-00000.safetensors", "rank-00002.safetensors"]:
        with tempfile.TemporaryDirectory() as copy:
            target = os.path.join(copy, "checkpoint")
            shutil.copytree(folder, target)
            path = os.path.join(target, name)
            with open(path, "rb") as file:
                data = bytearray(file.read())
            data[-1 if name != "manifest.json" else len(data) // 2] ^= 1
            with open(path, "wb") as file:
                file.write(data)
            try:
                read_cairn.Checkpoint(target).digest()
            except read_cairn.Refused:
                continue
            raise read_cairn.Refused(f"a flipped bit of {name} went unnoticed")


def check_crc32c():
    read_cairn.check(read_cairn.crc32c(b"123456789") == 0xE3069283, "CRC-32C is computed wrongly")
    read_cairn.check(read_cairn.crc32c(bytes(32)) == 0x8A9136AA, "CRC-32C is computed wrongly")


def main(stores, needs_packages):
    check_crc32c()
    if needs_packages:
        read_cairn.check(safetensors is not None, "the packages safetensors and numpy are not installed")
        read_cairn.check(read_cairn.zstd_decompress is not None, "there is no zstd decoder")
    with open(os.path.join(os.path.dirname(stores[0]), "expected.json"), encoding="utf-8") as file:
        expected = json.load(file)
    rank_files, written = 0, 0
    for store in stores:
        for folder in checkpoints(store):
            checkpoint = compare(folder, expected)
            if safetensors is not None:
                open_rank_files(checkpoint)
                rank_files += len(checkpoint.files)
        for folder in sorted(glob.glob(os.path.join(store, "safetensors*"))) if safetensors is not None else []:
            open_written_files(folder, expected, checkpoint.ties)
            written += 1
    check_refusals(checkpoints(stores[0])[0])
    print("OK: the independent reader agrees on every checkpoint and refuses damage")
    if safetensors is not None:
        read_cairn.check(not needs_packages or written > 0, "nothing that was written for safetensors is there")
        print(f"    safetensors {safetensors.__version__} reads all {rank_files} rank files and {written} conversions alike")
    else:
        print("    NOT CHECKED with the package safetensors, which is not installed")


if __name__ == "__main__":
    try:
        main([store for store in sys.argv[1:] if store != "--packages"], "--packages" in sys.argv[1:])
    except read_cairn.Refused as error:
        sys.exit(f"error: {error}")
