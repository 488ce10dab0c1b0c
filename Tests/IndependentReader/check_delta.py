"""Applies deltas with read_delta.py and compares what comes out with what is known, and damages them.

    python3 check_delta.py BASE-FOLDER EXPECTED.json FILE.delta …
"""

import json
import random
import struct
import sys
import tempfile

from read_cairn import Checkpoint, check
from read_delta import Delta

base_folder, expected, *paths = sys.argv[1:]
base = Checkpoint(base_folder)
with open(expected) as file:
    wanted = json.load(file)
for path in paths:
    found = Delta(path).digests(base)
    check(found == wanted, f"{path}: other tensors come out: {found}")
    with open(path, "rb") as file:
        whole = file.read()
    generator, refused = random.Random(1), 0
    (header,) = struct.unpack("<Q", whole[:8])
    for _ in range(60):
        changed = bytearray(whole)
        changed[generator.randrange(8 + header, len(whole))] ^= generator.randrange(1, 256)
        with tempfile.NamedTemporaryFile(suffix=".delta") as file:
            file.write(changed)
            file.flush()
            try:
                result = Delta(file.name).digests(base)
            except Exception:
                # Whatever a decoder throws at damaged bytes.
                refused += 1
                continue
            # What is for people may change unnoticed.
            check(result == wanted, f"{path}: damage gives other tensors")
    check(refused > 40, f"{path}: damage is not noticed")
    print(f"{path}: {len(found)} tensors as they should be; {refused} of 60 damaged copies refused")
