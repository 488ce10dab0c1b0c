"""A checkpoint of Lightning: hyperparameters in a class derived from dict, enumerations, states of callbacks.

    python truth.py      writes expected.json; needs PyTorch
"""
import os
import sys

folder = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(folder, "../../../Scripts/lib"))
os.chdir(folder)
from report_truth import case, entry, load, refusal, tensors, write

name = "epoch=3-step=100-val_loss=0.50.ckpt"
classes = {
    "pytorch_lightning.utilities.parsing.AttributeDict": dict, "lightning.pytorch.trainer.states.TrainerFn": str,
}
write(folder, [case("all tensors, those of the hyperparameters too", name, tensors(load(name, classes)), says=["AttributeDict"])])
