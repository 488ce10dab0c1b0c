"""PEFT's side of Scripts/lib/interop-peft.

interop_peft.py CAIRN COUNT SEED

Makes COUNT random adapters for small random models, has PEFT load and merge each and cairn merge it by a recipe, and
compares every tensor. What cairn refuses is counted by what it says. Adapters that PEFT itself does not make or load are
drawn anew.
"""
import collections
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import warnings

import torch

warnings.filterwarnings("ignore")
torch.set_num_threads(1)
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MixtralConfig,
                          MixtralForCausalLM)
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
TYPES = [torch.float32, torch.bfloat16, torch.float16]


class ConvolutionNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 6, 3, padding=1)
        self.blocks = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Conv2d(6, 6, 1), torch.nn.BatchNorm2d(6), torch.nn.Conv2d(6, 6, (3, 2)))
            for _ in range(2))
        self.line = torch.nn.Conv1d(6, 5, 3)
        self.head = torch.nn.Linear(5, 4)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.line(x.flatten(2)).mean(2))


def llama(draw):
    bias = draw.random() < 0.4
    tied = draw.random() < 0.25
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=19, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=draw.choice([2, 4]), attention_bias=bias, mlp_bias=bias, tie_word_embeddings=tied))


def gpt2(draw):
    return GPT2LMHeadModel(GPT2Config(
        vocab_size=19, n_positions=8, n_embd=16, n_layer=2, n_head=2, add_cross_attention=draw.random() < 0.3))


def mixtral(draw):
    return MixtralForCausalLM(MixtralConfig(
        vocab_size=19, hidden_size=16, intermediate_size=draw.choice([12, 16, 8]), num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, num_local_experts=3))


def convolutions(draw):
    return ConvolutionNet()


KINDS = {
    llama: (["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], ["embed_tokens", "lm_head"]),
    gpt2: (["c_attn", "c_proj", "c_fc", "attn.c_proj", "q_attn"], ["wte", "lm_head"]),
    mixtral: (["q_proj", "k_proj", "o_proj"], ["embed_tokens"]),
    convolutions: (["stem", "0", "2", "line", "head"], []),
}


def patterns(draw, modules):
    """Keys as people write them: names, ends of names, regular expressions with and without anchors."""
    keys = {}
    for _ in range(draw.choice([0, 1, 2, 3])):
        module = draw.choice(modules)
        parts = module.split(".")
        key = draw.choice([
            parts[-1], ".".join(parts[-2:]), module, "^" + module, "^" + re.escape(module) + "$",
            ".*" + re.escape(parts[-1]), rf".*\.\d+\..*({parts[-1]}|nothing)$", f"(?:{parts[-1]}|x)",
            rf"[a-z]+\.\w+\.{parts[-1]}", rf".*\b{parts[-1]}\b", rf"(?!.*\.0\.).*{parts[-1]}",
            parts[-1][:-1] + ".", rf"(.*\.)?{parts[-1]}{{1,1}}", rf"layers\.[0]\..*", parts[-1][:2] + "+.*?",
        ])
        keys[key] = None
    return keys


def settings(draw, kind, model):
    names, embeddings = KINDS[kind]
    modules = [name for name, module in model.named_modules()
               if isinstance(module, (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d)) or type(module).__name__ == "Conv1D"]
    made = {"r": draw.choice([1, 2, 3, 4, 8]), "lora_alpha": draw.choice([1, 4, 8, 3, 7.5, 0]),
            "use_rslora": draw.random() < 0.3, "use_dora": draw.random() < 0.25}
    targets = draw.sample(names, draw.randint(1, len(names)))
    if draw.random() < 0.15 and embeddings:
        targets.append(draw.choice(embeddings))
    made["target_modules"] = targets
    if draw.random() < 0.2:
        made["target_modules"] = ".*(" + "|".join(re.escape(name) for name in targets) + ")"
    elif draw.random() < 0.1 and kind in (llama, gpt2):
        made["target_modules"] = "all-linear"
    elif draw.random() < 0.2 and kind is not convolutions:
        made["layers_to_transform"] = draw.choice([0, 1, [0, 1]])
    if draw.random() < 0.15:
        made["exclude_modules"] = draw.choice([[draw.choice(modules)], rf".*\.0\..*{draw.choice(names)}", draw.sample(names, 1)])
    made["alpha_pattern"] = {key: draw.choice([1, 2, 16, 5.5]) for key in patterns(draw, modules)}
    made["rank_pattern"] = {key: draw.choice([1, 2, 3, 5]) for key in patterns(draw, modules)}
    made["init_lora_weights"] = draw.choice(
        [True] * 8 + [False, "gaussian", "orthogonal", "eva", "mica", "pissa", "pissa_niter_2", "olora"])
    if draw.random() < 0.25:
        made["bias"] = draw.choice(["all", "lora_only"])
    if draw.random() < 0.12:
        made["lora_bias"] = True
    if draw.random() < 0.2 and embeddings:
        made["modules_to_save"] = draw.sample(embeddings + ["norm" if kind is not gpt2 else "ln_f"], 1)
    if draw.random() < 0.15 and embeddings:
        made["trainable_token_indices"] = draw.choice([[1, 3], {embeddings[0]: [0, 5, 2]}])
    if draw.random() < 0.1 and kind is llama:
        made["ensure_weight_tying"] = True
    if kind is mixtral and draw.random() < 0.8:
        made["target_parameters"] = draw.choice([
            ["mlp.experts.gate_up_proj"], ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"], ["experts.down_proj"],
            ["model.layers.1.mlp.experts.gate_up_proj"]])
        made["use_dora"] = made["lora_bias"] = False
        if draw.random() < 0.5:
            made["target_modules"] = []
        made["init_lora_weights"] = True
    elif kind is llama and draw.random() < 0.1:
        made["target_parameters"] = [draw.choice(["k_proj.weight", "layers.0.self_attn.v_proj.weight"])]
        made["use_dora"] = made["lora_bias"] = False
        made["target_modules"] = ["up_proj"]
    return made


def fill(model, generator):
    """Trained numbers for everything that the adapter trains."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator)
            if "magnitude" in name:
                parameter.data = (parameter.data.float() * (1 + 0.2 * noise)).to(parameter.dtype)
            else:
                parameter.data = (noise * 0.3).to(parameter.dtype)


def rewrite(draw, folder):
    """Other types, names and containers that adapters are found in."""
    path = os.path.join(folder, "adapter_model.safetensors")
    tensors = load_file(path)
    type = draw.choice([None, None, None, torch.bfloat16, torch.float16, torch.float64])
    if type:
        tensors = {name: tensor.to(type) for name, tensor in tensors.items()}
    if draw.random() < 0.2:
        torch.save(tensors, os.path.join(folder, "adapter_model.bin"))
        os.remove(path)
    else:
        save_file(tensors, path, metadata={"format": "pt"})


def prepare(draw, kind, seed, folder):
    """Saves a model and an adapter; returns the merged state as PEFT computes it, or None where PEFT cannot."""
    torch.manual_seed(seed)
    state = draw.getstate()
    type = draw.choice(TYPES) if draw.random() < 0.5 else torch.float32
    model = kind(draw).to(type)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.5)
    base = os.path.join(folder, "base")
    os.mkdir(base)
    if kind in (llama, gpt2):
        model.save_pretrained(base)
    else:
        # The names of the modules, as they are in memory.
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()},
                  os.path.join(base, "model.safetensors"), metadata={"format": "pt"})
    original = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    config = LoraConfig(**settings(draw, kind, model))
    adapter = os.path.join(folder, "adapter")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained = get_peft_model(model, config)
        fill(trained, torch.Generator().manual_seed(seed))
        trained.save_pretrained(adapter)
        rewrite(draw, adapter)
        again = draw.getstate()
        draw.setstate(state)
        draw.choice(TYPES) if draw.random() < 0.5 else None
        fresh = kind(draw).to(type)
        draw.setstate(again)
        fresh.load_state_dict(original)
        if hasattr(fresh, "tie_weights"):
            fresh.tie_weights()
        merged = PeftModel.from_pretrained(fresh, adapter).merge_and_unload()
    return merged.state_dict()


def compare(truth, found):
    """The greatest difference in units of the type's rounding, and how many tensors have the same bits."""
    problems, worst, same = [], 0.0, 0
    places = collections.defaultdict(list)
    for name, tensor in truth.items():
        places[tensor.data_ptr()].append(name)
    for name, tensor in truth.items():
        if name not in found:
            # Of tensors that are one, one is stored.
            if not any(other in found for other in places[tensor.data_ptr()] if other != name):
                problems.append(f"{name} is missing")
            continue
        other = found[name]
        if other.dtype != tensor.dtype or other.shape != tensor.shape:
            problems.append(f"{name} is {other.dtype} {list(other.shape)}, not {tensor.dtype} {list(tensor.shape)}")
            continue
        if torch.equal(tensor, other):
            same += 1
            continue
        if not tensor.is_floating_point():
            problems.append(f"{name} differs")
            continue
        unit = torch.finfo(tensor.dtype).eps
        one, two = tensor.double(), other.double()
        # Single precision is also that of the sums; what is rounded to half of it differs by a unit at most, rarely.
        scale = one.abs() if unit > 1e-6 else one.abs().max().expand_as(one)
        difference = ((one - two).abs() / (unit * scale + 1e-9)).max().item()
        worst = max(worst, difference)
        if not difference < (1.1 if unit > 1e-6 else 16):
            problems.append(f"{name} differs by {difference:.3g} units")
    problems += [f"{name} is too much" for name in found if name not in truth]
    return problems, worst, same


def main():
    cairn, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    outcome, reasons, undone = collections.Counter(), collections.Counter(), collections.Counter()
    worst = tensors = same = 0
    number = seed * 100000
    while sum(outcome.values()) < count:
        number += 1
        draw = random.Random(number)
        kind = draw.choice([llama, llama, llama, gpt2, gpt2, convolutions, mixtral])
        with tempfile.TemporaryDirectory() as folder:
            try:
                truth = prepare(draw, kind, number, folder)
            except Exception as error:
                undone[f"{type(error).__name__}: {str(error)[:70]}"] += 1
                continue
            with open(os.path.join(folder, "r.yml"), "w") as file:
                file.write("models:\n  - model: base+adapter\nmerge_method: passthrough\n")
            output = os.path.join(folder, "merged.safetensors")
            run = subprocess.run([cairn, "merge", "--recipe", os.path.join(folder, "r.yml"), "-o", output],
                                 capture_output=True, text=True)
            if run.returncode != 0:
                words = run.stderr.strip()
                if run.returncode != 2 or os.path.exists(output) or not words.splitlines()[-1].startswith("cairn: "):
                    outcome["wrong"] += 1
                    print(f"WRONG   {number} {kind.__name__}: exit {run.returncode}, {words[:300]}", flush=True)
                    continue
                outcome["refused"] += 1
                reason = re.sub(r'^cairn: \S+?(, tensor "[^"]*")?: ', "", words.splitlines()[-1])
                reasons[re.sub(r" \((found|expected).*|;.*", "", reason)] += 1
                if os.environ.get("VERBOSE"):
                    print(f"refused {number} {kind.__name__}: {words}")
                continue
            problems, difference, equal = compare(truth, load_file(output))
            if problems:
                outcome["wrong"] += 1
                with open(os.path.join(folder, "adapter", "adapter_config.json")) as file:
                    config = {key: value for key, value in json.load(file).items() if value}
                print(f"WRONG   {number} {kind.__name__}: {'; '.join(problems[:4])}\n        {config}", flush=True)
                continue
            outcome["equal"] += 1
            worst, tensors, same = max(worst, difference), tensors + len(truth), same + equal
    print(f"{count} adapters from seed {seed}: {dict(outcome)}")
    print(f"of {tensors} tensors {same} have PEFT's bits; the greatest difference is {worst:.3g} units of rounding")
    for reason, times in reasons.most_common():
        print(f"  refused {times}: {reason}")
    print(f"  {sum(undone.values())} that PEFT itself refused")
    if os.environ.get("VERBOSE"):
        for reason, times in undone.most_common():
            print(f"    {times}: {reason}")
    sys.exit(outcome["wrong"] > 0 or outcome["equal"] == 0)


main()
