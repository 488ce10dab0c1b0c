"""Saves one training state with four ranks and loads it with two by torch.distributed.checkpoint: see cairn-bench."""
import os, shutil, sys, time
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

folder, megabytes = sys.argv[1], int(sys.argv[2])
path = os.path.join(folder, "dcp")


def shapes():
    result = {}
    for layer in range(12):
        p, d = f"h.{layer}.", 768
        result.update({p + "attn.c_attn.weight": (d, 3 * d), p + "attn.c_attn.bias": (3 * d,),
                       p + "attn.c_proj.weight": (d, d), p + "ln_1.weight": (d,), p + "mlp.c_fc.weight": (d, 4 * d),
                       p + "mlp.c_fc.bias": (4 * d,), p + "mlp.c_proj.weight": (4 * d, d), p + "ln_2.weight": (d,)})
    blocks = sum(torch.Size(s).numel() for s in result.values())
    result["wte.weight"] = (max(1, (megabytes * 1_000_000 // 14 - blocks) // 768), 768)
    return result


def state(mesh):
    tensors = {}
    size, rank = mesh.size(), dist.get_rank()
    for name, shape in shapes().items():
        step = -(-shape[0] // size)
        rows = max(0, min(step, shape[0] - rank * step))
        for prefix, dtype in (("model.", torch.bfloat16), ("master.", torch.float32), ("exp_avg.", torch.float32),
                              ("exp_avg_sq.", torch.float32)):
            local = torch.randn((rows,) + shape[1:]).to(dtype)
            stride = tuple(torch.empty(shape, device="meta").stride())
            tensors[prefix + name] = DTensor.from_local(
                local, mesh, [Shard(0)], run_check=False, shape=torch.Size(shape), stride=stride)
    return tensors


def memory(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


def work(rank, size, operation, port, results):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=size)
    tensors = state(init_device_mesh("cpu", (size,)))
    before = memory("VmRSS")
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")
    dist.barrier()
    start = time.perf_counter()
    dcp.save(tensors, checkpoint_id=path) if operation == "save" else dcp.load(tensors, checkpoint_id=path)
    dist.barrier()
    results.put((time.perf_counter() - start, max(0, memory("VmHWM") - before)))
    dist.destroy_process_group()


if __name__ == "__main__":
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    port = 29500 + os.getpid() % 1000
    for line in sys.stdin:
        operation = line.strip()
        if operation == "save":
            shutil.rmtree(path, ignore_errors=True)
        results = mp.get_context("spawn").SimpleQueue()
        size = 4 if operation == "save" else 2
        port += 1
        mp.spawn(work, args=(size, operation, port, results), nprocs=size)
        measured = [results.get() for _ in range(size)]
        print(max(m[0] for m in measured), sum(m[1] for m in measured), file=answer, flush=True)
