"""Writes expected.json: what PEFT's merge_and_unload makes of the adapters here (peft 0.21.2, torch 2.13), and which are
refused. Run with a Python that has torch, transformers, peft and safetensors; also for ../30-peft-reload, by its path.

    python truth.py [FOLDER]

Each NAME.yml merges the model and the adapter that it names. Adapters that the tool is known to refuse are listed below with
the words that it must say.
"""
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import warnings

import torch

warnings.filterwarnings("ignore")
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers.pytorch_utils import Conv1D

BEGINS = "may change the model's weights before training"
REFUSED = {
    "alora": ["alora_invocation_tokens"], "corda": [BEGINS, "corda"], "olora": [BEGINS, "olora"], "pissa": [BEGINS, "pissa"],
    "pissa_niter": [BEGINS, "pissa_niter_4"], "layer_replication": ["layer_replication"], "qalora_flag": ["use_qalora"],
    "unknown_future": ["not understood", "use_hyper_scale"], "peft_adalora": ["only LoRA", "AdaLoRA"],
    "no_alpha": ["lora_alpha"], "no_config": ["adapter_config.json"],
    "lost_B": ["lacks its other", "lora_B of model.layers.0.mlp.down_proj"],
    "short_prefix": ["the model lacks", "layers.0.mlp.down_proj.weight", "the model has model.layers.0.mlp.down_proj.weight"],
    "tied_head": ["the model lacks", "lm_head.weight", "tied"], "tied_both": ["the model lacks", "lm_head.weight", "tied"],
    "trainable_tok_cfg_only": ["trainable_tokens_delta"],
}
# PEFT's sums over rows run in another order, so that their last bits differ.
ROUNDED = {"dora"}
TYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}


class Holder(torch.nn.Module):
    """A module of the model: its children are put in by name."""

    def forward(self, *arguments):
        raise NotImplementedError


def layer(name, weight, bias):
    if "emb" in name:
        return torch.nn.Embedding(*weight.shape)
    if weight.dim() == 4:
        outputs, inputs, *kernel = weight.shape
        return torch.nn.Conv2d(inputs, outputs, kernel)
    if name == "c_attn":
        return Conv1D(weight.shape[1], weight.shape[0])
    return torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)


def build(folder):
    state = load_file(os.path.join(folder, "model.safetensors"))
    model = Holder()
    tied = "lm_head.weight" not in state and "model.embed_tokens.weight" in state
    for key in sorted(state):
        if not key.endswith(".weight"):
            continue
        *path, last = key[: -len(".weight")].split(".")
        place = model
        for part in path:
            if part not in dict(place.named_children()):
                place.add_module(part, Holder())
            place = getattr(place, part)
        place.add_module(last, layer(last, state[key], state.get(key[: -len("weight")] + "bias")))
    if tied:
        embedding = model.model.embed_tokens
        model.lm_head = torch.nn.Linear(embedding.embedding_dim, embedding.num_embeddings, bias=False)
    model = model.to(next(iter(state.values())).dtype)
    model.load_state_dict(state, strict=not tied)
    if tied:
        model.lm_head.weight = model.model.embed_tokens.weight
    if "model.embed_tokens.weight" in state:
        model.get_input_embeddings = lambda: model.model.embed_tokens
    return model, state


def merged(base, adapter):
    model, state = build(base)
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(adapter, copy, dirs_exist_ok=True)
        path = os.path.join(copy, "adapter_model.safetensors")
        if os.path.exists(path):
            tensors = load_file(path)
            if not any(name.startswith("base_model.model.") for name in tensors):
                # Saved from a model that the adapter was injected into.
                save_file({"base_model.model." + name: tensor for name, tensor in tensors.items()}, path)
        result = PeftModel.from_pretrained(model, copy).merge_and_unload()
    truth = result.state_dict()
    if "lm_head.weight" in truth and "lm_head.weight" not in state:
        if torch.equal(truth["lm_head.weight"], truth["model.embed_tokens.weight"]):
            del truth["lm_head.weight"]
    return truth


def digest(tensor):
    data = tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()
    return [TYPES[tensor.dtype], list(tensor.shape), hashlib.sha256(data).hexdigest()]


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    cases = []
    for recipe in sorted(os.listdir(folder)):
        if not recipe.endswith(".yml"):
            continue
        base, name = re.search(r"model: (\S+)\+(\S+)", open(os.path.join(folder, recipe)).read()).groups()
        case = {"what": f"an adapter, {name}", "run": [["merge", "--recipe", f"{{in}}/{recipe}", "-o", "{out}/m.safetensors"]]}
        if name in REFUSED:
            case.update({"exit": 2, "says": REFUSED[name], "absent": ["{out}/m.safetensors"]})
        else:
            truth = merged(os.path.join(folder, base), os.path.join(folder, name))
            if name in ROUNDED:
                save_file(truth, os.path.join(folder, f"{name}-truth.safetensors"))
                case["run"].append(["diff", "{out}/m.safetensors", f"{{in}}/{name}-truth.safetensors", "--tolerance", "1e-6"])
            else:
                case.update({"digest": "{out}/m.safetensors",
                             "tensors": {key: digest(tensor) for key, tensor in sorted(truth.items())}})
        cases.append(case)
    with open(os.path.join(folder, "expected.json"), "w") as file:
        json.dump({"cases": cases}, file, indent=1)
        file.write("\n")


main()
