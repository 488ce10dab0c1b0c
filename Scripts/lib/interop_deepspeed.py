"""DeepSpeed's side of Scripts/lib/interop-deepspeed.

train DIR STAGE RANKS PRECISION   trains two steps and saves DIR/source and DIR/truth.json
load DIR STAGE RANKS PRECISION    loads DIR/cairn as a universal checkpoint and compares with DIR/truth.json
compare CAIRN OWN NAME            compares two universal checkpoints file by file
weights DIR FILE NAME             compares the weights of a file with those that zero_to_fp32 makes of a checkpoint
"""
import contextlib
import glob
import hashlib
import io
import json
import logging
import os
import sys

os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("LOCAL_SIZE", "1")
import torch
import torch.multiprocessing as multiprocessing
import gloo_process

VOCABULARY, WIDTH, LENGTH = 101, 30, 13


class Model(torch.nn.Module):
    """Two groups of options, an odd vocabulary, a tied weight, a buffer."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.layers = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.LayerNorm(WIDTH), torch.nn.Linear(WIDTH, 51), torch.nn.GELU(),
                                torch.nn.Linear(51, WIDTH)) for _ in range(2))
        self.head = torch.nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("scale", torch.tensor([0.5, 2.0]))

    def forward(self, tokens):
        hidden = self.embed(tokens)
        for layer in self.layers:
            hidden = hidden + layer(hidden) * self.scale[0].to(hidden.dtype)
        return self.head(hidden)


def options(stage, precision, universal=False):
    made = {
        "train_micro_batch_size_per_gpu": 2, "gradient_clipping": 1.0,
        "optimizer": {"type": "AdamW", "params": {"lr": 3e-4, "betas": [0.9, 0.95], "torch_adam": True}},
        "zero_optimization": {"stage": stage}, "checkpoint": {"load_universal": universal},
    }
    if precision == "bf16":
        made["bf16"] = {"enabled": True}
    if stage == 3:
        made["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    return made


def start(rank, ranks, stage, precision, seed, universal):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1")
    torch.set_num_threads(1)
    import deepspeed
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    deepspeed.init_distributed("gloo", verbose=False)
    torch.manual_seed(seed)
    made = options(stage, precision, universal)
    if stage == 3:
        kind = torch.bfloat16 if precision == "bf16" else torch.float32
        with deepspeed.zero.Init(config_dict_or_path=made, dtype=kind):
            model = Model()
    else:
        model = Model()
    def many(p): return len(getattr(p, "ds_shape", p.shape)) >= 2
    groups = [{"params": [p for p in model.parameters() if many(p)], "weight_decay": 0.1},
              {"params": [p for p in model.parameters() if not many(p)], "weight_decay": 0.0}]
    return deepspeed.initialize(model=model, model_parameters=groups, config=made)[0]


def digest(tensor):
    return hashlib.sha256(tensor.detach().cpu().contiguous().float().numpy().tobytes()).hexdigest()


def states(engine, stage):
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state
    if stage in (1, 2):
        # What is loaded or stepped is linked to parameters only on demand.
        engine.optimizer._hp_optimizer_states_linked = False
        engine.optimizer._lazy_init_hp_params_optimizer_state()
    found = {}
    for name, parameter in engine.module.named_parameters():
        if stage == 0:
            state = engine.optimizer.state[parameter]
            parts = {"fp32": parameter, "exp_avg": state["exp_avg"], "exp_avg_sq": state["exp_avg_sq"]}
        else:
            parts = {"fp32": safe_get_full_fp32_param(parameter)}
            for key in ("exp_avg", "exp_avg_sq"):
                parts[key] = safe_get_full_optimizer_state(parameter, key)
        for key, tensor in parts.items():
            found[f"{name}.{key}"] = digest(tensor)
    return found


def run(rank, work, *arguments):
    work(rank, *arguments)
    gloo_process.leave()


def train(rank, ranks, directory, stage, precision):
    engine = start(rank, ranks, stage, precision, seed=5, universal=False)
    generator = torch.Generator().manual_seed(11 + rank)
    for _ in range(2):
        tokens = torch.randint(0, VOCABULARY, (2, LENGTH), generator=generator)
        output = engine(tokens).float()
        loss = torch.nn.functional.cross_entropy(output.reshape(-1, VOCABULARY), tokens.reshape(-1))
        engine.backward(loss)
        engine.step()
    found = states(engine, stage)
    engine.save_checkpoint(os.path.join(directory, "source"), tag="step", client_state={"epoch": 1})
    if rank == 0:
        with open(os.path.join(directory, "truth.json"), "w") as file:
            json.dump(found, file)


def load(rank, ranks, directory, stage, precision):
    engine = start(rank, ranks, stage, precision, seed=99, universal=True)
    path, client = engine.load_checkpoint(os.path.join(directory, "cairn"))
    assert path is not None, "nothing was loaded"
    assert engine.global_steps == 2, engine.global_steps
    assert client["epoch"] == 1, client
    found = states(engine, stage)
    with open(os.path.join(directory, "truth.json")) as file:
        truth = json.load(file)
    different = [name for name in truth if truth[name] != found.get(name)]
    assert not different, f"{len(different)} of {len(truth)} differ: {different[:4]}"
    # A step must go on from the loaded one.
    step = [state["step"] for state in engine.optimizer.optimizer.state.values() if "step" in state]
    assert step and all(float(value) == 2 for value in step), step
    if rank == 0:
        print(f"{len(truth)} tensors equal, step {float(step[0]):.0f}")


def compare(first, second, name):
    """Every state that DeepSpeed's converter wrote, but for what is no state of a parameter."""
    def zero(directory): return glob.glob(os.path.join(directory, "*", "zero"))[0]
    files = sorted(glob.glob(os.path.join(zero(first), "*", "*.pt")))
    different, equal = [], 0
    def tensor(path):
        held = torch.load(path, weights_only=False)
        return held["param"] if isinstance(held, dict) else held
    for path in files:
        other = os.path.join(zero(second), *path.split(os.sep)[-2:])
        if not os.path.exists(other):
            # Stage 3 writes no steps.
            if not path.endswith("step.pt"):
                different.append(path)
            continue
        mine, own = tensor(path), tensor(other)
        same = (float(mine) == float(own)) if path.endswith("step.pt") else torch.equal(mine.reshape(-1), own.reshape(-1))
        equal += same
        if not same:
            different.append(path)
    theirs = {tuple(p.split(os.sep)[-2:]) for p in glob.glob(os.path.join(zero(second), "*", "exp_avg*.pt"))}
    missing = theirs - {tuple(p.split(os.sep)[-2:]) for p in files}
    verdict = "equal" if not different and not missing else f"DIFFERENT: {different[:3]} {list(missing)[:3]}"
    print(f"{name:34} {equal} files of DeepSpeed's converter: {verdict}")
    return not different and not missing


def weights(source, converted, name):
    """The weights that DeepSpeed's own script makes of a checkpoint; it casts buffers to single precision."""
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint
    with contextlib.redirect_stdout(io.StringIO()):
        expected = get_fp32_state_dict_from_zero_checkpoint(source)
    found = torch.load(converted, weights_only=True)
    different = [key for key, value in expected.items() if key not in found or not torch.equal(found[key].float(), value)]
    print(f"{name:34} {len(expected)} weights of zero_to_fp32: " + (f"DIFFERENT: {different[:3]}" if different else "equal"))
    return not different


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command in ("compare", "weights"):
        sys.exit(0 if {"compare": compare, "weights": weights}[command](*arguments) else 1)
    directory, stage, ranks, precision = arguments[0], int(arguments[1]), int(arguments[2]), arguments[3]
    os.makedirs(directory, exist_ok=True)
    os.environ["MASTER_PORT"] = str(gloo_process.free_port())
    work = {"train": train, "load": load}[command]
    multiprocessing.spawn(run, (work, ranks, directory, stage, precision), nprocs=ranks, join=True)
