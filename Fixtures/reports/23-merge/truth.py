"""Writes expected.json: the right values of every recipe in this folder, and the words of the refusals.

    truth.py            needs NumPy and PyYAML

mergekit 0.1.5 gives the same values where it computes in single precision or more, and elsewhere other ones: in 16 bits for
bfloat16, none for a NaN, noise for directions that cancel out. So the values are those of the formulas, computed by NumPy
in extended precision (Scripts/lib/interop_merges.py, written apart from Cairn; it is held beside mergekit by
`Scripts/interop merges`), and rounded once. `cairn merge` adds up in double precision here, so that it has to round to the
same bits.
"""
import hashlib
import json
import os
import struct
import sys

import numpy as np
import yaml

sys.dont_write_bytecode = True
here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "..", "..", "..", "Scripts", "lib"))
import interop_merges as formulas

SMALL = {
    # One element each, on either side of the base: what Llama 3.2 Vision has as gates.
    "gates": {"base": {"gate.0": [2.0], "gate.1": [-1.0], "gate.2": [0.25], "scalar": 0.5},
              "one": {"gate.0": [2.5], "gate.1": [-0.5], "gate.2": [0.5], "scalar": 0.75},
              "other": {"gate.0": [1.9], "gate.1": [-1.125], "gate.2": [0.375], "scalar": 0.25}},
    # The same direction forward and back, exactly, but for a part in a thousand, and in a million.
    "opposite": {"plain": {"x.weight": [[3, -2, 0.5], [1, 4, -1]]}, "back": {"x.weight": [[-1.5, 1, -0.25], [-0.5, -2, 0.5]]},
                 "nearly": {"x.weight": [[-1.5, 1.0015, -0.25], [-0.5, -2, 0.5]]},
                 "closely": {"x.weight": [[-1.5, 1, -0.25], [-0.5, -2, 0.5000005]]}, "zero": {"x.weight": [[0.0] * 3] * 2}},
    "spoilt": {"base": {"x.weight": [1.0, 1, 1, 1, 1, 1]}, "one": {"x.weight": [2.0, float("nan"), 0.5, 3, -1, 1.25]},
               "two": {"x.weight": [0.25, 2.5, 1.5, 1, -2, 8]}},
    "buffers": {"old": {"x.weight": [1.0, 2], "rotary_emb.inv_freq": [1.0, 0.5]}, "new": {"x.weight": [3.0, 1]}},
}


def write_inputs():
    for folder, files in SMALL.items():
        os.makedirs(os.path.join(here, folder), exist_ok=True)
        for name, tensors in files.items():
            formulas.save(os.path.join(here, folder, name + ".safetensors"),
                          {n: ("F32", np.array(v, dtype=np.float64)) for n, v in tensors.items()})


def read(model):
    path = os.path.join(here, model)
    found = formulas.load(os.path.join(path, "model.safetensors") if os.path.isdir(path) else path)
    kinds = {kind for kind, _ in found.values()}
    assert len(kinds) == 1
    return {name: values for name, (_, values) in found.items()}, kinds.pop()


def expected(text):
    recipe = yaml.safe_load(text)
    lists = [recipe.get("models") or []] + [s["sources"] for s in recipe.get("slices") or []]
    models = {s["model"] for sources in lists for s in sources} | ({recipe["base_model"]} if recipe.get("base_model") else set())
    recipe = {key: value for key, value in recipe.items() if value is not None}
    order = [s["model"] for sources in lists for s in sources]
    read_models = {model: read(model) for model in sorted(models, key=lambda m: order.index(m) if m in order else 99)}
    found, refusals = formulas.Recipe(
        recipe, {m: t for m, (t, _) in read_models.items()}, {m: k for m, (_, k) in read_models.items()}, precise=True).expected()
    assert not refusals, refusals
    exact, coarse, is_exact = {}, {}, True
    for name, (kind, options) in found.items():
        values = np.asarray(options[0][0], dtype=np.longdouble)

        def digest(kind):
            raw = formulas.encode(values.astype(np.float64), kind)
            # A sum whose sign is not certain would be no case.
            assert all(formulas.encode(np.asarray(o[0]).astype(np.float64), kind) == raw for o in options), name
            return [kind, list(values.shape), hashlib.sha256(raw).hexdigest()]

        def is_determined(kind, part):
            up, down = (formulas.rounded((values * (1 + np.longdouble(d))).astype(np.float64), kind) for d in (part, -part))
            halfway = (up.astype(np.longdouble) + down) / 2
            return not ((up != down) & np.isfinite(up) & (values != halfway)).any()

        # Of weights such as 0.1 many sums are halfway between two numbers but for the weight's rounding: the sum of
        # doubles decides then. The coarser type tells.
        is_exact = is_exact and is_determined(kind, 1e-15)
        exact[name] = digest(kind)
        if kind == "F32":
            assert is_exact or is_determined("BF16", 1e-7), name
            coarse[name] = digest("BF16")
    return exact if is_exact else coarse, is_exact


def two(method, one, other, parameters="", base=None):
    top = f"base_model: {base}\n" if base else ""
    return f"merge_method: {method}\n{top}models: [{{model: {one}}}, {{model: {other}}}]\nparameters: {{{parameters}}}\n"


GATES, OPPOSITE, SPOILT = (lambda n: f"gates/{n}.safetensors"), (lambda n: f"opposite/{n}.safetensors"), (lambda n: f"spoilt/{n}.safetensors")
three = lambda method, parameters: (
    f"merge_method: {method}\nbase_model: {SPOILT('base')}\nmodels: [{{model: {SPOILT('one')}}}, {{model: {SPOILT('two')}}}]\n"
    f"parameters: {{{parameters}}}\n")

# Recipes that are written beside those of the reports: name to text.
MORE = {
    "gates_multislerp": two("multislerp", GATES("one"), GATES("other"), "weight: 1", GATES("base")),
    "opposite_multislerp": two("multislerp", OPPOSITE("plain"), OPPOSITE("back"), "weight: 1"),
    "opposite_karcher": two("karcher", OPPOSITE("plain"), OPPOSITE("back")),
    "nearly_multislerp": two("multislerp", OPPOSITE("plain"), OPPOSITE("nearly"), "weight: 1"),
    "nearly_karcher": two("karcher", OPPOSITE("plain"), OPPOSITE("nearly"), "max_iter: 50, tol: 1e-9"),
    "closely_multislerp": two("multislerp", OPPOSITE("plain"), OPPOSITE("closely"), "weight: 1", OPPOSITE("zero")),
    "nan_ties": three("ties", "weight: 1, density: 0.5"),
    "nan_breadcrumbs_ties": three("breadcrumbs_ties", "weight: 1, density: 0.5, gamma: 0.2"),
    "nan_task_arithmetic": three("task_arithmetic", "weight: 0.5"),
    "nan_dare_ties": three("dare_ties", "weight: 1, density: 0.5"),
    "nan_slerp": two("slerp", SPOILT("one"), SPOILT("base"), "t: 0.5", SPOILT("base")),
    "nan_model_stock": three("model_stock", ""),
    "cancels": f"merge_method: multislerp\nmodels: [{{model: {OPPOSITE('plain')}, parameters: {{weight: 2}}}}, "
               f"{{model: {OPPOSITE('back')}}}, {{model: {OPPOSITE('back')}}}]\nparameters: {{weight: 1}}\n",
    "inv_freq": two("linear", "buffers/old.safetensors", "buffers/new.safetensors", "weight: 1"),
    "bom": "\ufeff" + two("linear", "a", "b", "weight: 1"),
    "booleans": two("linear", "a", "b", "weight: 2, normalize: No"),
    "not_boolean": two("linear", "a", "b", "weight: 2, normalize: nope"),
    "octal": two("linear", "a", "b", "weight: 010"),
    "sexagesimal": two("linear", "a", "b", "weight: 1:30"),
    "infinite": two("linear", "a", "b", "weight: .inf"),
    "null_slices": two("linear", "a", "b", "weight: 1") + "slices: null\n",
    "merge_key": "merge_method: linear\nmodels:\n  - model: a\n    parameters: &p {weight: 0.25}\n  - model: b\n    parameters: {<<: *p}\n",
    "filter_fits_nothing": two("linear", "a", "b", "weight: [{filter: block_sparse_moe, value: 5}, {value: 1}]"),
    "idle": two("linear", "a", "b", "weight: 1, density: 0.5"),
    "base_twice": "merge_method: task_arithmetic\nbase_model: a\nmodels: [{model: a}, {model: b}, {model: a}]\nparameters: {weight: 1}\n",
    "slices_base": "merge_method: multislerp\nbase_model: c\nslices: [{sources: [{model: a, layer_range: [0, 4]}, {model: b, layer_range: [0, 4]}]}]\n"
                   "parameters: {weight: 0.5}\n",
}

# Recipes that are refused: the words.
REFUSED = {
    "bad_dtype": ["bad_dtype.yml", "line 6", "bfloat", "float32, bfloat16, float16 or float64"],
    "beyond": ["has no layer 4"],
    "della": ["line 3", "the merge method is not known", "della"],
    "filters_no_default": ["filters_no_default.yml", "does not say a tensor's t"],
    "hub": ["mistralai/Mistral-7B-v0.1", "names of a hub are not downloaded"],
    "layers": ["model.layers.4.input_layernorm.weight", "deep6"],
    "multi": ["multi.yml", "a second document begins"],
    "not": ["does not say a tensor's t"], "noweight": ["does not say a tensor's weight"],
    "tabs": ["tabs.yml", "line 2"], "tied_untied": ["untied", "lm_head.weight"], "untied_tied": ["lm_head.weight"],
    "ties_big": ["ties_big.yml", "line 3", "from 0 to 1", "1.5"], "ties_neg": ["line 3", "from 0 to 1", "-0.5"],
    "ties_nan": ["line 3", ".nan"], "unknown_key": ["merge_methd"],
    "vocab": ["model.embed_tokens.weight", "[33, 8]"], "vocab_union": ["tokenizers are not merged", "line 7"],
    "zero_sum": ["the weights add up to zero"],
    "nan_dare_ties": ["x.weight", "one.safetensors", "NaN"], "nan_slerp": ["x.weight", "one.safetensors", "NaN"],
    "nan_model_stock": ["x.weight", "one.safetensors", "NaN"],
    "cancels": ["x.weight", "cancel"],
    "not_boolean": ["not_boolean.yml", "line 3", "true or false", "nope"], "octal": ["octal.yml", "line 3", "leading zeros", "010"],
    "sexagesimal": ["line 3", "1:30"], "infinite": ["line 3", ".inf"],
    "filter_fits_nothing": ["filter_fits_nothing.yml", "line 3", "block_sparse_moe", "fits no tensor"],
    "base_twice": ["more than once"], "slices_base": ["needs a base"], "inv_freq": ["rotary_emb.inv_freq", "is missing"],
}

SAYS = {
    "ties_zero": ["density is 0", "b in 22 tensors"], "idle": ["parameters.density"],
    "dare_grad": ["int8_mask"], "nan_task_arithmetic": [],
}


def main():
    write_inputs()
    for name, text in MORE.items():
        with open(os.path.join(here, name + ".yml"), "w") as file:
            file.write(text)
    cases = []
    for file in sorted(os.listdir(here)):
        name, kind = os.path.splitext(file)
        if kind != ".yml":
            continue
        run = ["merge", "{in}/" + file, "-o", "{out}/merged.safetensors", "--accumulate", "double"]
        case = {"what": name, "run": [run]}
        if name in REFUSED:
            case |= {"exit": 2, "says": REFUSED[name], "never_says": ["MergeMethodProblem"], "absent": ["{out}/merged.safetensors"]}
        else:
            with open(os.path.join(here, file)) as text:
                digests, is_exact = expected(text.read().lstrip("\ufeff"))
            if is_exact:
                case |= {"digest": "{out}/merged.safetensors", "tensors": digests}
            else:
                case |= {"digest": "{out}/coarse.safetensors", "tensors": digests}
                case["run"].append(["convert", "{out}/merged.safetensors", "{out}/coarse.safetensors", "--to", "safetensors", "--dtype", "BF16"])
            if SAYS.get(name):
                case["says"] = SAYS[name]
            elif name not in SAYS:
                case["never_says"] = ["note:"]
        cases.append(case)
    # The way out for a tensor that one model has.
    found = {"x.weight": ["F32", [2], hashlib.sha256(struct.pack("<2f", 2, 1.5)).hexdigest()]}
    cases.append({"what": "inv_freq left out", "digest": "{out}/merged.safetensors", "tensors": found,
                  "run": [["merge", "{in}/inv_freq.yml", "-o", "{out}/merged.safetensors", "--exclude", "*.inv_freq"]]})
    cases.append({"what": "a pattern that fits nothing", "exit": 2, "says": ["*.inv_frq"], "absent": ["{out}/merged.safetensors"],
                  "run": [["merge", "{in}/inv_freq.yml", "-o", "{out}/merged.safetensors", "--exclude", "*.inv_freq", "--exclude", "*.inv_frq"]]})
    cases.append({"what": "a model listed twice in the lineage", "prints": ['"coefficient": 1.1'],
                  "run": [["merge", "{in}/twice.yml", "-o", "{out}/merged.safetensors", "--json"]]})
    with open(os.path.join(here, "expected.json"), "w") as file:
        json.dump({"cases": cases}, file, indent=1)
        file.write("\n")


main()
