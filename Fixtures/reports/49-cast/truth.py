"""Computes with PyTorch what the casts of these files must give, and writes expected.json: python truth.py, with torch and safetensors.

PyTorch saturates on the way to float8_e4m3fn; Cairn gives NaN there, as the type's definition has it without saturation, and says so.
"""
import hashlib, json, os

import safetensors.torch
import torch

os.chdir(os.path.dirname(os.path.abspath(__file__)))
TYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F8_E5M2": torch.float8_e5m2, "F64": torch.float64, "F32": torch.float32}
NAMES = {str(torch.float16): "F16", str(torch.bfloat16): "BF16", str(torch.float8_e5m2): "F8_E5M2", str(torch.float64): "F64",
         str(torch.float32): "F32", str(torch.int64): "I64", str(torch.float8_e4m3fn): "F8_E4M3"}


def entry(t):
    raw = t.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return [NAMES[str(t.dtype)], list(t.shape), hashlib.sha256(raw).hexdigest()]


def load(name):
    return torch.load(name, weights_only=True) if name.endswith(".pt") else safetensors.torch.load_file(name)


def quiet(t, u):
    """The result with NaN as the types define it, quiet and with its sign: which of its bits are set PyTorch leaves open."""
    canonical = {"F16": (torch.int16, 0x7E00), "BF16": (torch.int16, 0x7FC0), "F32": (torch.int32, 0x7FC00000), "F64": (torch.int64, 0x7FF8 << 48)}
    if NAMES[str(u.dtype)] not in canonical or t.dtype == u.dtype:
        return u
    integer, bits = canonical[NAMES[str(u.dtype)]]
    bits = torch.full(u.shape, bits, dtype=torch.int64)
    negative = torch.signbit(t.double())
    width = 8 * u.element_size()
    bits = torch.where(negative, bits - (1 << (width - 1)) if width < 64 else bits | -(1 << 63), bits)
    return torch.where(u.isnan(), bits.to(integer), u.view(integer)).view(u.dtype)


def lost(t, u):
    """How many finite numbers are none any more, and the largest of them."""
    gone = t.double().isfinite() & ~u.double().isfinite()
    return int(gone.sum()), float(t.double().abs()[gone].max()) if gone.any() else 0.0


cases = []
for name in ("w.pt", "h.safetensors", "f8.safetensors"):
    state = load(name)
    for label, dtype in TYPES.items():
        cast = {key: t.to(torch.float32).to(dtype) if t.is_floating_point() and t.dtype != dtype else t for key, t in state.items()}
        if label == "F64":
            cast = {key: t.to(torch.float64) if t.is_floating_point() else t for key, t in state.items()}
        cast = {key: quiet(state[key], u) for key, u in cast.items()}
        words = []
        for key, t in state.items():
            if not t.is_floating_point() or t.dtype == dtype:
                continue
            count, greatest = lost(t, cast[key])
            if count:
                words.append(f'"{key}": {count} of {t.numel()} numbers are too large for {label}')
                words.append(f"the largest is {greatest}")
        target = "{out}/m.safetensors"
        command = ["convert", "{in}/" + name, target, "--to", "safetensors", "--dtype", label]
        case = {"what": f"{name} as {label}", "run": [command], "says": words, "digest": target,
                "tensors": {key: entry(t) for key, t in cast.items()}}
        strict = {"what": f"{name} as {label}, strictly", "run": [command + ["--strict"]]}
        if words:
            strict |= {"exit": 2, "says": ["notes of loss are errors here"] + words, "absent": [target]}
        else:
            case["never_says"] = ["too large"]
            strict |= {"digest": target, "tensors": case["tensors"]}
        cases += [case, strict]
with open("expected.json", "w") as file:
    json.dump({"cases": cases}, file, indent=1)
    file.write("\n")
