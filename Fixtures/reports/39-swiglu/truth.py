"""Writes expected.json: what the shards of two tensor-parallel ranks are, by Megatron-Core's conventions, with NumPy alone.

Each rank holds [gate; up] of its own part of the hidden units in linear_fc1 (swiglu), and its groups of heads in linear_qkv, in
each group the queries, the key and the value. hf.safetensors is the model that was divided; it must come out again.
"""

import hashlib
import json
import os

import numpy as np
from safetensors.numpy import load_file

HEADS, GROUPS, WIDTH, RANKS = 4, 4, 4, 2
here = os.path.dirname(os.path.abspath(__file__))
shards = [load_file(f"{here}/shards/rank-{rank:05}.safetensors") for rank in range(RANKS)]


def joined(name, axis):
    return np.concatenate([shard[name] for shard in shards], axis)


def united(plain):
    layer = "decoder.layers.0."
    whole = {"final_norm.weight": shards[0]["decoder.final_layernorm.weight"]}
    whole["embedding.token.weight"] = joined("embedding.word_embeddings.weight", 0)
    whole["head.weight"] = joined("output_layer.weight", 0)
    for kind in ("weight", "bias"):
        # Of each rank its half of the gate, then its half of the other matrix.
        halves = [np.split(shard[layer + f"mlp.linear_fc1.{kind}"], 2) for shard in shards]
        whole[f"layers.0.perceptron.gate.{kind}"] = np.concatenate([half[0] for half in halves])
        whole[f"layers.0.perceptron.up.{kind}"] = np.concatenate([half[1] for half in halves])
    whole["layers.0.perceptron.down.weight"] = joined(layer + "mlp.linear_fc2.weight", 1)
    whole["layers.0.attention.projection.weight"] = joined(layer + "self_attention.linear_proj.weight", 1)
    whole["layers.0.attention.norm.weight"] = shards[0][layer + "self_attention.linear_qkv.layer_norm_weight"]
    whole["layers.0.perceptron.norm.weight"] = shards[0][layer + "mlp.linear_fc1.layer_norm_weight"]
    qkv = joined(layer + "self_attention.linear_qkv.weight", 0)
    groups = qkv.reshape(GROUPS, HEADS // GROUPS + 2, WIDTH, -1)
    for name, part in (("query", groups[:, :-2]), ("key", groups[:, -2:-1]), ("value", groups[:, -1:])):
        whole[f"layers.0.attention.{name}.weight"] = part.reshape(-1, qkv.shape[1])
    if plain:
        return whole
    names = {
        "embedding.token": "model.embed_tokens", "head": "lm_head", "final_norm": "model.norm",
        "attention.query": "self_attn.q_proj", "attention.key": "self_attn.k_proj", "attention.value": "self_attn.v_proj",
        "attention.projection": "self_attn.o_proj", "attention.norm": "input_layernorm",
        "perceptron.norm": "post_attention_layernorm", "perceptron.gate": "mlp.gate_proj", "perceptron.up": "mlp.up_proj",
        "perceptron.down": "mlp.down_proj",
    }
    renamed = {}
    for name, array in whole.items():
        stem, kind = name.rsplit(".", 1)
        inner = stem.removeprefix("layers.0.")
        renamed[("model.layers.0." if inner != stem else "") + names[inner] + "." + kind] = array
    return renamed


def digests(tensors):
    return {
        name: ["F32", list(array.shape), hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()]
        for name, array in sorted(tensors.items())
    }


def main():
    hugging = united(plain=False)
    original = load_file(f"{here}/hf.safetensors")
    assert hugging.keys() == original.keys()
    assert all(np.array_equal(hugging[name], original[name]) for name in original)
    mesh = ["--mesh", "pp=1,dp=1,tp=2"]

    def convert(rules):
        return ["convert", "{in}/shards", "{out}/o.safetensors", "--to", "safetensors", "--rules", "{in}/" + rules, *mesh]

    refusal = ["linear_fc1.weight", "gated", "48 rows", "24 columns", "sections: 2", "megatron-gpt-gated"]
    cases = [
        {"what": "rules for a plain perceptron on a gated one", "run": [convert("gpt.yaml")], "exit": 2, "says": refusal,
         "absent": ["{out}/o.safetensors"]},
        {"what": "the same by rules check", "run": [["rules", "check", "{in}/gpt.yaml", "{in}/shards", *mesh]], "exit": 1,
         "prints": refusal},
        {"what": "rules of a Llama", "run": [convert("llama.yaml")], "digest": "{out}/o.safetensors",
         "tensors": digests(hugging)},
        {"what": "rules of a gated GPT", "run": [convert("gpt-gated.yaml")], "digest": "{out}/o.safetensors",
         "tensors": digests(united(plain=True))},
        {"what": "divided again by them and united",
         "run": [["rules", "divide", "{in}/llama.yaml", "{in}/hf.safetensors", "{out}/again", *mesh],
                 ["convert", "{out}/again", "{out}/o.safetensors", "--to", "safetensors", "--rules", "{in}/llama.yaml", *mesh]],
         "digest": "{out}/o.safetensors", "tensors": digests(hugging)},
    ]
    with open(f"{here}/expected.json", "w") as file:
        json.dump({"cases": cases}, file, indent=1)
        file.write("\n")


main()
