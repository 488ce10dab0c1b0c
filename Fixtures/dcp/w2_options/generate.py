"""Checkpoints of torch.distributed.checkpoint with options of every kind. Usage: python generate.py FOLDER"""
import hashlib, json, os, sys, warnings
warnings.filterwarnings("ignore")
import torch, torch.distributed as dist, torch.multiprocessing as mp
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint._extension import ZStandard
from torch.distributed.checkpoint.filesystem import SerializationFormat
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

NAMES = {"float32": "F32", "bfloat16": "BF16", "int64": "I64", "bool": "BOOL", "float16": "F16", "uint16": "U16"}
FULL = {"w": torch.arange(7 * 6.0).reshape(7, 6), "col": (torch.arange(40) % 7).to(torch.bfloat16).reshape(4, 10), "plain": torch.arange(5), "flag": torch.tensor([True, False]),
        "scalar": torch.tensor(2.5), "large": torch.arange(3000.0).reshape(30, 100), "empty": torch.empty(0, 3, dtype=torch.float16)}
VALUES = {"step": 3, "name": "ünï", "lr": 1e-4, "list": [1, 2.5, None], "flags": True}


def state(rank, mesh):
    sd = dict(FULL)
    for name, dim in (("w", 0), ("col", 1), ("large", 0)):
        sd[name] = distribute_tensor(FULL[name], mesh, [Shard(dim)])
    return {"model": sd, "extra": dict(VALUES)}


def worker(rank, size, folder, port):
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=size)
    mesh = init_device_mesh("cpu", (size,))
    W = dcp.FileSystemWriter
    cases = {
        "zstd": lambda p: dcp.save(state(rank, mesh), storage_writer=W(p, _extensions=[ZStandard()])),
        "safetensors": lambda p: dcp.save(state(rank, mesh), storage_writer=W(p, serialization_format=SerializationFormat.SAFETENSORS, thread_count=2)),
        "each_rank": lambda p: dcp.save(state(rank, mesh), storage_writer=W(p), use_collectives=False),
    }
    for name, save in cases.items():
        path = os.path.join(folder, name)
        try:
            save(path)
            if rank == 0: print("ok", name, sorted(os.listdir(path)))
        except Exception as error:
            if rank == 0: print("FAILED", name, repr(error)[:300])
        dist.barrier()
    dist.destroy_process_group()


def note(name, t):
    raw = t.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if t.numel() else b""
    return {"fqn": name, "path": name.split("."), "dtype": NAMES[str(t.dtype)[6:]], "shape": list(t.shape), "sha256": hashlib.sha256(raw).hexdigest()}


if __name__ == "__main__":
    out = sys.argv[1]
    os.makedirs(os.path.join(out, "truth"), exist_ok=True)
    mp.spawn(worker, (2, out, 29771), nprocs=2)
    kinds = {int: "int", str: "str", float: "float", bool: "bool", list: "list"}
    json.dump({"torch": torch.__version__, "tensors": [note("model." + k, v) for k, v in FULL.items()],
               "objects": [{"path": ["extra", k], "t": kinds[type(v)], "v": v} for k, v in VALUES.items()]}, open(os.path.join(out, "truth", "truth.json"), "w"), indent=1)
