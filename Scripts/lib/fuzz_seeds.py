"""Writes the inputs that a fuzzer begins with: `fuzz_seeds.py TARGET FOLDER`, from Fixtures in the current folder.

Checksums of zip archives are left out, which a reader must accept: behind one that is wrong nothing else would be tried.
"""

import base64
import glob
import hashlib
import io
import json
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


def parity_indexes():
    """Of fixtures, and of files as the target has them."""
    for data in files("cairn/parity/**/parity-*"):
        count = struct.unpack_from("<Q", data, 4096 + 16)[0]
        yield data[4128 : 4128 + count].rstrip()
    segments = lambda count: base64.b64encode(bytes(4 * count)).decode()
    for columns, data, stripes in [
        ([[[0, 0, 3000]], [[1, 0, 900]]], 8, 6),
        ([[[0, 0, 1000]], [[0, 1000, 1000]], [[0, 2000, 1000]], [[1, 0, 900]]], 8, 2),
    ]:
        index = {
            "cairn_parity": 1, "producer": "x", "save_id": None, "block_bytes": 512,
            "files": [{"name": "file-0", "bytes": 3000}, {"name": "file-1", "bytes": 900}, {"name": "file-2", "bytes": 0}],
            "columns": columns, "checksums": {"data": segments(data), "parity": [segments(stripes)] * 2},
        }
        yield json.dumps(index, separators=(",", ":")).encode()


def deltas():
    """A list of tensors, a zero, the changes: of the base that the target has."""
    digest = "0" * 64
    def entry(name, count, what, **more):
        return {"name": name, "dtype": "F32", "shape": [count], "is": what, "sha256": digest, **more}
    def seed(tensors, changes, values={}):
        contents = {
            "schema": "cairn-delta-contents/1", "base": {"source": "base", "step": 1}, "result": {}, "tensors": tensors,
            "removed": [], "base_values": {}, "values": values, "removed_values": [],
        }
        return json.dumps(contents, separators=(",", ":")).encode() + b"\0" + changes
    elements = bytes([3, 0, 0, 0]) + bytes(32)
    table = struct.pack("<III", 32, len(elements), crc32c(elements))
    yield seed([entry("a", 64, "equal"), entry("b", 8, "equal")], b"", {"step": 4})
    yield seed([entry("a", 64, "equal"), entry("b", 8, "new", begin=0, end=len(elements + table), chunks=1)], elements + table)
    some = bytes([1, 1, 0, 0]) + struct.pack("<III", 2, 2, 2) + bytes([1, 3]) + struct.pack("<II", 4, 2)
    table = struct.pack("<III", 32, len(some), crc32c(some))
    yield seed(
        [entry("b", 8, "changed", base_sha256=digest, begin=0, end=len(some + table), chunks=1),
         {"name": "c", "dtype": "F32", "shape": [8], "is": "tied", "to": "b"}], some + table)
    yield elements
    yield some


def group_messages():
    """Messages as FuzzGroup takes them, alone and in a row that protects a save."""
    number = lambda value: struct.pack("<Q", value)
    text = lambda value: number(len(value)) + value.encode()
    job = struct.pack("<I", 1) + text("j")
    step = lambda which, save: job + number(which) + text(save)
    state = lambda count, entries: (
        b"\1" + number(9) + number(count) + b"\1" + number(len(entries))
        + b"".join(step(which, save) + number(modified) + number(size) + bytes([progress])
                   for which, save, modified, size, progress in entries) + number(1) + job)
    descriptor = lambda items, checksums: (
        b"\x22" + number(len(items)) + b"".join(text(key) + number(size) for key, size in items)
        + number(len(checksums)) + b"".join(struct.pack("<I", checksum) for checksum in checksums))
    manifest = b"bb\nrank-1.safetensors 3"
    first = step(1, "aa")
    messages = [
        state(1, []), state(2, [(1, "aa", 5, 25, 0)]), state(3, [(2, "bb", 9, len(manifest), 1)]),
        b"\2" + number(1) + first, b"\3" + job + text("step-") + b"\0" + text(""), b"\4" + job + text("step-00000001/manifest.json"),
        b"\5" + job + text("step-00000001/rank-0.safetensors") + number(5) + number(0) + number(300),
        b"\6" + job + number(1) + text("step-00000001/manifest.json"), b"\7" + first + number(0), b"\7" + first + number(1),
        b"\x08" + first + number(0) + number(64), b"\x09" + first + number(0) + number(0) + number(64),
        b"\x20\1" + number(1) + text("step-00000002/manifest.json") + number(len(manifest)) + number(9),
        b"\x21" + number(len(manifest)) + manifest, descriptor([], []),
        descriptor([("step-00000002/rank-1.safetensors", 3)], [crc32c(b"abc")]), b"\x23", b"\x24", b"\x25",
    ]
    row = lambda *chosen: b"".join(bytes([peer]) + struct.pack("<H", len(data)) + data for peer, data in chosen)
    for message in messages:
        yield row((0, message), (1, message))
    yield row(*((peer, message) for message in messages for peer in (0, 1)))
    empty = descriptor([], [])
    yield row((0, messages[0]), (1, messages[0]), (0, messages[1]), (1, messages[1]), (0, empty), (1, empty), (0, empty), (1, empty))
    yield row((0, messages[0]), (1, messages[0]), (0, messages[2]), (0, messages[13]), (0, messages[15]), (1, empty))


def crc32c(data):
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    register = 0xFFFFFFFF
    for byte in data:
        register = register >> 8 ^ table[(register ^ byte) & 0xFF]
    return register ^ 0xFFFFFFFF


def keeper_messages():
    for message in [
        {"op": "hello", "version": 1, "job": "run", "observer": False, "user": None},
        {"op": "create", "key": "step-00000001/manifest.json", "bytes": 4096},
        {"op": "finish", "writer": 3, "bytes": 4000}, {"op": "discard", "writer": 3}, {"op": "open", "key": "a"},
        {"op": "release", "reader": 7}, {"op": "list", "prefix": "step-", "after": None}, {"op": "delete", "keys": ["a", "b"]},
        {"op": "forget", "job": "run"}, {"op": "status"}, {"reply": "done"},
        {"reply": "created", "writer": 3, "capacity": 4096, "recycled": True}, {"reply": "opened", "reader": 7, "bytes": 12},
        {"reply": "listed", "complete": True, "entries": [["a", 12, 99]]}, {"reply": "status", "status": {"jobs": []}},
        {"reply": "failed", "code": "notFound", "message": "none", "file": "a", "expected": None, "found": None, "advice": None},
    ]:
        yield json.dumps(message, separators=(",", ":")).encode()


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
        case "parity":
            yield from files("cairn/parity/**/parity-*")
            yield from parity_indexes()
        case "delta":
            yield from deltas()
        case "keeper":
            yield from keeper_messages()
        case "group":
            yield from group_messages()
        case _:
            sys.exit("no such target: " + target)


target, folder = sys.argv[1:]
os.makedirs(folder, exist_ok=True)
for seed in seeds(target):
    if len(seed) <= (MOST_HDF5_BYTES if target == "hdf5" else MOST_BYTES):
        seed = without_checksums(seed)
        with open(os.path.join(folder, hashlib.sha256(seed).hexdigest()[:16]), "wb") as file:
            file.write(seed)
