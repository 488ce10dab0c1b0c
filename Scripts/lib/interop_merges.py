"""Random recipes for `cairn merge` beside their formulas in extended precision, and a part of them beside mergekit.

    interop_merges.py CAIRN [--count N] [--seed S] [--only I] [--mergekit N] [--keep]

The formulas are written here from the papers and from mergekit's documents, apart from Cairn's kernels: whole tensors,
NumPy's long doubles, a sort instead of counted bits, Philox from its paper. Inputs are small models with the tensors of
Llama, some without a dimension, of one element and of none; among them equal, parallel and opposite ones (exactly, and up to
1e-3 … 1e-8), zeros, NaN and infinities. What comes out must be equal to rounding, or refused where the formula has no value.
With --mergekit N as many of them are merged by mergekit as well, if this Python has it.
"""
import argparse
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

import numpy as np

LD = np.longdouble
SINGLE = 2.0**-23
UNITS = {"F64": 2.0**-52, "F32": 2.0**-23, "BF16": 2.0**-7, "F16": 2.0**-10}
NAMES = {"float64": "F64", "float32": "F32", "bfloat16": "BF16", "float16": "F16"}
LAYERS, HIDDEN, INNER, VOCABULARY = 3, 8, 6, 10


class Refused(Exception):
    pass


# --- files -----------------------------------------------------------------------------------------------------------

def to_bfloat16(values):
    """Rounded once: what single precision leaves out of doubles goes into its last bit."""
    values = np.asarray(values, dtype=np.float64)
    single = values.astype(np.float32)
    bits = single.view(np.uint32).astype(np.int64)
    inexact = np.isfinite(values) & np.isfinite(single) & (single.astype(np.float64) != values)
    bits = bits - (inexact & (abs(single.astype(np.float64)) > abs(values)))
    bits = np.where(inexact, bits | 1, bits)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


def encode(values, dtype):
    with np.errstate(all="ignore"):
        if dtype == "BF16":
            return to_bfloat16(values).tobytes()
        return np.ascontiguousarray(values, dtype={"F64": "<f8", "F32": "<f4", "F16": "<f2"}[dtype]).tobytes()


def decode(raw, dtype, shape):
    if dtype == "BF16":
        values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        values = np.frombuffer(raw, {"F64": "<f8", "F32": "<f4", "F16": "<f2"}[dtype])
    return values.astype(np.float64).reshape(shape)


def rounded(values, dtype):
    """Doubles as a file of this type holds them."""
    values = np.asarray(values, dtype=np.float64)
    return decode(encode(values, dtype), dtype, values.shape)


def save(path, tensors):
    header, blobs, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for name, (dtype, values) in sorted(tensors.items()):
        raw = encode(values, dtype)
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [offset, offset + len(raw)]}
        blobs.append(raw)
        offset += len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def load(path):
    with open(path, "rb") as file:
        data = file.read()
    size = struct.unpack("<Q", data[:8])[0]
    header, found = json.loads(data[8 : 8 + size]), {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        found[name] = (entry["dtype"], decode(data[8 + size + first : 8 + size + last], entry["dtype"], entry["shape"]))
    return found


# --- the formulas ----------------------------------------------------------------------------------------------------
# Each returns the values, and how much rounding they may have: an absolute tolerance for each element.

def norm(x):
    return np.sqrt(np.sum(x * x))


def need_finite(*tensors):
    for x in tensors:
        if not np.isfinite(x.astype(np.float64)).all():
            raise Refused("no length")


def linear(weights, tensors, normalize, unit):
    total = LD(sum(weights))
    if normalize:
        sizes = [abs(w) for w in weights if w]
        if not sizes or (min(weights) < 0 < max(weights) and abs(total) <= min(1e-12 * sum(sizes), min(sizes) / 2)):
            raise Refused("weights add up to zero")
    else:
        total = LD(1)
    result = sum(LD(w) * x for w, x in zip(weights, tensors)) / total
    whole = sum(abs(LD(w) * x) for w, x in zip(weights, tensors)) / abs(total)
    cancels = sum(map(abs, weights)) > 8 * abs(sum(weights))
    return result, whole * (len(weights) + 3) * (min(unit, 2.0**-52) if cancels else unit)


def slerp(t, a, b, unit):
    need_finite(a, b)
    na, nb = [norm(x) if norm(x) > 1e-8 else LD(1) for x in (a, b)]
    cosine = np.clip(np.sum(a * b) / na / nb, -1, 1)
    if abs(cosine) > 0.9995:
        p, q = 1 - LD(t), LD(t)
    else:
        angle = np.arccos(cosine)
        p, q = np.sin((1 - LD(t)) * angle) / np.sin(angle), np.sin(LD(t) * angle) / np.sin(angle)
    return p * a + q * b, (abs(p * a) + abs(q * b)) * 8 * unit


def multislerp(weights, tensors, base, normalize, epsilon, unit):
    need_finite(*tensors, *([] if base is None else [base]))
    weights = [LD(w) for w in weights]
    if normalize:
        total, sizes = sum(weights), [abs(w) for w in weights if w]
        if not sizes or (min(weights) < 0 < max(weights) and abs(total) <= min(1e-12 * sum(sizes), min(sizes) / 2)):
            raise Refused("weights add up to zero")
        weights = [w / total for w in weights]
    if len(tensors) == 1:
        return tensors[0], abs(tensors[0]) * 4 * unit
    origin = LD(0) if base is None else base
    vectors = [x - origin for x in tensors]
    norms = [norm(v) for v in vectors]
    # What has no length has no direction.
    units = [v / (n + LD(epsilon)) if n + LD(epsilon) > 0 else v for v, n in zip(vectors, norms)]
    straight = origin + sum(w * v for w, v in zip(weights, vectors))
    size = sum(abs(w * v) for w, v in zip(weights, vectors)) + abs(origin)
    whole = sum(abs(w) * norm(u) for w, u in zip(weights, units))
    if whole < epsilon or whole == 0:
        return straight, size * 16 * unit
    mean = sum(w * u for w, u in zip(weights, units))
    length = norm(mean)
    if length < epsilon or length <= 1e-14 * whole:
        if len(tensors) > 2:
            raise Refused("directions cancel out")
        return straight, size * 16 * unit
    mean = mean / length
    tangent = sum(w * (u - np.sum(u * mean) * mean) for w, u in zip(weights, units))
    angle = norm(tangent) + LD(epsilon)
    result = mean * np.cos(angle) + (tangent * np.sin(angle) / angle if angle > 0 else 0)
    radius = sum(n * w for n, w in zip(norms, weights))
    lost = 64 * unit + 64 * 2.0**-52 * whole / length
    parts = sum(abs(w * u) for w, u in zip(weights, units)) * abs(radius)
    return origin + radius * result, (abs(radius) * lost + (abs(origin) + parts) * 16 * unit)


def karcher(tensors, limit, tolerance, unit):
    if len(tensors) == 1:
        return tensors[0], abs(tensors[0]) * 4 * unit
    need_finite(*tensors)
    norms = [norm(x) for x in tensors]
    valid = [i for i, n in enumerate(norms) if n > tolerance]
    if not valid:
        return tensors[0] * 0, abs(tensors[0]) * 0
    share, units = LD(1) / len(valid), {i: tensors[i] / norms[i] for i in valid}
    mean = sum(share * units[i] for i in valid)
    shortest = length = norm(mean)
    if length <= 1e-14:
        if len(valid) > 2:
            raise Refused("directions cancel out")
        return sum(tensors[i] for i in valid) / len(tensors), sum(abs(x) for x in tensors) * 16 * unit
    mean = units[valid[0]] if length < tolerance else mean / length
    for _ in range(limit):
        tangent = mean * 0
        for i in valid:
            cosine = np.sum(mean * units[i])
            across = units[i] - cosine * mean
            sine = norm(across)
            angle = np.arctan2(sine, cosine)
            if angle < tolerance or sine <= 1e-14:
                continue
            shortest = min(shortest, sine)
            tangent = tangent + share * angle / sine * across
        angle = norm(tangent)
        if angle < tolerance:
            break
        mean = np.cos(angle) * mean + np.sin(angle) / angle * tangent
        if norm(mean) > tolerance:
            mean = mean / norm(mean)
    radius = sum(norms) / len(tensors)
    lost = 64 * unit + 1e-14 / shortest
    return radius * mean, abs(radius) * lost + sum(abs(x) for x in tensors) * 16 * unit


def model_stock(base, tensors, unit):
    need_finite(base, *tensors)
    vectors = [x - base for x in tensors]
    cosines = []
    for i, a in enumerate(vectors):
        for b in vectors[:i]:
            cosines.append(np.clip(np.sum(a * b) / max(norm(a) * norm(b), LD(1e-6)), -1, 1))
    count, cosine = len(tensors), sum(cosines) / len(cosines)
    below = 1 + (count - 1) * cosine
    ratio = LD(0) if abs(below) < 1e-6 else count * cosine / below
    if 0 < abs(abs(below) - 1e-6) < 1e-11:
        raise Refused("on the border")
    result = base + ratio * (sum(tensors) / count - base)
    change = sum(abs(v) for v in vectors)
    lost = (64 * unit + 2.0**-48 / max(abs(below), LD(1e-7))) * (1 + abs(ratio)) / max(abs(below), LD(0.25))
    return result, change * lost + (abs(base) + abs(ratio) * sum(abs(x - base) for x in tensors)) * 16 * unit


def philox(key, stream, count):
    """The first `count` numbers of a stream of Philox4x32-10."""
    blocks = np.arange((count + 3) // 4, dtype=np.uint64)
    mask = np.uint64(0xFFFFFFFF)
    x = [blocks & mask, blocks >> np.uint64(32), np.full_like(blocks, stream & 0xFFFFFFFF), np.full_like(blocks, stream >> 32)]
    k = [key & 0xFFFFFFFF, key >> 32]
    for _ in range(10):
        a, b = x[0] * np.uint64(0xD2511F53), x[2] * np.uint64(0xCD9E8D57)
        x = [(b >> np.uint64(32)) ^ x[1] ^ np.uint64(k[0]), b & mask, (a >> np.uint64(32)) ^ x[3] ^ np.uint64(k[1]), a & mask]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.stack(x, axis=1).reshape(-1)[:count]


def stream_of(name, vector):
    found = 0xCBF29CE484222325
    for byte in name.encode() + b"\0" + struct.pack("<Q", vector):
        found = ((found ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return found


def mask_of(method, vector, density, gamma, name, index, seed):
    count = vector.size
    if density >= 1:
        return None
    flat = vector.reshape(-1)
    if method.startswith("dare"):
        return (philox(seed, stream_of(name, index), count) < int(density * 2**32)).reshape(vector.shape)
    kept = np.zeros(count, bool)
    with np.errstate(all="ignore"):
        sizes = np.abs(flat.astype(np.float32))
    # What is no number comes behind infinity, as sorts of numbers have it; of equal ones the first by index are the larger.
    if method == "ties":
        if density > 0 and count:
            kept[np.argsort(-np.where(np.isnan(sizes), np.inf, sizes), kind="stable")[: max(1, int(density * count))]] = True
            if np.isnan(sizes).any():
                order = sorted(range(count), key=lambda i: (not np.isnan(sizes[i]), -sizes[i] if not np.isnan(sizes[i]) else 0, i))
                kept[:] = False
                kept[order[: max(1, int(density * count))]] = True
    else:
        target, top = int(density * count), int(gamma * count)
        below = max(0, count - target - top)
        kept[np.argsort(sizes, kind="stable")[below : below + target]] = True
    return kept.reshape(vector.shape)


def task_vectors(method, base, tensors, weights, densities, gammas, rescale, normalize, factor, name, seed, unit):
    majority = method.endswith("ties")
    both = any(w > 0 for w in weights) and any(w < 0 for w in weights)
    vectors, changes = [], LD(0)
    for index, (x, density, gamma) in enumerate(zip(tensors, densities, gammas)):
        vector = x - base
        # Task vectors are of the inputs' precision, or of single precision.
        if unit > 2.0**-40 and not (normalize and both):
            with np.errstate(all="ignore"):
                vector = vector.astype(np.float32).astype(LD)
        mask = None if method == "task_arithmetic" else mask_of(method, vector, density, gamma, name, index, seed)
        if mask is not None:
            kept = vector * mask
            if rescale:
                before, after = np.sum(abs(vector)), np.sum(abs(kept))
                if not (np.isfinite(before) and np.isfinite(after)):
                    raise Refused("no sum of magnitudes")
                if before >= 1e-7 and after >= 1e-7:
                    kept = kept * (before / after)
            vector = kept
        vectors.append(vector)
        changes = changes + abs(vector)
    weighted = [v * LD(w) for v, w in zip(vectors, weights)]
    total = sum(weighted, np.zeros_like(base))
    sizes = sum((abs(v) for v in weighted), np.zeros_like(base))
    divisors = [LD(1)]
    options = [total]
    if majority:
        options, divisors = [], []
        close = abs(total) <= 4 * len(weights) * unit * sizes
        for sign in (1, -1):
            positive = np.where(close, sign > 0, total >= 0)
            mixed, divisor = np.zeros_like(base), np.zeros_like(base)
            for v, w in zip(weighted, weights):
                takes = np.where(positive, v > 0, v < 0)
                mixed = mixed + np.where(takes, v, 0)
                divisor = divisor + np.where(takes, LD(w), 0)
            small = 0
            if both:
                own = [abs(w) for w in weights if w]
                small = min(1e-12 * sum(own), min(own) / 2)
            divisor = np.where(abs(divisor) <= small, LD(1), divisor) if normalize else np.ones_like(base)
            options.append(np.where(np.isnan(total), total, mixed / divisor))
            divisors.append(divisor)
    elif normalize:
        whole = LD(sum(weights))
        divisors = [whole if abs(whole) >= 1e-8 else LD(1)]
        options = [total / divisors[0]]
    results = []
    for option, divisor in zip(options, divisors):
        tolerance = sizes / abs(divisor) * abs(LD(factor)) * (len(weights) + 6) * unit * (1 if rescale is False else 2)
        results.append((base + LD(factor) * option, tolerance + (abs(base) + abs(factor * option)) * 4 * unit))
    return results


# --- recipes ---------------------------------------------------------------------------------------------------------

def shapes():
    found = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN), "model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCABULARY, HIDDEN)}
    for layer in range(LAYERS):
        p = f"model.layers.{layer}."
        for part in "qkvo":
            found[p + f"self_attn.{part}_proj.weight"] = (HIDDEN, HIDDEN)
        found |= {p + "mlp.gate_proj.weight": (INNER, HIDDEN), p + "mlp.up_proj.weight": (INNER, HIDDEN),
                  p + "mlp.down_proj.weight": (HIDDEN, INNER), p + "input_layernorm.weight": (HIDDEN,),
                  p + "post_attention_layernorm.weight": (HIDDEN,)}
    # What Llama does not have, and mergekit passes over.
    return found | {"extra.scalar": (), "extra.gate": (1,), "extra.other_gate": (1,), "extra.empty": (0, 3)}


FILTERS = ["self_attn", "mlp", "norm", "layers.1.", "embed_tokens", "weight", "extra"]
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INNER,
          "num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": LAYERS, "vocab_size": VOCABULARY,
          "tie_word_embeddings": False, "torch_dtype": "float32"}


class Recipe:
    """A recipe of mergekit's, the tensors of its models, and what comes of it by the formulas."""

    def __init__(self, recipe, models, types, seed=0, precise=False):
        self.recipe, self.tensors, self.types, self.seed, self.precise = recipe, models, types, seed, precise
        self.method, self.base = recipe["merge_method"], recipe.get("base_model")
        self.names = list(next(iter(models.values())))
        self.layers = 1 + max([int(n.split(".")[2]) for n in self.names if n.startswith("model.layers.")], default=0)

    @staticmethod
    def choose(setting, name, place, number):
        if isinstance(setting, list) and setting and isinstance(setting[0], dict):
            for condition in setting:
                if "filter" not in condition or condition["filter"] in name:
                    return Recipe.choose(condition["value"], name, place, number)
            return None
        # YAML 1.1 has 1e-1 as a text, which mergekit takes for the number.
        setting = [float(v) if isinstance(v, str) else v for v in setting] if isinstance(setting, list) else \
            float(setting) if isinstance(setting, str) else setting
        if isinstance(setting, list):
            if not number:
                return setting[int(place * (len(setting) - 1))]
            at = place * (len(setting) - 1)
            first = int(at)
            part = at - first
            return (1 - part) * setting[first] + part * setting[min(len(setting) - 1, first + 1)]
        return setting

    def get(self, parameter, name, place, scopes, default=None):
        for scope in scopes:
            if parameter in scope:
                value = self.choose(scope[parameter], name, place, not isinstance(default, bool))
                if value is not None:
                    return value
        if default is None:
            raise Refused(f"no {parameter}")
        return default

    def operands(self):
        """For each tensor of the result: its name, the scopes, and (model, name there, scopes) of every source."""
        top = self.recipe.get("parameters", {})
        if "models" in self.recipe:
            sources = [dict(s) for s in self.recipe["models"]]
            if self.base and all(s["model"] != self.base for s in sources):
                sources.append({"model": self.base})
            for name in self.names:
                layer = re.match(r"model\.layers\.(\d+)\.", name)
                place = int(layer[1]) / (self.layers - 1) if layer else 0
                yield name, place, [top], [(s["model"], name, [s.get("parameters", {}), top]) for s in sources]
            return
        slices, number = self.recipe["slices"], 0

        def entry(slice, name, place, names):
            scope = slice.get("parameters", {})
            return name, place, [scope, top], [
                (s["model"], n, [s.get("parameters", {}), scope, top]) for s, n in zip(slice["sources"], names)]

        for slice in slices:
            first, last = slice["sources"][0]["layer_range"]
            for offset in range(last - first):
                place = offset / (last - first - 1) if last - first > 1 else 1
                for name in self.names:
                    if not name.startswith("model.layers.0."):
                        continue
                    rest = name[len("model.layers.0"):]
                    yield entry(slice, f"model.layers.{number}{rest}", place,
                                [f"model.layers.{s['layer_range'][0] + offset}{rest}" for s in slice["sources"]])
                number += 1
        for name in self.names:
            if not name.startswith("model.layers."):
                slice = slices[0] if "embed" in name else slices[-1]
                yield entry(slice, name, 0, [name] * len(slice["sources"]))

    def expected(self):
        """Name to (type, [(values, tolerance), …]); every one is right. Refused, with the tensor, where there is none."""
        found, refusals = {}, []
        dtype = NAMES.get(self.recipe.get("dtype"))
        output = NAMES.get(self.recipe.get("out_dtype")) or dtype
        for name, place, scopes, sources in self.operands():
            inputs, types = [], []
            for model, own, _ in sources:
                values, kind = self.tensors[model][own], self.types[model]
                if dtype and kind != dtype and not (dtype == "F64" or (dtype == "F32" and kind in ("BF16", "F16"))):
                    values, kind = rounded(values, dtype), dtype
                inputs.append(values.astype(LD))
                types.append(kind)
            widest = "F64" if "F64" in types else types[0] if len(set(types)) == 1 else "F32"
            unit = 2.0**-52 if "F64" in types or dtype == "F64" or self.precise else SINGLE
            try:
                with np.errstate(all="ignore"):
                    made = self.merge(name, place, scopes, sources, inputs, unit)
                found[name] = (output or widest, made if isinstance(made, list) else [made])
            except Refused as refused:
                refusals.append((name, str(refused)))
        return found, refusals

    def merge(self, name, place, scopes, sources, inputs, unit):
        method = self.method
        is_base = [model == self.base for model, _, _ in sources]
        others = [x for x, b in zip(inputs, is_base) if not b]
        base = next((x for x, b in zip(inputs, is_base) if b), None)

        def each(parameter, default=None, everybody=False):
            return [self.get(parameter, own, place, s, default) for (_, own, s), b in zip(sources, is_base) if everybody or not b]

        def shared(parameter, default):
            return self.get(parameter, name, place, scopes, default)

        if method == "linear":
            return linear(each("weight", everybody=True), inputs, shared("normalize", True), unit)
        if method == "slerp":
            return slerp(shared("t", None), base, others[0], unit)
        if method == "multislerp":
            return multislerp(each("weight"), others, base, shared("normalize_weights", True), shared("eps", 1e-8), unit)
        if method == "karcher":
            return karcher(inputs, int(shared("max_iter", 10)), shared("tol", 1e-5), unit)
        if method == "model_stock":
            return model_stock(base, others, unit)
        if method == "passthrough":
            try:
                scale = each("scale", everybody=True)[0]
            except Refused:
                scale = 1.0
            return LD(scale) * inputs[0], abs(LD(scale) * inputs[0]) * 2 * unit
        defaults = {"ties": (True, False), "dare_linear": (False, True), "dare_ties": (False, True)}.get(method, (False, False))
        density = each("density", 1.0) if method != "task_arithmetic" else [1.0] * len(others)
        gamma = each("gamma", 0.01) if method.startswith("breadcrumbs") else [0.0] * len(others)
        rescale = bool(shared("rescale", defaults[1])) if method != "task_arithmetic" else False
        return task_vectors(method, base, others, each("weight"), density, gamma, rescale,
                            bool(shared("normalize", defaults[0])), shared("lambda", 1.0), name, self.seed, unit)


class Case(Recipe):
    """A recipe, its models and what must come of it, all from one seed."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        r = self.random
        self.method = r.choice(["linear", "slerp", "multislerp", "karcher", "task_arithmetic", "ties", "dare_linear",
                                "dare_ties", "breadcrumbs", "breadcrumbs_ties", "model_stock", "passthrough"])
        self.seed = int(r.integers(1 << 30))
        self.has_base = self.method not in ("linear", "karcher", "passthrough") and (self.method != "multislerp" or r.random() < 0.6)
        count = {"slerp": 1, "passthrough": 1, "model_stock": int(r.integers(2, 5))}.get(self.method, int(r.integers(1, 5)))
        self.models = [f"m{i}" for i in range(count)] + (["base"] if self.has_base else [])
        self.sliced = r.random() < 0.25
        self.make_models()
        self.make_recipe()
        super().__init__(self.recipe, self.tensors, self.types, self.seed)

    def make_models(self):
        r, self.tensors = self.random, {m: {} for m in self.models}
        types = ["F32"] * 5 + ["BF16", "F16", "F64"]
        common = r.choice(types)
        self.types = {m: common if r.random() < 0.8 else r.choice(types) for m in self.models}
        degenerate = r.random()
        self.degenerate = []
        for name, shape in shapes().items():
            origin = r.standard_normal(shape) * 10.0 ** r.integers(-2, 2)
            kind = "plain" if degenerate < 0.3 or r.random() < 0.5 else r.choice(
                ["equal", "parallel", "opposite", "nearly_opposite", "zero", "all_zero", "coarse", "tiny"])
            bad = degenerate > 0.9 and r.random() < 0.04
            scale = 10.0 ** -r.integers(0, 5)
            direction = r.standard_normal(shape) * scale
            for index, model in enumerate(self.models):
                others = [m for m in self.models if m != "base"]
                if model == "base":
                    values = origin
                elif kind == "equal":
                    values = origin
                elif kind in ("zero", "all_zero"):
                    values = origin * 0 if index == 0 or kind == "all_zero" else origin + direction
                elif kind == "coarse":     # many equal magnitudes
                    values = np.round(origin, 1) + np.round(r.standard_normal(shape) * 4) / 8
                elif kind == "tiny":
                    values = origin + r.standard_normal(shape) * 1e-10
                elif kind in ("parallel", "opposite", "nearly_opposite"):
                    factor = {"parallel": 1 + index, "opposite": (-1) ** index, "nearly_opposite": (-1) ** index * (1 - 0.3 * (index % 2))}[kind]
                    noise = 10.0 ** -r.integers(3, 9) if kind == "nearly_opposite" and index == len(others) - 1 else 0
                    moved = direction * factor + noise * scale * r.standard_normal(shape)
                    values = origin * (1 if self.has_base else 0) + (moved if self.has_base else moved / scale)
                else:
                    values = origin + r.standard_normal(shape) * scale
                values = np.array(values, dtype=np.float64)
                if bad and values.size and r.random() < 0.5:
                    values.reshape(-1)[r.integers(values.size)] = r.choice([np.nan, np.inf, -np.inf])
                if kind == "all_zero" and model == "base":
                    values = np.zeros(shape)
                self.tensors[model][name] = rounded(values, self.types[model])

    def value(self, parameter):
        r = self.random
        if parameter == "density":
            return float(r.choice([0.0, 0.05, 0.3, 0.5, 0.8, 0.999, 1.0]))
        if parameter == "gamma":
            return float(r.choice([0.0, 0.01, 0.2, 0.6, 1.0]))
        if parameter == "t":
            return float(r.choice([0, 0.25, 0.5, 1, 1.4, -0.2])) if r.random() < 0.5 else round(float(r.random()), 3)
        if parameter in ("normalize", "rescale", "normalize_weights"):
            return bool(r.random() < 0.5)
        if parameter == "max_iter":
            return int(r.choice([0, 1, 10, 30]))
        if parameter == "tol":
            return float(r.choice([1e-3, 1e-5, 1e-9]))
        if parameter == "lambda":
            return float(r.choice([1, 0, 0.7, -1, 3]))
        return float(r.choice([1, 0.5, 0.25, 2, 0.3, 0.1, 0])) if r.random() < 0.8 else float(r.choice([-0.5, -1, -0.2, 0.2]))

    def setting(self, parameter, flat=False):
        """A value, a gradient or conditions, as the recipe has it."""
        r, form = self.random, self.random.random()
        if form < 0.6 or flat:
            return self.value(parameter)
        if form < 0.75 and parameter not in ("max_iter",):
            return [self.value(parameter) for _ in range(r.integers(2, 5))]
        chosen = r.choice(FILTERS, size=r.integers(1, 3), replace=False)
        conditions = [{"filter": str(f), "value": self.value(parameter) if r.random() < 0.7 or parameter == "max_iter" else [self.value(parameter), self.value(parameter)]} for f in chosen]
        return conditions + [{"value": self.value(parameter)}]

    def parameters(self):
        return {"linear": (["weight"], ["normalize"]), "slerp": ([], ["t"]), "multislerp": (["weight"], ["normalize_weights", "eps"]),
                "karcher": ([], ["max_iter", "tol"]), "model_stock": ([], []), "passthrough": (["scale"], []),
                "task_arithmetic": (["weight"], ["normalize", "lambda"]), "ties": (["weight", "density"], ["normalize", "lambda", "rescale"]),
                "dare_linear": (["weight", "density"], ["normalize", "lambda", "rescale"]),
                "dare_ties": (["weight", "density"], ["normalize", "lambda", "rescale"]),
                "breadcrumbs": (["weight", "density", "gamma"], ["normalize", "lambda", "rescale"]),
                "breadcrumbs_ties": (["weight", "density", "gamma"], ["normalize", "lambda", "rescale"])}[self.method]

    def make_recipe(self):
        r = self.random
        each, shared = self.parameters()
        recipe = {"merge_method": str(self.method)}
        if self.has_base:
            recipe["base_model"] = "base"
        top = {}
        for parameter in shared:
            if parameter == "t" or (parameter != "eps" and r.random() < 0.6):
                top[parameter] = self.setting(parameter)
            elif parameter == "eps" and r.random() < 0.3:
                top[parameter] = float(r.choice([0, 1e-8, 1e-6, 1e-2]))
        for parameter in each:
            if r.random() < 0.7 or parameter == "weight":
                top[parameter] = self.setting(parameter)

        def own():
            return {p: self.setting(p) for p in each if r.random() < 0.5}

        listed = list(self.models)
        if self.has_base and not self.sliced and r.random() < 0.5:
            listed.remove("base")
        r.shuffle(listed)
        if self.sliced:
            slices = []
            for _ in range(r.integers(1, 3)):
                length = int(r.integers(1, LAYERS + 1))
                sources = []
                for model in listed:
                    first = int(r.integers(0, LAYERS - length + 1))
                    source = {"model": model, "layer_range": [first, first + length]}
                    if model != "base" and r.random() < 0.5:
                        source["parameters"] = own()
                    sources.append(source)
                slices.append({"sources": sources} | ({"parameters": {p: self.setting(p) for p in each + shared if p != "eps" and r.random() < 0.3}} if r.random() < 0.5 else {}))
            recipe["slices"] = slices
        else:
            recipe["models"] = [{"model": m} | ({"parameters": own()} if m != "base" and r.random() < 0.6 else {}) for m in listed]
        if top:
            recipe["parameters"] = top
        if r.random() < 0.4:
            recipe["dtype"] = str(r.choice(["float32", "bfloat16", "float16", "float64"]))
        if r.random() < 0.2:
            recipe["out_dtype"] = str(r.choice(["float32", "bfloat16", "float64"]))
        self.recipe = recipe

    def write(self, folder):
        for model in self.models:
            os.makedirs(os.path.join(folder, model), exist_ok=True)
            save(os.path.join(folder, model, "model.safetensors"), {n: (self.types[model], v) for n, v in self.tensors[model].items()})
            with open(os.path.join(folder, model, "config.json"), "w") as file:
                json.dump(CONFIG, file)
        with open(os.path.join(folder, "recipe.yml"), "w") as file:
            json.dump(self.recipe, file)


def differences(found, dtype, options):
    """Elements that are none of the right values, and the greatest distance from one in units of its tolerance."""
    wrong, worst = None, None
    with np.errstate(all="ignore"):
        for values, tolerance in options:
            values = np.asarray(values, dtype=LD)
            right = rounded(values.astype(np.float64), dtype).astype(LD)
            # What the type cannot hold is infinite in both, next to its end in one of them.
            same = (found == right) | (np.isnan(found) & np.isnan(values.astype(np.float64)))
            distance = abs(found - values)
            allowed = np.asarray(tolerance, dtype=LD) + UNITS[dtype] * abs(values) + np.finfo(np.float64).tiny
            if dtype == "F16":
                allowed = allowed + 2.0**-24
            off = ~same & ~(distance <= allowed)
            wrong = off if wrong is None else wrong & off
            part = np.where(same, 0, distance / allowed)
            worst = part if worst is None else np.minimum(worst, part)
    return int(np.sum(wrong)), float(np.max(worst)) if worst.size else 0.0


def check(cairn, case, folder):
    """What went wrong, or nothing; and what came out."""
    case.write(folder)
    out = os.path.join(folder, "out.safetensors")
    done = subprocess.run([cairn, "merge", os.path.join(folder, "recipe.yml"), "-o", out, "--seed", str(case.seed), "--force"],
                          capture_output=True, text=True)
    expected, refusals = case.expected()
    if refusals:
        # A source's tensor is called by its own name.
        if done.returncode == 2 and re.search('tensor ".*(length|sum|cancel|add up)', done.stderr):
            return None, "refused"
        if done.returncode == 0 and all(why == "on the border" for _, why in refusals):
            return None, "equal"
        return f"expected a refusal of {refusals[:3]}, got exit {done.returncode}: {done.stderr.strip()[:300]}", "wrong"
    if done.returncode != 0:
        return f"exit {done.returncode}: {done.stderr.strip()[:400]}", "wrong"
    found = load(out)
    if set(found) != set(expected):
        return f"other tensors: {sorted(set(found) ^ set(expected))[:4]}", "wrong"
    for name, (dtype, options) in expected.items():
        if found[name][0] != dtype:
            return f"{name} is {found[name][0]}, not {dtype}", "wrong"
        count, worst = differences(found[name][1].astype(LD), dtype, options)
        if count:
            return f"{name}: {count} of {found[name][1].size} elements differ, by up to {worst:.3g} times what rounding may do", "wrong"
    return None, "equal"


def beside_mergekit(case, folder, cairn):
    """The greatest relative difference from mergekit's numbers, or why there is none."""
    import torch
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions
    recipe = json.loads(json.dumps(case.recipe))
    where = lambda m: os.path.join(folder, m)
    if "base_model" in recipe:
        recipe["base_model"] = where("base")
    for sources in [recipe.get("models", [])] + [s["sources"] for s in recipe.get("slices", [])]:
        for source in sources:
            source["model"] = where(source["model"])
    out = os.path.join(folder, "mergekit")
    try:
        with torch.no_grad():
            run_merge(MergeConfiguration.model_validate(recipe), out, MergeOptions(quiet=True, copy_tokenizer=False))
    except Exception as problem:
        return None, f"mergekit: {type(problem).__name__}"
    theirs, ours = load(os.path.join(out, "model.safetensors")), load(os.path.join(folder, "out.safetensors"))
    worst = 0.0
    for name, (_, values) in theirs.items():
        if name not in ours:
            return None, f"{name} is missing"
        finite = np.isfinite(values)
        if not np.array_equal(values[~finite], ours[name][1][~finite], equal_nan=True):
            return float("inf"), None
        scale = max(np.max(np.abs(values[finite]), initial=0.0), 1e-30)
        worst = max(worst, float(np.max(np.abs(values - ours[name][1])[finite], initial=0.0)) / scale)
    return worst, None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("cairn")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int)
    parser.add_argument("--mergekit", type=int, default=0)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    cairn = os.path.abspath(options.cairn)
    seeds = [options.only] if options.only is not None else range(options.seed * 1_000_000, options.seed * 1_000_000 + options.count)
    tally, failures, compared = {}, 0, 0
    for seed in seeds:
        folder = tempfile.mkdtemp()
        case = Case(seed)
        problem, outcome = check(cairn, case, folder)
        tally[(str(case.method), outcome)] = tally.get((str(case.method), outcome), 0) + 1
        if problem:
            failures += 1
            print(f"FAILED  seed {seed}, {case.method}: {problem}", flush=True)
            if failures <= 20 or options.keep:
                print("        " + json.dumps(case.recipe))
        # Plain models in single precision, where the two compute alike but for their rounding.
        elif outcome == "equal" and compared < options.mergekit and is_plain(case):
            worst, why = beside_mergekit(case, folder, cairn)
            compared += worst is not None
            tally[("mergekit", "equal" if worst is not None and worst < 1e-5 else why or "other")] = \
                tally.get(("mergekit", "equal" if worst is not None and worst < 1e-5 else why or "other"), 0) + 1
            if worst is not None and worst >= 1e-5:
                print(f"other   seed {seed}, {case.method}: {worst:.3g} from mergekit: {json.dumps(case.recipe)}", flush=True)
        if options.keep:
            print(folder)
        else:
            shutil.rmtree(folder)
    for (method, outcome), count in sorted(tally.items()):
        print(f"{method:18} {outcome:10} {count}")
    print(f"{len(seeds) - failures} of {len(seeds)} recipes as their formulas say")
    sys.exit(failures > 0)


def is_plain(case):
    """Whether mergekit computes in the same precision and without a generator of its own."""
    if str(case.method).startswith("dare") or set(case.types.values()) != {"F32"}:
        return False
    return case.recipe.get("dtype", "float32") == "float32" and case.recipe.get("out_dtype", "float32") == "float32"


if __name__ == "__main__":
    main()
