"""Compares `cairn` with h5py on random files of every form, and on random states that `cairn convert` writes as HDF5.

Usage: interop_hdf5_random.py CAIRN [--files N] [--states N] [--seed S]      (Python with h5py, numpy and torch)

Files: headers and attributes of all sizes, number and rewriting of attributes, types (numbers of both orders, truth values, complex
numbers, enumerations, opaque bytes, bitfields, text, records, arrays in elements, sequences, references), layouts, filters, fill values,
what was never written, links, versions of the format, user blocks. Every array and value that h5py reads must be equal in `digest`, or be
named in what it says on standard error; nothing else may be there.

States: nested dictionaries and lists with tensors of every type, saved by PyTorch, converted to HDF5: the digest must be that of the source
but for what `convert` named, and h5py must read the same bytes.

Prints a line for each problem and a count at the end; exits with 1 when there was one. A problem's file is kept.
"""
import argparse
import collections
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile

import h5py
import numpy as np

NAMES = {
    "bool": "BOOL", "int8": "I8", "uint8": "U8", "int16": "I16", "uint16": "U16", "int32": "I32", "uint32": "U32",
    "int64": "I64", "uint64": "U64", "float16": "F16", "float32": "F32", "float64": "F64", "complex64": "C64",
    "complex128": "C128",
}
MOST_RECORDS = 4096
counts = collections.Counter()
failures = 0


def fail(what, problems, path=None):
    global failures
    failures += 1
    print(f"FAILED  {what}: {problems[:4]}", flush=True)
    if path:
        shutil.copy(path, os.path.join(folder, f"failed-{failures}-{os.path.basename(path)}"))


def run(*arguments):
    return subprocess.run([options.cairn, *arguments], capture_output=True, text=True, timeout=300)


def digest(path):
    done = run("digest", path, "--json")
    if done.returncode != 0:
        raise RuntimeError(f"digest ended with {done.returncode}: {done.stderr.strip()[:500]}")
    document = json.loads(done.stdout)
    tensors = {tensor["fqn"]: (tensor["dtype"], tensor["shape"], tensor["sha256"]) for tensor in document["tensors"]}
    return tensors, {json.dumps(leaf["path"]): leaf["value"] for leaf in document["objects"]}, done.stderr


def record(array):
    array = np.array(array, order="C")
    if array.dtype.kind == "V":
        array = np.frombuffer(array.tobytes(), "u1").reshape(array.shape + (array.dtype.itemsize,))
    array = array.astype(array.dtype.newbyteorder("<"))
    return NAMES[array.dtype.name], list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()


def key(text):
    """A step of a path as the digest spells it."""
    return int(text) if text.lstrip("-").isdigit() and str(int(text)) == text and abs(int(text)) < 1 << 63 else text


def plain(value):
    """A value in the terms of the digest: nested lists and dictionaries of numbers and text; bytes stay bytes."""
    if isinstance(value, h5py.Empty):
        return None
    if isinstance(value, np.ndarray) and value.dtype.kind == "V" and value.dtype.names is None:
        return plain_list(value, lambda element: bytes(element.tobytes()))
    if isinstance(value, np.ndarray):
        return plain_list(value, plain)
    if isinstance(value, np.void):
        if value.dtype.names:
            return {name: plain(value[name]) for name in value.dtype.names}
        return value.tobytes()
    if isinstance(value, (complex, np.complexfloating)):
        return {"r": float(value.real), "i": float(value.imag)}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    return value


def plain_list(array, convert):
    if array.ndim == 0:
        return convert(array[()])
    if array.size == 0:
        return []
    return [plain_list(part, convert) if isinstance(part, np.ndarray) else convert(part) for part in array]


def leaves(value, path):
    if isinstance(value, dict):
        for name, part in value.items():
            yield from leaves(part, path + [key(name)])
    elif isinstance(value, list):
        for place, part in enumerate(value):
            yield from leaves(part, path + [place])
    else:
        yield path, value


def same(found, expected):
    if isinstance(expected, bytes):
        return isinstance(found, (dict, str))
    if isinstance(expected, float):
        if isinstance(found, str):
            found = float({"inf": "inf", "-inf": "-inf", "nan": "nan"}.get(found.lower(), "0"))
        return isinstance(found, (int, float)) and (found == expected or math.isnan(expected) and math.isnan(found))
    return type(found) is type(expected) and found == expected


# ---- random files

def random_name(rng, long=True):
    choice = rng.integers(12)
    if choice == 0:
        return "".join(rng.choice(list("aé漢 .@'\"\\%&#[]{}:;,~😀"), rng.integers(1, 12)))
    if choice == 1 and long:
        return "n" * int(rng.integers(60, 400)) + str(rng.integers(1000))
    if choice == 2:
        return str(rng.integers(0, 12))
    return "abcdefgh"[rng.integers(8)] + str(rng.integers(0, 500))


NUMBERS = ["f2", "f4", "f8", ">f2", ">f4", ">f8", "i1", "u1"] + [o + k + w for o in "<>" for k in "iu" for w in "248"]


def random_numbers(rng, shape, dtype):
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) > 0.5
    if dtype.kind == "c":
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)
    if dtype.kind == "f":
        return (rng.standard_normal(shape) * 50).astype(dtype)
    return rng.integers(0, 100, shape).astype(dtype)


def random_dtype(rng, depth=0):
    choice = rng.integers(16 if depth == 0 else 8)
    if choice < 5:
        return np.dtype(NUMBERS[rng.integers(len(NUMBERS))])
    if choice == 5:
        return np.dtype("bool")
    if choice == 6:
        return np.dtype(["c8", "c16", ">c8", ">c16"][rng.integers(4)])
    if choice == 7:
        return np.dtype(f"S{rng.integers(1, 30)}")
    if choice == 8:
        return np.dtype((NUMBERS[rng.integers(len(NUMBERS))], tuple(int(n) for n in rng.integers(1, 5, rng.integers(1, 3)))))
    if choice in (9, 10):
        members = {}
        for _ in range(rng.integers(1, 25)):
            inner = random_dtype(rng, 1) if rng.random() < 0.8 or depth else np.dtype([("p", "f4"), ("q", "<i2", (3,))])
            members["m" * int(rng.integers(1, 30)) + str(len(members))] = inner
        return np.dtype(list(members.items()))
    if choice == 11:
        return h5py.enum_dtype({"LOW": 1, "HIGH": 7, "a name that is longer": 3}, basetype=["i1", "<i4", ">u2"][rng.integers(3)])
    if choice == 12:
        return np.dtype(f"V{rng.integers(1, 20)}")
    if choice == 13:
        return h5py.string_dtype()
    if choice == 14:
        return h5py.vlen_dtype(np.dtype("f4"))
    return h5py.ref_dtype


def is_sequence(dtype):
    return h5py.check_vlen_dtype(dtype) is not None and not h5py.check_string_dtype(dtype)


def random_data(rng, shape, dtype, file):
    if h5py.check_string_dtype(dtype) and dtype.kind == "O":
        return np.array([["", "text", "ünï " * 9, "x" * 300][rng.integers(4)] for _ in range(math.prod(shape))], dtype).reshape(shape)
    if is_sequence(dtype):
        data = np.empty(math.prod(shape), dtype)
        for place in range(data.size):
            data[place] = np.arange(rng.integers(0, 5), dtype="f4")
        return data.reshape(shape)
    if h5py.check_ref_dtype(dtype):
        data = np.empty(math.prod(shape), dtype)
        data[...] = file.ref
        return data.reshape(shape)
    if h5py.check_enum_dtype(dtype):
        return rng.choice([1, 3, 7], shape).astype(dtype)
    if dtype.names:
        data = np.zeros(shape, dtype)
        for name in dtype.names:
            data[name] = random_data(rng, shape, dtype[name], file)
        return data
    if dtype.subdtype:
        return random_numbers(rng, shape + dtype.shape, dtype.base)
    if dtype.kind == "S":
        texts = [b"", b"ab", b"long " * 20]
        return np.array([texts[rng.integers(3)] for _ in range(math.prod(shape))], dtype).reshape(shape)
    if dtype.kind == "V":
        return np.frombuffer(rng.bytes(math.prod(shape) * dtype.itemsize), dtype).reshape(shape)
    return random_numbers(rng, shape, dtype)


def random_attributes(rng, target, file):
    count = int([0, 0, 0, rng.integers(1, 5), rng.integers(5, 12), rng.integers(12, 60)][rng.integers(6)])
    for _ in range(count):
        random_attribute(rng, target, random_name(rng), file)
    names = list(target.attrs)
    # Attributes that are written anew leave gaps where they were.
    for name in names:
        if rng.random() < 0.1:
            random_attribute(rng, target, name, file)
        elif rng.random() < 0.05:
            del target.attrs[name]


def random_attribute(rng, target, name, file):
    choice = rng.integers(10)
    if choice == 0:
        target.attrs[name] = bool(rng.integers(2))
    elif choice == 1:
        target.attrs[name] = "ünï text " * int(rng.integers(0, 9))
    elif choice == 2:
        target.attrs[name] = ["a", "", "text " * int(rng.integers(1, 60))]
    elif choice == 3:
        target.attrs[name] = rng.standard_normal(int(rng.integers(1, 400 if rng.random() < 0.1 else 20)))
    elif choice == 4:
        target.attrs[name] = h5py.Empty("f4")
    elif choice == 5 and file.libver[0] != "earliest" and rng.random() < 0.02:
        target.attrs[name] = np.arange(int(rng.integers(9000, 20000)))
    else:
        dtype = random_dtype(rng)
        shape = tuple(int(extent) for extent in rng.integers(0 if rng.random() < 0.1 else 1, 5, rng.integers(0, 3)))
        full = shape + dtype.shape if dtype.subdtype else shape
        target.attrs.create(name, random_data(rng, shape, dtype, file), full, dtype)


def random_dataset(rng, group, name, file):
    dtype = random_dtype(rng)
    if rng.random() < 0.03:
        group.create_dataset(name, data=h5py.Empty("f4"))
        return
    shape = tuple(int(extent) for extent in rng.integers(0 if rng.random() < 0.1 else 1, 14, rng.integers(0, 4)))
    if dtype.names or dtype.kind in "SO":
        # Each member is a value.
        shape = shape[:1]
    if dtype.names and rng.random() < 0.1:
        shape = (MOST_RECORDS + int(rng.integers(1, 900)),)
    keywords = {}
    if shape and 0 not in shape and rng.random() < 0.6:
        keywords["chunks"] = tuple(int(rng.integers(1, extent + 1)) for extent in shape)
        if math.prod(shape) > 4000:
            keywords["chunks"] = (int(rng.integers(200, 900)),)
        keywords["maxshape"] = tuple(extent if rng.random() < 0.5 else None for extent in shape)
        if rng.random() < 0.6:
            compression = ["gzip", "lzf", None][rng.integers(3)]
            if compression:
                keywords["compression"] = compression
            keywords["shuffle"] = bool(rng.integers(2))
            keywords["fletcher32"] = bool(rng.integers(2)) and dtype.kind != "O"
        elif dtype.kind in "iu" and not dtype.subdtype and not h5py.check_enum_dtype(dtype):
            keywords["scaleoffset"] = 0
        elif dtype.kind == "f" and rng.random() < 0.2 and dtype.itemsize > 2 and not dtype.subdtype:
            keywords["scaleoffset"] = 3
    if rng.random() < 0.3 and dtype.kind in "iuf" and not h5py.check_enum_dtype(dtype) and not dtype.subdtype:
        keywords["fillvalue"] = 7
    elif rng.random() < 0.3 and dtype.kind == "S":
        keywords["fillvalue"] = b"x"
    elif dtype.kind == "O" and h5py.check_string_dtype(dtype) and rng.random() < 0.2:
        keywords["fillvalue"] = "filled"
    written = rng.random()
    if not keywords and shape and 0 not in shape and rng.random() < 0.15 and dtype.kind != "O":
        # Inside of the header.
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_layout(h5py.h5d.COMPACT)
        if math.prod(shape) * dtype.itemsize < 60000:
            h5type = h5py.h5t.py_create(dtype, logical=True)
            id = h5py.h5d.create(group.id, name.encode(), h5type, h5py.h5s.create_simple(shape), properties)
            id.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array(random_data(rng, shape, dtype, file), order="C"), h5type)
            return
    if dtype.kind == "u" and not dtype.subdtype and not keywords and rng.random() < 0.2:
        bits = {1: h5py.h5t.STD_B8LE, 2: h5py.h5t.STD_B16LE, 4: h5py.h5t.STD_B32LE, 8: h5py.h5t.STD_B64LE}[dtype.itemsize]
        space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
        id = h5py.h5d.create(group.id, name.encode(), bits, space)
        data = np.array(random_numbers(rng, shape, dtype.newbyteorder("<")), order="C")
        if data.size:
            id.write(h5py.h5s.ALL, h5py.h5s.ALL, data, bits)
        bitfields[group.name.rstrip("/") + "/" + name] = data
        return
    dataset = group.create_dataset(name, shape, dtype, **keywords)
    if written < 0.7 or not shape:
        if dtype.subdtype and 0 not in shape:
            data = np.array(random_data(rng, shape, dtype, file), order="C")
            dataset.id.write(h5py.h5s.ALL, h5py.h5s.ALL, data, h5py.h5t.py_create(dtype))
        elif is_sequence(dtype):
            for index in np.ndindex(shape):
                dataset[index] = np.arange(rng.integers(0, 5), dtype="f4")
        elif 0 not in shape:
            dataset[()] = random_data(rng, shape, dtype, file)
        return
    if written < 0.9 and 0 not in shape and not dtype.subdtype and not is_sequence(dtype):
        part = tuple(slice(0, max(1, extent // 2)) for extent in shape)
        dataset[part] = random_data(rng, tuple(max(1, extent // 2) for extent in shape), dtype, file)
        if keywords.get("maxshape") and rng.random() < 0.3:
            dataset.resize(tuple(max(1, extent - 1) if limit is None else extent for extent, limit in zip(shape, keywords["maxshape"])))


def random_file(rng, path):
    keywords = {}
    low = ["earliest", "v108", "v110", "v112", "v114", "latest"][rng.integers(6)]
    keywords["libver"] = (low, "latest")
    if rng.random() < 0.2:
        keywords["userblock_size"] = int(512 << rng.integers(0, 3))
    elif rng.random() < 0.15:
        keywords.update(fs_strategy="page", fs_page_size=4096)
    if rng.random() < 0.3:
        keywords["track_order"] = True
    with h5py.File(path, "w", **keywords) as file:
        groups = [file]
        for _ in range(rng.integers(0, 6)):
            parent = groups[rng.integers(len(groups))]
            name = random_name(rng)
            if name not in parent and name != ".":
                groups.append(parent.create_group(name, track_order=bool(rng.integers(2))))
        for _ in range(rng.integers(3, 14) if rng.random() < 0.9 else 70):
            parent = groups[rng.integers(len(groups))]
            name = random_name(rng)
            if name in parent or name == ".":
                continue
            choice = rng.random()
            if choice < 0.04:
                parent[name] = h5py.SoftLink("/nowhere")
            elif choice < 0.08:
                parent[name] = h5py.ExternalLink("other.h5", "/x")
            elif choice < 0.12 and len(parent):
                parent[name] = h5py.SoftLink(parent.name.rstrip("/") + "/" + list(parent)[0])
            elif choice < 0.15 and len(parent):
                target = parent.get(list(parent)[0], getlink=True)
                if isinstance(target, h5py.HardLink) and isinstance(parent[list(parent)[0]], h5py.Dataset):
                    parent[name] = parent[list(parent)[0]]
            else:
                random_dataset(rng, parent, name, file)
                if isinstance(parent.get(name, getlink=True), h5py.HardLink):
                    random_attributes(rng, parent[name], file)
        for group in groups:
            random_attributes(rng, group, file)
    return str(keywords)


def expectation(path):
    """The arrays and values of a file as h5py reads them; each with the words by which it may be left out."""
    tensors, values, aliases, unreadable = {}, [], {}, set()
    addresses, groups = {}, set()

    def add_values(target, where, names, text=None):
        used = set(names)
        for name in sorted(target.attrs, key=lambda text: text.encode()):
            shown = name
            if text is None:
                while shown in used:
                    shown = "@" + shown
                used.add(shown)
                place = where + [shown]
            else:
                place = where[:-1] + [text + "@" + name]
            try:
                value = target.attrs[name]
            except Exception:
                value = None
            if value is None or h5py.check_ref_dtype(getattr(value, "dtype", np.dtype("f4"))) or isinstance(value, h5py.Reference):
                values.append((place, None, f"the attribute {name} of", True))
                continue
            id = target.attrs.get_id(name)
            if is_sequence(id.dtype):
                values.append((place, None, f"the attribute {name} of", True))
                continue
            values.append((place, plain(value), f"the attribute {name} of", False))

    def walk(group, where):
        if group.id in groups:
            return
        groups.add(group.id)
        add_values(group, where, list(group))
        for name in sorted(group, key=lambda text: text.encode()):
            link = group.get(name, getlink=True)
            here = where + [name]
            full = "/".join(here)
            if not isinstance(link, h5py.HardLink):
                aliases[full] = link
                continue
            item = group[name]
            if isinstance(item, h5py.Group):
                walk(item, here)
                continue
            address = h5py.h5o.get_info(item.id).addr
            if address in addresses:
                aliases[full] = addresses[address]
                continue
            addresses[address] = full
            try:
                add_dataset(item, here, full)
            except OSError:
                # h5py 3.16 does not read text that never was written.
                unreadable.add(full)

    def add_dataset(item, here, full):
        dtype = item.dtype
        if full in bitfields_here:
            tensors[full] = record(bitfields_here[full])
            return add_values(item, here, [])
        if item.shape is None:
            values.append((here, None, full, False))
            return add_values(item, here, [], text=here[-1])
        if h5py.check_ref_dtype(dtype) or is_sequence(dtype):
            tensors[full] = None
            return add_values(item, here, [])
        if dtype.kind in "SO" or dtype.names and dtype.names != ("r", "i"):
            if dtype.names and item.size > MOST_RECORDS:
                data = item[()]
                for name in dtype.names:
                    member = dtype[name]
                    if member.names:
                        for inner in member.names:
                            tensors[f"{full}/{name}/{inner}"] = record(data[name][inner])
                    elif member.base.kind != "S":
                        tensors[f"{full}/{name}"] = record(data[name])
                return add_values(item, here, [])
            values.append((here, plain(item.asstr()[()] if dtype.kind == "O" else item[()]), full, False))
            return add_values(item, here, [], text=here[-1])
        tensors[full] = record(item[()])
        add_values(item, here, [])

    bitfields_here = {name.lstrip("/"): data for name, data in bitfields.items()}
    with h5py.File(path) as file:
        walk(file, [])
    return tensors, values, aliases, unreadable


def check_file(number):
    rng = np.random.default_rng([options.seed, number])
    path = os.path.join(folder, "random.h5")
    bitfields.clear()
    described = random_file(rng, path)
    problems = []
    try:
        tensors, values, aliases, unreadable = expectation(path)
        found, objects, notes = digest(path)
    except Exception as error:
        return fail(f"file {number} {described}", [repr(error)], path)
    for name, expected in tensors.items():
        counts["arrays"] += 1
        if name not in found and name in notes:
            counts["arrays left out by name"] += 1
        elif expected is None:
            problems.append(f"{name} is neither left out nor known")
        elif found.get(name) != expected:
            problems.append(f"{name}: {found.get(name)} instead of {expected}")
    extra = [name for name in found if name not in tensors and name not in aliases]
    problems += [f"{name} is not in the file" for name in extra]
    rest = dict(objects)
    taken = set()
    for place, value, words, may_lack in values:
        steps = [key(step) for step in place]
        for path_of, leaf in leaves(value, steps):
            counts["values"] += 1
            spelled = json.dumps(path_of, ensure_ascii=False)
            match = next((text for text in (json.dumps(path_of), spelled) if text in rest), None)
            if match is None:
                if words in notes or may_lack or "/".join(map(str, place)) in notes:
                    counts["values left out by name"] += 1
                else:
                    problems.append(f"the value {path_of} is missing")
                continue
            taken.add(match)
            if not same(rest[match], leaf):
                problems.append(f"the value {path_of} is {rest[match]!r} instead of {leaf!r}")
    problems += [f"the value {place} is not in the file" for place in rest if place not in taken
                 and not any("/".join(map(str, json.loads(place))).startswith(name) for name in unreadable)]
    counts["files"] += 1
    if problems:
        fail(f"file {number} {described}", problems, path)


# ---- random states

def random_state(rng, torch):
    types = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.int16, torch.int32,
             torch.int64, torch.bool, torch.complex64, torch.complex128, torch.float8_e4m3fn, torch.float8_e5m2]
    tensors = {}

    def tensor(path):
        dtype = types[rng.integers(len(types))]
        shape = [int(extent) for extent in rng.integers(0 if rng.random() < 0.1 else 1, 6, rng.integers(0, 4))]
        made = torch.randn(shape) * 20
        made = made > 0 if dtype == torch.bool else made.abs().to(dtype) if dtype == torch.uint8 else made.to(dtype)
        tensors[path] = made
        return made

    def value(depth):
        choice = rng.integers(14)
        if choice == 0:
            return None
        if choice == 1:
            return bool(rng.integers(2))
        if choice == 2:
            return [int(rng.integers(-(1 << 62), 1 << 62)), (1 << 64) - 1, -5][rng.integers(3)]
        if choice == 3:
            return [float(rng.standard_normal()), float("inf"), float("nan"), -0.0][rng.integers(4)]
        if choice == 4:
            return ["", "text", "ünï " * int(rng.integers(1, 300)), "nul\0inside", "ends\0"][rng.integers(5)]
        if choice == 5:
            return rng.bytes(int(rng.integers(0, 90)))
        if choice == 6:
            return [float(number) for number in rng.standard_normal(int(rng.integers(0, 12000 if rng.random() < 0.02 else 40)))]
        if choice == 7:
            return ["text " * int(rng.integers(0, 40)) for _ in range(rng.integers(0, 30))]
        if choice == 8:
            return [bool(rng.integers(2)) for _ in range(rng.integers(0, 9))]
        if choice == 9 and depth < 4:
            return [value(depth + 1) for _ in range(rng.integers(0, 6))]
        if depth < 5:
            return {random_name(rng): value(depth + 1) for _ in range(int([0, 3, 12, 60][rng.integers(4)] if depth == 0 else 2))}
        return int(rng.integers(100))

    state = {}
    for number in range(rng.integers(1, 12)):
        name = ["layers/", "model.", ""][rng.integers(3)] + random_name(rng) + f"_{number}"
        state[name] = tensor(name)
    for _ in range(rng.integers(0, 10)):
        name = random_name(rng)
        if name not in state and name != "layers":
            state[name] = value(0)
    return state, tensors


def check_state(number, torch):
    rng = np.random.default_rng([options.seed, 1, number])
    torch.manual_seed(number)
    source, target = os.path.join(folder, "state.pt"), os.path.join(folder, "state.h5")
    state, tensors = random_state(rng, torch)
    torch.save(state, source)
    try:
        before = digest(source)
        done = run("convert", source, target, "--to", "hdf5", "--force")
        if done.returncode != 0:
            counts["states refused"] += 1
            if done.returncode != 2 or "state" not in done.stderr:
                raise RuntimeError(f"convert ended with {done.returncode}: {done.stderr.strip()[:300]}")
            return
        after = digest(target)
    except Exception as error:
        return fail(f"state {number}", [repr(error)], source)
    problems = [f"{name}: {after[0].get(name)} instead of {what}" for name, what in before[0].items() if after[0].get(name) != what]
    problems += [f"{name} is not in the source" for name in after[0] if name not in before[0]]
    notes = done.stdout + done.stderr
    for place, value in before[1].items():
        counts["state values"] += 1
        if place in after[1] and repr(after[1][place]) == repr(value):
            continue
        steps = [str(step) for step in json.loads(place)]
        # Long names are cut in what is said.
        if any(by.join(steps[:count])[:150] in notes for count in range(1, len(steps) + 1) for by in "./"):
            counts["state values named as lost"] += 1
        else:
            problems.append(f"the value {place}: {after[1].get(place)!r} instead of {value!r}")
    problems += [f"the value {place} is not in the source" for place in after[1] if place not in before[1]]
    with h5py.File(target) as file:
        for name, made in tensors.items():
            stored = file[name][()]
            raw = made.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if made.numel() else b""
            counts["state arrays"] += 1
            if np.asarray(stored).tobytes() != raw or list(np.shape(stored)) != list(made.shape):
                problems.append(f"h5py reads {name} differently")
    counts["states"] += 1
    if problems:
        fail(f"state {number}", problems, source)


parser = argparse.ArgumentParser()
parser.add_argument("cairn")
parser.add_argument("--files", type=int, default=100)
parser.add_argument("--first", type=int, default=0, help="the number of the first file and state")
parser.add_argument("--states", type=int, default=50)
parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
options = parser.parse_args()
folder = tempfile.mkdtemp(prefix="cairn-hdf5-random-")
bitfields = {}
print(f"seed {options.seed}", flush=True)
for number in range(options.first, options.first + options.files):
    check_file(number)
if options.states:
    import torch

    for number in range(options.first, options.first + options.states):
        check_state(number, torch)
print(", ".join(f"{count} {what}" for what, count in sorted(counts.items())))
if failures:
    print(f"{failures} checks failed; their files are in {folder}")
    sys.exit(1)
shutil.rmtree(folder)
