"""A directory of a trainer whose parts are checkpoints, one level down.

    python truth.py      writes expected.json; needs PyTorch
"""
import os
import sys

folder = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(folder, "../../../Scripts/lib"))
os.chdir(folder)
from report_truth import case, entry, load, refusal, tensors, write

from torch.distributed.checkpoint.format_utils import dcp_to_torch_save


def united(path):
    dcp_to_torch_save(path, "/tmp/united.pt")
    return tensors(load("/tmp/united.pt"))


write(folder, [
    refusal("the directory itself", "checkpoint-2000", ["pytorch_model_fsdp_0 (dcp)", "optimizer_0 (dcp)", "name the one to open"]),
    case("the model", "checkpoint-2000/pytorch_model_fsdp_0", united("checkpoint-2000/pytorch_model_fsdp_0")),
    case("the optimizer", "checkpoint-2000/optimizer_0", united("checkpoint-2000/optimizer_0")),
])
