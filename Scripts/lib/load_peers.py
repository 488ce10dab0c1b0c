"""Loads of the training state of cairn-bench by others: see cairn-bench --keeper.

    load_peers.py FOLDER MEGABYTES

Reads lines `dcp-save`, `dcp-load`, `dcp-load-cold`, `orbax-save`, `orbax-load`, `orbax-load-cold`; answers each with seconds
and bytes of extra memory.
"""
import gc, mmap, os, shutil, sys, time, warnings

warnings.filterwarnings("ignore")
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["JAX_PLATFORMS"] = "cpu"
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp

folder, megabytes = os.path.abspath(sys.argv[1]), int(sys.argv[2])
answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def warm(size=4_200_000_000):
    """Fresh memory is slow here; the next blocks handed out have been touched."""
    for _ in range(4):
        block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        block.madvise(mmap.MADV_HUGEPAGE)
        start = time.perf_counter()
        for offset in range(0, size, 4096):
            block[offset] = 1
        speed = size / (time.perf_counter() - start)
        block.close()
        if speed > 2e9:
            return


def shapes():
    width, result = 768, {}
    for layer in range(12):
        prefix = f"h.{layer}."
        result.update({
            prefix + "attn.c_attn.weight": (width, 3 * width), prefix + "attn.c_attn.bias": (3 * width,),
            prefix + "attn.c_proj.weight": (width, width), prefix + "ln_1.weight": (width,),
            prefix + "mlp.c_fc.weight": (width, 4 * width), prefix + "mlp.c_fc.bias": (4 * width,),
            prefix + "mlp.c_proj.weight": (4 * width, width), prefix + "ln_2.weight": (width,)})
    blocks = sum(torch.Size(shape).numel() for shape in result.values())
    result["wte.weight"] = (max(1, (megabytes * 1_000_000 // 14 - blocks) // width), width)
    return result


kinds = {"model.": torch.bfloat16, "master.": torch.float32, "exp_avg.": torch.float32, "exp_avg_sq.": torch.float32}
state = {kind + name: torch.rand(shape).to(dtype) for name, shape in shapes().items() for kind, dtype in kinds.items()}


class DCP:
    path = os.path.join(folder, "peer-dcp")

    def __init__(self):
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", "29874")
        dist.init_process_group("gloo", rank=0, world_size=1)

    def save(self):
        dcp.save(state, storage_writer=dcp.FileSystemWriter(self.path, overwrite=True))

    def load(self):
        # Into the tensors that are there, as a trainer that starts again has made them.
        dcp.load(state, storage_reader=dcp.FileSystemReader(self.path))


class Orbax:
    path = os.path.join(folder, "peer-orbax")

    def __init__(self):
        import logging, jax.numpy as jnp
        import orbax.checkpoint as ocp
        logging.getLogger("absl").setLevel(logging.ERROR)
        self.checkpointer = ocp.PyTreeCheckpointer()
        self.state = {name: jnp.asarray(t.float().numpy(), dtype=jnp.bfloat16 if t.dtype == torch.bfloat16 else jnp.float32)
                      for name, t in state.items()}

    def save(self):
        self.checkpointer.save(self.path, self.state, force=True)

    def load(self):
        self.checkpointer.restore(self.path)


peers = {"dcp": DCP, "orbax": Orbax}
made = {}


def forget(path):
    """Drops the files from the page cache."""
    os.sync()
    for parent, _, names in os.walk(path):
        for name in names:
            descriptor = os.open(os.path.join(parent, name), os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


for line in sys.stdin:
    name, operation = line.strip().split("-", 1)
    if name not in made:
        made[name] = peers[name]()
    peer = made[name]
    gc.collect()
    if operation == "load-cold":
        forget(peer.path)
    warm()
    start = time.perf_counter()
    peer.save() if operation == "save" else peer.load()
    print(time.perf_counter() - start, 0, file=answer, flush=True)
for name in peers:
    shutil.rmtree(os.path.join(folder, "peer-" + name), ignore_errors=True)
os._exit(0)
