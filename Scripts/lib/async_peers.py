"""What an asynchronous save of others costs training: see cairn-bench --snapshots.

    async_peers.py dcp|dcp-cached|torchsnapshot|orbax after|at-once FOLDER COMPUTE_SECONDS

Prints seconds: the call, the stall (the call and all slow-down of the steps until the save has ended), until the save had
ended, a step without a save, how much longer the first step took.
"""
import gc, mmap, os, shutil, sys, time, warnings

warnings.filterwarnings("ignore")
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["JAX_PLATFORMS"] = "cpu"
import torch

kind, regime, folder, seconds = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
path = os.path.join(os.path.abspath(folder), "peer-" + kind)


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
    d = 768
    result = {"wte.weight": (50257, d), "wpe.weight": (1024, d)}
    for layer in range(12):
        p = f"h.{layer}."
        result.update({p + "ln_1.weight": (d,), p + "ln_1.bias": (d,), p + "attn.c_attn.weight": (d, 3 * d),
                       p + "attn.c_attn.bias": (3 * d,), p + "attn.c_proj.weight": (d, d), p + "attn.c_proj.bias": (d,),
                       p + "ln_2.weight": (d,), p + "ln_2.bias": (d,), p + "mlp.c_fc.weight": (d, 4 * d),
                       p + "mlp.c_fc.bias": (4 * d,), p + "mlp.c_proj.weight": (4 * d, d), p + "mlp.c_proj.bias": (d,)})
    result.update({"ln_f.weight": (d,), "ln_f.bias": (d,)})
    return result


class Torch:
    def __init__(self):
        self.masters = {n: torch.nn.Parameter(torch.randn(s) * 0.02) for n, s in shapes().items()}
        for master in self.masters.values():
            master.grad = torch.full_like(master, 1e-3)
        self.weights = {n: m.detach().bfloat16() for n, m in self.masters.items()}
        self.optimizer = torch.optim.AdamW(self.masters.values(), lr=1e-4, fused=True)
        self.update()
        self.state = {"model." + n: w for n, w in self.weights.items()}
        for name, master in self.masters.items():
            self.state["master." + name] = master.data
            for slot in ("exp_avg", "exp_avg_sq"):
                self.state[f"{slot}.{name}"] = self.optimizer.state[master][slot]

    def update(self):
        torch.set_num_threads(2)
        self.optimizer.step()
        with torch.no_grad():
            for name, master in self.masters.items():
                self.weights[name].copy_(master)
        torch.set_num_threads(1)


class Jax:
    def __init__(self):
        import jax, jax.numpy as jnp
        key = jax.random.PRNGKey(0)
        self.masters = {n: jax.random.normal(key, s) * 0.02 for n, s in shapes().items()}
        self.first = {n: jnp.zeros_like(m) for n, m in self.masters.items()}
        self.second = {n: jnp.zeros_like(m) for n, m in self.masters.items()}

        def step(master, first, second):
            gradient = 1e-3
            first = {n: 0.9 * v + 0.1 * gradient for n, v in first.items()}
            second = {n: 0.95 * v + 0.05 * gradient * gradient for n, v in second.items()}
            master = {n: v * (1 - 1e-6) - 1e-4 * first[n] / (jnp.sqrt(second[n]) + 1e-8) for n, v in master.items()}
            return master, first, second, {n: v.astype(jnp.bfloat16) for n, v in master.items()}

        self.block = jax.block_until_ready
        # Orbax holds what it has not copied yet, so donated arrays are copied by it before.
        self.step = jax.jit(step, donate_argnums=(0, 1, 2))
        self.update()

    def update(self):
        self.masters, self.first, self.second, self.weights = self.step(self.masters, self.first, self.second)
        self.block((self.masters, self.first, self.second, self.weights))

    @property
    def state(self):
        return {"model": self.weights, "master": self.masters, "exp_avg": self.first, "exp_avg_sq": self.second}


torch.set_num_threads(1)
left, right = torch.randn(768, 768), torch.randn(768, 768)


def compute(count):
    for _ in range(count):
        torch.mm(left, right)


compute(8)
start = time.perf_counter()
compute(8)
products = max(1, int(seconds / ((time.perf_counter() - start) / 8)))
work = Jax() if kind == "orbax" else Torch()


def step():
    start = time.perf_counter()
    if regime == "after":
        compute(products)
    work.update()
    return time.perf_counter() - start


if kind.startswith("dcp"):
    import torch.distributed as dist, torch.distributed.checkpoint as dcp
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29873")
    dist.init_process_group("gloo", rank=0, world_size=1)
    options = {}
    if kind == "dcp-cached":
        from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
        options["async_stager"] = DefaultStager(StagingOptions(
            use_pinned_memory=False, use_shared_memory=False, use_async_staging=False, use_non_blocking_copy=False))

    def save():
        future = dcp.async_save(work.state, storage_writer=dcp.FileSystemWriter(path), **options)
        future = getattr(future, "upload_completion", future)
        return future.done, future.result
elif kind == "torchsnapshot":
    from torchsnapshot import Snapshot, StateDict

    def save():
        pending = Snapshot.async_take(path, {"state": StateDict(**work.state)})
        return pending.done, pending.wait
else:
    import logging, threading
    import orbax.checkpoint as ocp
    logging.getLogger("absl").setLevel(logging.ERROR)
    checkpointer = ocp.AsyncCheckpointer(ocp.PyTreeCheckpointHandler())

    def save():
        checkpointer.save(path, work.state, force=True)
        done = threading.Event()
        threading.Thread(target=lambda: (checkpointer.wait_until_finished(), done.set()), daemon=True).start()
        return done.is_set, done.wait

# Once before, for what is made on first use.
done, wait = save()
wait()
step()
base = sorted(step() for _ in range(3))[1]
shutil.rmtree(path, ignore_errors=True)
gc.collect()
warm()
start = time.perf_counter()
done, wait = save()
call = time.perf_counter() - start
steps = []
while True:
    steps.append(step())
    if done():
        break
wait()
total = time.perf_counter() - start
shutil.rmtree(path, ignore_errors=True)
print(call, call + sum(s - base for s in steps), total, base, steps[0] - base, file=answer, flush=True)
os._exit(0)
