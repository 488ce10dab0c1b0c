"""What each of two ranks saved of DTensors and of a ShardedTensor, and what they are parts of (truth.pt, dcp_truth.pt).

    python truth.py      writes expected.json; needs PyTorch
"""
import os
import sys

folder = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(folder, "../../../Scripts/lib"))
os.chdir(folder)
from report_truth import case, entry, load, refusal, tensors, write

import pickle
import torch
import torch.distributed.checkpoint.format_utils as format_utils
from report_truth import stand_ins

truth = tensors(load("verl/truth.pt"))


def local_shards(name):
    """The states of the ShardedTensors of a file, which cannot be made without the ranks, and its other tensors."""
    shim = stand_ins({})

    class Unpickler(shim.Unpickler):
        def find_class(self, module, name):
            return (lambda *parts: parts[3]) if name == "_rebuild_from_type_v2" else super().find_class(module, name)

    shim.Unpickler = Unpickler
    return torch.load(name, pickle_module=shim, weights_only=False)


# Every rank has another one: the first rank's counts, and the others are said to be left out.
truth["plain"] = entry(local_shards("verl/actor/model_world_size_2_rank_0.pt")["plain"])
ranks = [local_shards(f"sharded/state_rank{rank}.pt") for rank in range(2)]
whole = torch.empty(4, 2)
for rank in ranks:
    for shard in rank["w"][0]:
        begin, size = shard.metadata.shard_offsets, shard.metadata.shard_sizes
        whole[begin[0]:begin[0] + size[0], begin[1]:begin[1] + size[1]] = shard.tensor
assert torch.equal(ranks[0]["plain"], ranks[1]["plain"])
format_utils.dcp_to_torch_save("verl/dcp_mixed", "/tmp/united.pt")
part = ["one rank's part", "open the directory"]
write(folder, [
    case("the ranks' DTensors", "verl/actor", truth, says=["has another plain"]),
    {"what": "converted", "run": [["convert", "{in}/verl/actor", "{out}/m.safetensors", "--to", "safetensors"]],
     "says": ["extra_state_world_size_2_rank_0.pt"], "digest": "{out}/m.safetensors", "tensors": truth},
    refusal("one rank's file", "verl/actor/model_world_size_2_rank_0.pt", part),
    refusal("the other's", "verl/actor/model_world_size_2_rank_1.pt", part),
    refusal("a missing rank", "missing", ["model_world_size_2_rank_1.pt"]),
    refusal("a missing rank, verified", "missing", ["model_world_size_2_rank_1.pt"], code=1, command="verify"),
    case("the ranks' ShardedTensors", "sharded", {"plain": entry(ranks[0]["plain"]), "w": entry(whole)}),
    refusal("one rank's shard", "sharded/state_rank0.pt", part),
    case("the same in torch.distributed.checkpoint", "verl/dcp_mixed", tensors(load("/tmp/united.pt"))),
    case("its shards as safetensors", "verl/hf_sharded", tensors(load("verl/hf_truth.pt"))),
])
