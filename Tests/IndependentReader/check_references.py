"""Reads a run whose checkpoints refer to files of earlier saves, and compares with what its tensors must be.

    python3 check_references.py Fixtures/cairn/references [FOLDER …]
"""

import os
import struct
import sys

from read_cairn import Checkpoint, Refused, check


def floats(numbers):
    numbers = list(numbers)
    return struct.pack(f"<{len(numbers)}f", *numbers)


def check_run(folder):
    steps = sorted(name for name in os.listdir(folder) if os.path.exists(os.path.join(folder, name, "manifest.json")))
    check(steps == ["step-00000003", "step-00000012"], f"{folder}: {steps}")
    one = Checkpoint(os.path.join(folder, steps[0]))
    check("references" in one.manifest["requires"], "nothing is referred to")
    for index, count in enumerate([900, 700, 300, 40]):
        first = (2000 if index == 3 else 0) + index
        check(one.read(f"layers.{index}") == floats(range(first, first + count)), f"layers.{index} differs")
    check(one.values == {"progress": 2}, f"values: {one.values}")
    two = Checkpoint(os.path.join(folder, steps[1]))
    check(any("elsewhere" in tensor for tensor in two.manifest["tensors"]), "no tensor lies elsewhere")
    check(two.read("matrix") == floats(10_000 + i for i in range(3000)), "matrix differs")
    check(two.read("vector") == floats(7 + i for i in range(5)), "vector differs")
    # A file that a checkpoint refers to belongs to it.
    entry = one.manifest["earlier"][0]
    path = os.path.join(folder, f"step-{entry['step']:08d}", entry["file"]["name"])
    os.rename(path, path + ".away")
    try:
        Checkpoint(os.path.join(folder, steps[0]))
        raise Refused("a missing earlier file was not noticed")
    except OSError:
        pass
    finally:
        os.rename(path + ".away", path)
    print(f"{folder}: two checkpoints with references read")


for name in sys.argv[1:]:
    check_run(name)
