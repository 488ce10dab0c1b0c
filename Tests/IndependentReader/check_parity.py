"""Damages folders of protected files in every way that parity is for, and compares what read_parity.py brings back.

    python3 check_parity.py Fixtures/cairn/parity/step-00001600 [FOLDER …]
"""

import itertools
import os
import random
import shutil
import sys
import tempfile

from read_cairn import Refused, check
from read_parity import NAME, ParitySet


def contents(folder):
    found = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "rb") as file:
            found[name] = file.read()
    return found


def write(folder, files):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    for name, data in files.items():
        with open(os.path.join(folder, name), "wb") as file:
            file.write(data)


def check_folder(source, work):
    whole = contents(source)
    wanted = {name: data for name, data in whole.items() if not NAME.fullmatch(name)}
    intact = ParitySet(source)
    check(intact.repaired() == wanted, f"{source}: the intact files differ")
    parity = len(intact.parity)
    columns = {
        name: sum(any(piece[0] == file for piece in column) for column in intact.columns)
        for file, (name, _) in enumerate(intact.files)
    }
    tried = refused = 0
    # Files lost, as many as there is parity and one more.
    for count in range(1, parity + 2):
        for lost in itertools.combinations(sorted(whole), count):
            if all(name in lost for name in whole if NAME.fullmatch(name)):
                continue
            write(work, {name: data for name, data in whole.items() if name not in lost})
            try:
                check(ParitySet(work).repaired() == wanted, f"{source}: {lost} come back otherwise")
                tried += 1
            except Refused:
                needed = sum(columns.get(name, 1) for name in lost)
                check(needed > parity, f"{source}: {lost} were refused")
                refused += 1
    # Bytes changed, one in a file each.
    generator = random.Random(1)
    for _ in range(40):
        damaged = dict(whole)
        for name in generator.sample(sorted(whole), parity):
            data = bytearray(whole[name])
            if data:
                data[generator.randrange(len(data))] ^= generator.randrange(1, 256)
            damaged[name] = bytes(data)
        write(work, damaged)
        check(ParitySet(work).repaired() == wanted, f"{source}: rotten bytes come back otherwise")
        tried += 1
    print(f"{source}: {tried} damaged folders came back, {refused} were refused rightly")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        for folder in sys.argv[1:]:
            check_folder(folder, os.path.join(work, "damaged"))
