"""Files and directories of other software: named, or read where they are pickles of arrays.

    python truth.py      writes expected.json; needs PyTorch
"""
import os
import sys

folder = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(folder, "../../../Scripts/lib"))
os.chdir(folder)
from report_truth import case, entry, load, refusal, tensors, write

import pickle
import numpy

words = {
    "caffe.caffemodel": "a Caffe model", "checkpoint": "TensorFlow", "darknet.weights": "Darknet", "fasttext.bin": "fastText",
    "flax.msgpack": "MessagePack", "lightgbm.txt": "LightGBM", "m.bin": "GGML", "m.gguf": "GGUF", "m.mat": "MATLAB",
    "m.onnx": "ONNX", "m.tar": "a tar archive", "m.tar.gz": "gzip", "m.tflite": "TensorFlow Lite",
    "model.ckpt.data-00000-of-00001": "TensorFlow", "model.ckpt.index": "TensorFlow", "models.zip": "m/x.gguf",
    "orbax": "Orbax", "saved_model": "SavedModel", "saved_model/saved_model.pb": "SavedModel",
}
cases = [refusal(name, name, [word]) for name, word in words.items()]
cases += [refusal(name + ", verified", name, [word], command="verify") for name, word in words.items()]


def paddle(name):
    """As `paddle.load` has it: a parameter is a name and its elements."""
    with open(name, "rb") as file:
        state = pickle.load(file)
    return {key: value[1] if isinstance(value, tuple) else value for key, value in state.items()}


for name in ("m.pdparams", "lod.pdparams", "vb.pdparams"):
    cases.append(case(name, name, tensors(paddle(name))))
write(folder, cases)
