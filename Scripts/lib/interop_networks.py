"""Networks of the Transformers library with their units in another order: they must compute what they did.

    interop_networks.py CAIRN [FAMILY…]

Of each family two tiny models are made at random, norms and biases too. `cairn align` rearranges the second to be like the
first; the library loads the result, and its logits must be those of the second to within 1e-5. Heads that are said wrongly,
and a tensor that nothing names, must be refused.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")
import safetensors.torch
import torch
import transformers

COMMON = dict(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, pad_token_id=None, bos_token_id=None, eos_token_id=None)
EXPERTS = dict(num_experts=4, num_experts_per_tok=2)
FAMILIES = {
    "llama": ("LlamaConfig", dict(attention_bias=True, mlp_bias=True)),
    "llama-mha": ("LlamaConfig", dict(num_key_value_heads=4)),
    "mistral": ("MistralConfig", dict(head_dim=16)),
    "mixtral": ("MixtralConfig", dict(num_local_experts=4)),
    "qwen2": ("Qwen2Config", {}),
    "qwen2_moe": ("Qwen2MoeConfig", dict(moe_intermediate_size=24, shared_expert_intermediate_size=40, **EXPERTS)),
    "qwen3": ("Qwen3Config", dict(head_dim=16)),
    "qwen3_moe": ("Qwen3MoeConfig", dict(head_dim=16, moe_intermediate_size=24, **EXPERTS)),
    "gemma": ("GemmaConfig", dict(head_dim=16)),
    "gemma2": ("Gemma2Config", dict(head_dim=16)),
    "gemma3_text": ("Gemma3TextConfig", dict(head_dim=16)),
    "olmo": ("OlmoConfig", {}),
    "olmo2": ("Olmo2Config", {}),
    "olmo3": ("Olmo3Config", {}),
    "olmoe": ("OlmoeConfig", EXPERTS),
    "phi3": ("Phi3Config", {}),
    "granite": ("GraniteConfig", {}),
    "smollm3": ("SmolLM3Config", {}),
    "stablelm": ("StableLmConfig", {}),
    "cohere": ("CohereConfig", dict(use_qk_norm=True)),
    "nemotron": ("NemotronConfig", {}),
    "starcoder2": ("Starcoder2Config", {}),
}
TOLERANCE = 1e-5
failures = 0


def report(is_right, text):
    global failures
    failures += not is_right
    print("ok    " if is_right else "FAILED", text, flush=True)


def make(config, seed, folder):
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # As they are made, norms are ones and biases zeros, whose order cannot be seen.
            parameter.normal_(0, 0.1 if parameter.dim() > 1 else 0.3)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)
    model.save_pretrained(folder)
    return model


def logits(model):
    generator = torch.Generator().manual_seed(7)
    tokens = torch.randint(0, COMMON["vocab_size"], (3, 17), generator=generator)
    with torch.no_grad():
        return model(tokens).logits


def run(*arguments):
    return subprocess.run([str(argument) for argument in arguments], capture_output=True, text=True)


def check(cairn, family, is_tied, work):
    kind, options = FAMILIES[family]
    config = getattr(transformers, kind)(**{**COMMON, **options, "tie_word_embeddings": is_tied})
    title = family + (", tied" if is_tied else "")
    first, second, out = work / "first", work / "second", work / "out"
    make(config, 1, first)
    expected = logits(make(config, 2, second))
    for extra in ([], ["--keep-residual"]):
        shutil.rmtree(out, ignore_errors=True)
        done = run(cairn, "align", first, second, "--network", "llama", "-o", out, "--to", "safetensors", "--json", *extra)
        if done.returncode:
            report(False, f"{title} {' '.join(extra)}: {done.stderr.strip()}")
            continue
        shutil.copy(second / "config.json", out)
        found = logits(transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval())
        distance = (found - expected).abs().max().item()
        said = json.loads(done.stdout)
        report(
            distance <= TOLERANCE and said["moved"] > 10,
            f"{title} {' '.join(extra)}: {said['moved']} of {said['units']} units moved, logits up to "
            f"{expected.abs().max().item():.2f} are {distance:.1e} apart")
    refuse(cairn, title, first, second, work)


def refuse(cairn, title, first, second, work):
    heads = json.loads((second / "config.json").read_text())["num_attention_heads"]
    done = run(cairn, "align", first, second, "--network", "llama", "--heads", heads // 2, "-o", work / "no.safetensors")
    report(done.returncode == 2 and "config.json" in done.stderr, f"{title}: {heads // 2} heads are refused")
    # A norm of another name is one that nothing names.
    other = work / "other"
    shutil.rmtree(other, ignore_errors=True)
    other.mkdir()
    tensors = safetensors.torch.load_file(second / "model.safetensors")
    tensors["model.layers.1.another_norm.weight"] = torch.ones(COMMON["hidden_size"])
    safetensors.torch.save_file(tensors, other / "model.safetensors")
    shutil.copy(second / "config.json", other)
    done = run(cairn, "align", first, other, "--network", "llama", "-o", work / "no.safetensors")
    report(
        done.returncode == 2 and "another_norm" in done.stderr and not (work / "no.safetensors").exists(),
        f"{title}: a tensor that nothing names is refused")


def main():
    cairn, families = sys.argv[1], sys.argv[2:] or list(FAMILIES)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for family in families:
        for is_tied in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                check(cairn, family, is_tied, pathlib.Path(folder))
    sys.exit(failures > 0)


main()
