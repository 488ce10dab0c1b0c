"""Compares what read_cairn.py finds in stores of checkpoints with what is known to be in them.

    python3 check.py Fixtures/cairn/v1 [STORE …]

The first store has expected.json beside it. Every checkpoint of every store must hold the same state. Where the package
safetensors is installed, it opens every rank file too.
"""

import json
import os
import struct
import sys

import read_cairn

try:
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


def open_as_safetensors(checkpoint):
    """Another project's reader must find the same fragments in every file."""
    for file in checkpoint.files:
        with safetensors.safe_open(file.path, framework="numpy") as opened:
            (length,) = struct.unpack("<Q", file.bytes[:8])
            entries = json.loads(file.bytes[8 : 8 + length])
            entries.pop("__metadata__")
            read_cairn.check(set(opened.keys()) == set(entries), f"{file.path}: other names")
            read_cairn.check(opened.metadata()["cairn.version"] == "1", f"{file.path}: other metadata")
            for key, entry in entries.items():
                if entry["dtype"] in ("F4", "BF16"):
                    continue  # numpy has no such type
                begin, end = entry["data_offsets"]
                stored = file.bytes[file.data_start + begin : file.data_start + end]
                read_cairn.check(opened.get_tensor(key).tobytes() == stored, f"{file.path}: {key} differs")


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


def main(stores):
    check_crc32c()
    with open(os.path.join(os.path.dirname(stores[0]), "expected.json"), encoding="utf-8") as file:
        expected = json.load(file)
    for store in stores:
        for folder in checkpoints(store):
            checkpoint = compare(folder, expected)
            if safetensors is not None:
                open_as_safetensors(checkpoint)
    check_refusals(checkpoints(stores[0])[0])
    print("OK: the independent reader agrees on every checkpoint and refuses damage")
    print(f"    safetensors {safetensors.__version__} opens the rank files too" if safetensors
          else "    not checked with the package safetensors, which is not installed")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except read_cairn.Refused as error:
        sys.exit(f"error: {error}")
