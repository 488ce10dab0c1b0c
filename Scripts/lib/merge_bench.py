"""Times merges of `cairn` and of mergekit on the same recipes and inputs, in turn, and compares what they wrote.

Usage: merge_bench.py --cairn EXECUTABLE --folder FOLDER [--megabytes 500] [--models 8] [--rounds 5] [--cold]
Prints Markdown. Every process is a new one; times of mergekit are given with and without its imports."""
import argparse, json, os, resource, shutil, statistics, subprocess, sys, threading, time

parser = argparse.ArgumentParser()
parser.add_argument("--cairn", required=True)
parser.add_argument("--folder", required=True)
parser.add_argument("--megabytes", type=int, default=500)
parser.add_argument("--models", type=int, default=8)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--types", default="float32,bfloat16")
parser.add_argument("--methods", default="linear,slerp,ties,dare_ties")
parser.add_argument("--cold", action="store_true")
arguments = parser.parse_args()
environment = dict(os.environ, HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", OMP_NUM_THREADS=str(os.cpu_count()), CUDA_VISIBLE_DEVICES="")

TIES_DENSITY = 0.2

# A mergekit process that says on its last line how long the merge took behind the imports.
INSIDE = """
import sys, time, yaml, torch
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
import transformers
options = MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True, random_seed=0, num_threads=torch.get_num_threads())
config = MergeConfiguration.model_validate(yaml.safe_load(open(sys.argv[1])))
cpu, start = time.process_time(), time.perf_counter()
run_merge(config, sys.argv[2], options)
print("merge", time.perf_counter() - start, time.process_time() - cpu)
"""


def note(text):
    print(text, file=sys.stderr, flush=True)


def make(folder, dtype):
    """Models of about the size asked for, with the names of a Llama, each at some distance from the first."""
    import torch
    from safetensors.torch import save_file
    kind = getattr(torch, dtype)
    hidden, inner, vocabulary = 1024, 2816, 16000
    width = torch.empty(0, dtype=kind).element_size()
    layer = 4 * hidden * hidden + 3 * hidden * inner + 2 * hidden
    layers = max(1, round((arguments.megabytes * 1e6 / width - 2 * vocabulary * hidden - hidden) / layer))
    shapes = {"model.embed_tokens.weight": (vocabulary, hidden), "model.norm.weight": (hidden,), "lm_head.weight": (vocabulary, hidden)}
    for index in range(layers):
        at = f"model.layers.{index}."
        shapes.update({at + f"self_attn.{part}_proj.weight": (hidden, hidden) for part in "qkvo"})
        shapes.update({at + "mlp.gate_proj.weight": (inner, hidden), at + "mlp.up_proj.weight": (inner, hidden), at + "mlp.down_proj.weight": (hidden, inner)})
        shapes.update({at + "input_layernorm.weight": (hidden,), at + "post_attention_layernorm.weight": (hidden,)})
    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
                  num_attention_heads=16, num_key_value_heads=16, vocab_size=vocabulary, max_position_embeddings=64, rms_norm_eps=1e-6,
                  tie_word_embeddings=False, hidden_act="silu", torch_dtype=dtype, bos_token_id=1, eos_token_id=2)
    for model in range(arguments.models + 1):
        path = f"{folder}/m{model}"
        os.makedirs(path, exist_ok=True)
        base, own = torch.Generator().manual_seed(1000), torch.Generator().manual_seed(model)
        tensors = {}
        for name, shape in shapes.items():
            tensors[name] = (torch.randn(shape, generator=base) * 0.02 + (torch.randn(shape, generator=own) * 0.004 if model else 0)).to(kind)
        save_file(tensors, path + "/model.safetensors", metadata={"format": "pt"})
        json.dump(config, open(path + "/config.json", "w"))
    models = [os.path.abspath(f"{folder}/m{i}") for i in range(arguments.models + 1)]
    recipes = {
        "linear": dict(models=[dict(model=m, parameters=dict(weight=1.0)) for m in models[1:]]),
        "slerp": dict(base_model=models[0], models=[dict(model=models[1]), dict(model=models[0])], parameters=dict(t=0.5)),
        "ties": dict(base_model=models[0], models=[dict(model=m, parameters=dict(weight=1.0, density=TIES_DENSITY)) for m in models[1:]]),
        "dare_ties": dict(base_model=models[0], models=[dict(model=m, parameters=dict(weight=0.3, density=0.5)) for m in models[1:]]),
    }
    for method, recipe in recipes.items():
        recipe.update(merge_method=method, dtype="float32", out_dtype=dtype)
        json.dump(recipe, open(f"{folder}/{method}.yml", "w"))
    return {method: [m["model"] for m in recipe["models"]] + ([recipe["base_model"]] if method in ("ties", "dare_ties") else []) for method, recipe in recipes.items()}


def warm_memory(byte_count=2_600_000_000):
    """Touches and frees memory, because first-touch memory would drown everything else."""
    import mmap
    with mmap.mmap(-1, byte_count) as memory:
        for offset in range(0, byte_count, 4096):
            memory[offset] = 1


def prepare(paths):
    if arguments.cold:
        os.sync()
        for path in paths:
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    else:
        for path in paths:
            with open(path, "rb", buffering=0) as file:
                while file.read(1 << 22):
                    pass


class Watch(threading.Thread):
    """The most resident memory of a process, anonymous and of files."""

    def __init__(self, process):
        super().__init__(daemon=True)
        self.process, self.anonymous, self.files = process, 0, 0

    def run(self):
        while self.process.returncode is None:
            try:
                fields = dict(line.split(":", 1) for line in open(f"/proc/{self.process.pid}/status"))
                self.anonymous = max(self.anonymous, int(fields["RssAnon"].split()[0]) * 1024)
                self.files = max(self.files, int(fields["RssFile"].split()[0]) * 1024)
            except (OSError, KeyError, ValueError):
                pass
            time.sleep(0.005)


def run(words, output):
    """Seconds, processor seconds, memory, and what was printed."""
    shutil.rmtree(output, ignore_errors=True)
    start = time.perf_counter()
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    watch = Watch(process)
    watch.start()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    text, errors = process.communicate()
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        sys.exit(f"{words[0]} failed: {errors.decode()[-2000:]}")
    synced = time.perf_counter()
    for name in os.listdir(output):
        descriptor = os.open(f"{output}/{name}", os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    return dict(seconds=seconds, cpu=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
                anonymous=watch.anonymous, files=watch.files, sync=time.perf_counter() - synced, text=text.decode())


def plain(inputs, size, output):
    """A read of the inputs and a write of the output, blocks of 4 MiB, one thread."""
    shutil.rmtree(output, ignore_errors=True)
    os.makedirs(output)
    cpu, start = time.process_time(), time.perf_counter()
    block = bytearray(1 << 22)
    for path in inputs:
        with open(path, "rb", buffering=0) as file:
            while file.readinto(block):
                pass
    with open(output + "/plain", "wb", buffering=0) as file:
        left = size
        while left:
            left -= file.write(memoryview(block)[:min(left, len(block))])
        os.fsync(file.fileno())
    return dict(seconds=time.perf_counter() - start, cpu=time.process_time() - cpu, anonymous=1 << 22, files=0, sync=0.0)


def at_threshold(models, base):
    """Which elements have, in one of the models, a magnitude of which TIES keeps some and not all: which ones is open."""
    import numpy
    import torch
    found = torch.zeros(base.numel(), dtype=torch.bool)
    for model in models:
        magnitudes = (model.float() - base.float()).abs().flatten()
        kept = int(TIES_DENSITY * magnitudes.numel())
        if 0 < kept < magnitudes.numel():
            place = magnitudes.numel() - kept
            threshold = float(numpy.partition(magnitudes.numpy(), place)[place])
            if int((magnitudes >= threshold).sum()) > kept:
                found |= magnitudes == threshold
    return found.reshape(base.shape)


def compare(ours, theirs, base, models=()):
    """How far apart the results are; of random methods the part that was kept and the sum of magnitudes. Given what went in, also
    how many of the elements that differ lie nowhere at the threshold of TIES."""
    import torch
    from safetensors import safe_open
    def files(folder):
        return {key: file for name in sorted(os.listdir(folder)) if name.endswith(".safetensors")
                for file in [safe_open(f"{folder}/{name}", "pt")] for key in file.keys()}
    one, other, origin = files(ours), files(theirs), files(base)
    assert sorted(one) == sorted(other)
    inputs = [files(os.path.dirname(model)) for model in models]
    worst, differing, total, ulps, elsewhere = 0.0, 0, 0, 0, 0
    kept, sums = [0, 0], [0.0, 0.0]
    for key in one:
        x, y = one[key].get_tensor(key), other[key].get_tensor(key)
        assert x.dtype == y.dtype and x.shape == y.shape
        bits = torch.int16 if x.dtype == torch.bfloat16 else torch.int32
        unequal = x.view(bits) != y.view(bits)
        differing += int(unequal.sum())
        if inputs and unequal.any():
            tensors = [file[key].get_tensor(key) for file in inputs]
            elsewhere += int((unequal & ~at_threshold(tensors, origin[key].get_tensor(key))).sum())
        total += x.numel()
        worst = max(worst, float((x.double() - y.double()).abs().max()))
        gap = (x.view(bits).long() - y.view(bits).long()).abs()
        ulps = max(ulps, int((gap * ((x > 0) == (y > 0))).max()))
        b = origin[key].get_tensor(key).double()
        for index, tensor in enumerate((x, y)):
            delta = tensor.double() - b
            kept[index] += int((delta != 0).sum())
            sums[index] += float(delta.abs().sum())
    where = f", {elsewhere} of them not at a threshold that several share" if inputs else ""
    return (f"{differing} of {total} elements differ{where}, at most {worst:.3g} or {ulps} units in the last place; "
            f"changed {kept[0] / total:.4f} and {kept[1] / total:.4f}, sum of changes {sums[0]:.6g} and {sums[1]:.6g}")


def table(rows):
    print("| operation | median s | min | max | processor s | anonymous MB | files' pages MB | fsync of the result s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, runs in rows.items():
        times = [r["seconds"] for r in runs]
        middle = lambda field: statistics.median(r[field] for r in runs)
        print(f"| {name} | {statistics.median(times):.2f} | {min(times):.2f} | {max(times):.2f} | {middle('cpu'):.2f} | "
              f"{max(r['anonymous'] for r in runs) / 1e6:.0f} | {max(r['files'] for r in runs) / 1e6:.0f} | {middle('sync'):.2f} |")


for dtype in arguments.types.split(","):
    folder = f"{arguments.folder}/{dtype}"
    note(f"writing {arguments.models + 1} models of {dtype}")
    members = make(folder, dtype)
    size = os.path.getsize(f"{folder}/m0/model.safetensors")
    print(f"\n### {arguments.models} models of {size / 1e6:.0f} MB, {dtype}, {'cold' if arguments.cold else 'warm'}\n")
    for method in arguments.methods.split(","):
        inputs = [f"{model}/model.safetensors" for model in members[method]]
        recipe, ours, theirs = f"{folder}/{method}.yml", f"{folder}/ours", f"{folder}/theirs"
        rows = {}
        for turn in range(arguments.rounds):
            note(f"{dtype} {method}, round {turn + 1} of {arguments.rounds}, load {os.getloadavg()[0]:.1f}")
            def add(name, made):
                rows.setdefault(name, []).append(made)
                note(f"  {name}: {made['seconds']:.2f} s")
            warm_memory(); prepare(inputs)
            add("plain read of the inputs, write and fsync", plain(inputs, size, f"{folder}/plain"))
            warm_memory(); prepare(inputs)
            add("cairn merge, fsynced", run([arguments.cairn, "merge", recipe, "-o", ours, "--to", "safetensors"], ours))
            warm_memory(); prepare(inputs)
            scripts = os.path.dirname(sys.executable)
            add("mergekit-yaml", run([f"{scripts}/mergekit-yaml", recipe, theirs, "--no-copy-tokenizer", "--no-write-model-card",
                                      "-j", str(os.cpu_count()), "--quiet", "--random-seed", "0"], theirs))
            warm_memory(); prepare(inputs)
            inside = run([sys.executable, "-c", INSIDE, recipe, theirs], theirs)
            fields = next(line for line in inside["text"].splitlines() if line.startswith("merge ")).split()
            inside.update(seconds=float(fields[1]), cpu=float(fields[2]))
            add("mergekit without its imports", inside)
        print(f"**{method}**\n")
        table(rows)
        ratio = lambda a, b: statistics.median(x["seconds"] / y["seconds"] for x, y in zip(rows[a], rows[b]))
        print(f"\nmergekit-yaml / cairn {ratio('mergekit-yaml', 'cairn merge, fsynced'):.1f}, without imports / cairn "
              f"{ratio('mergekit without its imports', 'cairn merge, fsynced'):.1f}, cairn / plain "
              f"{ratio('cairn merge, fsynced', 'plain read of the inputs, write and fsync'):.2f}.")
        models = inputs[:arguments.models] if method == "ties" else ()
        print(f"Results: {compare(ours, theirs, f'{folder}/m0', models)}.\n", flush=True)
    shutil.rmtree(folder)
