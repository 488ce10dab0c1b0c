"""How long PyTorch's distributed checkpoint's metadata is for each chunk: builds the Metadata of a state whose tensors are
divided into many shards, pickles it as the file `.metadata` is, and prints bytes a chunk and the seconds it took.

Usage: dcp_metadata.py [tensors [shards]]"""
import pickle, sys, time
import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata, Metadata, MetadataIndex, TensorProperties, TensorStorageMetadata)

tensors = int(sys.argv[1]) if len(sys.argv) > 1 else 200
shards = int(sys.argv[2]) if len(sys.argv) > 2 else 1024
state, storage, planner = {}, {}, {}
start = time.perf_counter()
for number in range(tensors):
    name = f"optimizer.exp_avg.model.layers.{number}.mlp.gate_proj.weight"
    rows, width = 53248, 16384
    step = -(-rows // shards)
    chunks = []
    for shard in range(shards):
        offset, size = torch.Size([min(rows, shard * step), 0]), torch.Size([max(0, min(step, rows - shard * step)), width])
        chunks.append(ChunkStorageMetadata(offsets=offset, sizes=size))
        storage[MetadataIndex(name, offset, shard)] = _StorageInfo(f"__{shard}_0.distcp", number * size.numel() * 4, size.numel() * 4)
    state[name] = TensorStorageMetadata(TensorProperties(dtype=torch.float32), torch.Size([rows, width]), chunks)
    planner[name] = (name,)
metadata = Metadata(state_dict_metadata=state, planner_data=planner, storage_data=storage)
built = time.perf_counter()
data = pickle.dumps(metadata)
pickled = time.perf_counter()
pickle.loads(data)
read = time.perf_counter()
count = tensors * shards
print(f"{count} chunks: {len(data)} bytes, {len(data) / count:.1f} a chunk; "
      f"built in {built - start:.1f} s, pickled in {pickled - built:.1f} s, unpickled in {read - pickled:.1f} s")
