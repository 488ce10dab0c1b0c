"""Writes one training state with PyTorch and converts it as people do, timing itself: see cairn-bench --convert."""
import hashlib, os, shutil, sys, time
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file

folder, megabytes = sys.argv[1], int(sys.argv[2])
source, sharded, target = (os.path.join(folder, name) for name in ("peer.pt", "peer_dcp", "peer.safetensors"))
answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def memory(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


def state():
    """The tensors of cairn-bench's own state."""
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


def write():
    tensors = state()
    torch.save(tensors, source)
    shutil.rmtree(sharded, ignore_errors=True)
    dcp.save(tensors, storage_writer=dcp.FileSystemWriter(sharded, thread_count=4))
    os.sync()


def export(tensors):
    if os.path.exists(target):
        os.remove(target)
    save_file(tensors, target)
    descriptor = os.open(target, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def load_dcp():
    metadata = dcp.FileSystemReader(sharded).read_metadata()
    tensors = {name: torch.empty(entry.size, dtype=entry.properties.dtype) for name, entry in metadata.state_dict_metadata.items()}
    dcp.load(tensors, checkpoint_id=sharded)
    return tensors


operations = {
    "write": write,
    "torch": lambda: export(torch.load(source, weights_only=True)),
    "torch-mapped": lambda: export(torch.load(source, weights_only=True, mmap=True)),
    "dcp": lambda: export(load_dcp()),
    "digest": lambda: [hashlib.sha256(t.view(torch.uint8).numpy()).hexdigest() if t.dim() else "" for t in torch.load(source, weights_only=True).values()],
}
for line in sys.stdin:
    before = memory("VmRSS")
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")
    start = time.perf_counter()
    operations[line.strip()]()
    seconds = time.perf_counter() - start
    print(seconds, max(0, memory("VmHWM") - before), file=answer, flush=True)
