"""Holds one training state and saves or loads it with the safetensors package, timing itself: see cairn-bench."""
import mmap, os, sys, time
import torch
from safetensors.torch import load_file, save_file

folder, megabytes = sys.argv[1], int(sys.argv[2])
path = os.path.join(folder, "peer.safetensors")
answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def memory(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


def warm(size=2_600_000_000):
    for _ in range(4):
        block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        block.madvise(mmap.MADV_HUGEPAGE)
        start = time.perf_counter()
        for offset in range(0, size, 4096):
            block[offset] = 1
        seconds = time.perf_counter() - start
        block.close()
        if size / seconds > 2e9:
            return


def state():
    shapes = {}
    for layer in range(12):
        p, d = f"h.{layer}.", 768
        shapes.update({p + "attn.c_attn.weight": (d, 3 * d), p + "attn.c_attn.bias": (3 * d,),
                       p + "attn.c_proj.weight": (d, d), p + "ln_1.weight": (d,), p + "mlp.c_fc.weight": (d, 4 * d),
                       p + "mlp.c_fc.bias": (4 * d,), p + "mlp.c_proj.weight": (4 * d, d), p + "ln_2.weight": (d,)})
    blocks = sum(torch.Size(s).numel() for s in shapes.values())
    shapes["wte.weight"] = (max(1, (megabytes * 1_000_000 // 14 - blocks) // 768), 768)
    tensors = {}
    for name, shape in shapes.items():
        weight = torch.randn(shape)
        tensors["model." + name] = weight.bfloat16()
        for prefix in ("master.", "exp_avg.", "exp_avg_sq."):
            tensors[prefix + name] = weight.clone()
    return tensors


def save():
    save_file(tensors, path)
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def load():
    loaded = load_file(path)
    # The file is mapped: a load that touches nothing has loaded nothing.
    return sum(int(t.view(torch.uint8).reshape(-1)[::4096].to(torch.int64).sum()) for t in loaded.values())


tensors = state()
for line in sys.stdin:
    operation = line.strip()
    if operation == "load-cold":
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    if operation == "save" and os.path.exists(path):
        os.remove(path)
    warm()
    before = memory("VmRSS")
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")
    start = time.perf_counter()
    save() if operation == "save" else load()
    seconds = time.perf_counter() - start
    print(seconds, max(0, memory("VmHWM") - before), file=answer, flush=True)
