"""What one rank of a mesh saves of random DTensors: `interop_pickled_ranks.py FOLDER MESH RANK SEED`.

The process group is PyTorch's fake one: nothing is sent, each rank takes its part of a tensor that all of them make alike.
"""
import json
import os
import random
import sys
import warnings

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard
from torch.testing._internal.distributed.fake_pg import FakeStore

warnings.filterwarnings("ignore")
folder, extents, rank, seed = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
count = 1
for extent in extents:
    count *= extent
dist.init_process_group("fake", rank=rank, world_size=count, store=FakeStore())
mesh = init_device_mesh("cpu", tuple(extents), mesh_dim_names=tuple("abc"[:len(extents)]))
choose = random.Random(seed)
torch.manual_seed(seed)
whole, state = {}, {}
for number in range(6):
    shape = [choose.randint(1, 9) for _ in range(choose.randint(1, 3))]
    tensor = (torch.randn(shape) * 10).to(choose.choice([torch.float32, torch.bfloat16, torch.int64]))
    whole[f"t{number}"] = tensor
    if len(extents) == 2 and choose.random() < 0.4:
        # As fully sharded training has it of what tensor parallelism had divided before.
        dimension = choose.randrange(len(shape))
        placements = [_StridedShard(dimension, split_factor=extents[1]), Shard(dimension)]
        local = tensor
        for axis, placement in enumerate(placements):
            parts, _ = placement._split_tensor(local, extents[axis], with_padding=False, contiguous=True)
            local = parts[mesh.get_local_rank(axis)]
        state[f"t{number}"] = DTensor.from_local(
            local.clone(), mesh, placements, run_check=False, shape=tensor.shape, stride=tensor.stride())
    else:
        placements = [choose.choice([Replicate(), Shard(choose.randrange(len(shape)))]) for _ in extents]
        state[f"t{number}"] = distribute_tensor(tensor, mesh, placements, src_data_rank=None)
whole["plain"] = state["plain"] = torch.randn(3)
torch.save(state, os.path.join(folder, f"model_world_size_{count}_rank_{rank}.pt"))
if rank == 0:
    torch.save(whole, os.path.join(folder, "truth.pt"))
