"""What the `truth.py` of a report computes right values with: the tensors of a state as PyTorch itself has them.

Names, types and sums are those of `cairn digest` (Docs/CLI.md): keys joined by dots, SHA-256 of contiguous row-major
little-endian bytes. A whole module stands for its `state_dict()`, an object for its attributes.
"""
import hashlib
import importlib
import json
import os
import pickle
import types

import numpy
import torch

TYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
    torch.complex64: "C64", torch.complex128: "C128", torch.uint16: "U16", torch.uint32: "U32", torch.uint64: "U64",
}


def entry(tensor):
    """Type, shape and sum of a tensor."""
    if isinstance(tensor, numpy.ndarray):
        plain = numpy.ascontiguousarray(tensor)
        if plain.dtype.byteorder == ">":
            plain = plain.astype(plain.dtype.newbyteorder("<"))
        return entry(torch.from_numpy(plain.copy().reshape(tensor.shape)))
    plain = tensor.detach().resolve_conj().resolve_neg().contiguous().cpu()
    data = plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
    return [TYPES[tensor.dtype], list(tensor.shape), hashlib.sha256(data).hexdigest()]


def key_text(key):
    """A key of a dictionary as a part of a name."""
    if isinstance(key, torch.Tensor):
        return "tensor"
    return key if isinstance(key, str) else str(key) if type(key) is int else repr(key)


def tensors(value, name="", around=()):
    """Names and entries of everything in a state that is a tensor."""
    def join(key):
        return f"{name}.{key}" if name else str(key)

    if id(value) in around:
        return {}
    around = around + (id(value),)
    if isinstance(value, torch.nn.Module):
        return tensors(dict(value.state_dict()), name, around)
    if isinstance(value, torch.Tensor):
        return {name or "tensor": entry(value)}
    if isinstance(value, numpy.ndarray) and value.dtype.kind in "fiubc":
        return {name or "tensor": entry(value)}
    found = {}
    if isinstance(value, torch.UntypedStorage):
        return {name: entry(torch.tensor([], dtype=torch.uint8).set_(value))}
    if isinstance(value, torch.storage.TypedStorage):
        return {name: entry(torch.tensor([], dtype=value.dtype).set_(value._untyped_storage, 0, (len(value),)))}
    if isinstance(value, dict):
        seen = {}
        for key, part in value.items():
            text = key_text(key)
            if not isinstance(key, (str, int)):
                seen[text] = seen.get(text, 0) + 1
                text += f"#{seen[text]}" if seen[text] > 1 else ""
            found.update(tensors(part, join(text), around))
    elif isinstance(value, (list, tuple)) or type(value).__name__ == "deque":
        for key, part in enumerate(value):
            found.update(tensors(part, join(key), around))
    elif type(value).__name__ in ("UserDict", "IterableUserDict"):
        found.update(tensors(value.data, name, around))
    elif hasattr(value, "__dict__") and not isinstance(value, (type, types.FunctionType)):
        found.update(tensors(value.__dict__, name, around))
    return found


def stand_ins(classes):
    """A pickle module for `torch.load` in which classes that are not installed are empty ones with these bases, by their
    names; `object` for the others."""
    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            try:
                return super().find_class(module, name)
            except (ImportError, AttributeError):
                pass
            path = f"{module}.{name}"
            if path not in made:
                made[path] = type(name.split(".")[-1], (classes.get(path, object),), {"__module__": module})
            return made[path]

    made = {}
    shim = types.ModuleType("stand_ins")
    shim.Unpickler = Unpickler
    shim.load = lambda file, **options: Unpickler(file, **options).load()
    shim.Pickler = pickle.Pickler
    return shim


def load(path, classes=None, position=0):
    with open(path, "rb") as file:
        file.seek(position)
        return torch.load(file, pickle_module=stand_ins(classes or {}), weights_only=False, map_location="cpu")


def case(what, path, values, options=None, says=None):
    """A case of `expected.json`: the digest of a file."""
    made = {"what": what, "digest": "{in}/" + path, "tensors": values}
    if options:
        made["digest_options"] = options
    if says:
        made["digest_says"] = says
    return made


def refusal(what, path, says, code=2, command="digest"):
    """A case of something that is refused, with the words."""
    return {"what": what, "run": [[command, "{in}/" + path]], "exit": code, "says": says if code == 2 else [],
            "prints": says if code == 1 else []}


def write(folder, cases):
    with open(os.path.join(folder, "expected.json"), "w") as file:
        json.dump({"cases": cases}, file, indent=1)
        file.write("\n")
