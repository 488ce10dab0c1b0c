"""Random nested states that PyTorch writes, read by `cairn digest` and compared with PyTorch's own view of them.

    python interop_pickles.py CAIRN [COUNT [SEED]]

Every tensor must be there under its name with its bytes. What is missing must be named on standard error (`shown as text`,
`left out`), and what is there must be right: nothing may be silently wrong. Also DTensors: what each rank of a mesh would
save, with random meshes, placements and shapes, is united by opening the directory.
"""
import argparse
import collections
import dataclasses
import enum
import fractions
import io
import json
import operator
import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import types
import warnings

import numpy
import torch

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from report_truth import tensors

warnings.filterwarnings("ignore")


class Colour(enum.Enum):
    RED = 1
    BLUE = "b"


class Level(enum.IntEnum):
    LOW = 1


class AttributeDict(dict):
    __getattr__ = dict.get


class Ordered(collections.OrderedDict):
    pass


class Rows(list):
    pass


Pair = collections.namedtuple("Pair", "first second")


@dataclasses.dataclass
class Record:
    weight: object
    note: object = None


@dataclasses.dataclass(slots=True)
class Slotted:
    weight: object
    note: object = None


class Plain:
    class Inner:
        def __init__(self, value):
            self.value = value

    def __init__(self, value):
        self.value = value

    def method(self):
        return self.value

    @staticmethod
    def helper(value):
        return value


class Net(torch.nn.Module):
    def __init__(self, random):
        super().__init__()
        size = random.randint(1, 4)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(size, size, bias=random.random() < 0.5) for _ in range(random.randint(1, 3)))
        self.norm = torch.nn.BatchNorm1d(size)
        self.register_buffer("passing", torch.randn(2), persistent=False)
        self.register_buffer("kept", torch.randn(3))
        self.register_parameter("none", None)
        if random.random() < 0.5:
            self.tied = self.layers[0]
        self.scale = torch.nn.ParameterDict({"a": torch.nn.Parameter(torch.randn(2))})
        self.free = torch.randn(1)


TYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool, torch.complex64]
# What is no container of tensors: shown as text, or a value.
OTHERS = [
    Colour.RED, Colour.BLUE, Level.LOW, signal.SIGTERM, Plain.helper, Plain, Plain.Inner, operator.itemgetter(1), range(3),
    slice(1, 2), fractions.Fraction(1, 3), ValueError("x"), torch.float32, torch.device("cpu"), torch.Size([1, 2]), len, type(None),
    complex(1, 2), b"bytes", bytearray(b"x"), 1 << 80, float("nan"), "text", "", "\u20ac\\n'\n", None, True, -7, 0.5, {1, 2},
    frozenset([3]), argparse.Namespace(lr=0.1, layers=[1, 2]), numpy.float32(1.5), numpy.dtype("int8"), ..., NotImplemented,
    collections.Counter("aab"), types.SimpleNamespace(a=1), torch.strided,
]


class States:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.shared = []

    def tensor(self):
        random = self.random
        kind = random.choice(TYPES)
        shape = [random.randint(0, 4) for _ in range(random.randint(0, 3))]
        whole = torch.randn(shape, dtype=torch.float64)
        tensor = (whole * 10).to(kind) if kind != torch.bool else whole > 0
        way = random.random()
        if way < 0.15 and tensor.dim() >= 2:
            tensor = tensor.transpose(0, 1)
        elif way < 0.3 and tensor.dim() and tensor.shape[0] > 1:
            tensor = tensor[1:]
        elif way < 0.4 and tensor.is_floating_point():
            tensor = torch.nn.Parameter(tensor, requires_grad=random.random() < 0.5)
        elif way < 0.5:
            tensor = numpy.array(tensor.float().numpy(), order=random.choice("CF"), dtype=random.choice([">f4", "<f8", "i2"]))
        return tensor

    def key(self):
        return self.random.choice([f"k{self.random.randint(0, 9)}", self.random.randint(100, 109), (1, f"t{self.random.randint(0, 9)}"), f"a.b{self.random.randint(0, 9)}"])

    def state(self, depth=0):
        random = self.random
        if self.shared and random.random() < 0.15:
            return random.choice(self.shared)
        if depth >= 4 or random.random() < 0.3:
            value = self.tensor() if random.random() < 0.6 else random.choice(OTHERS)
        else:
            count = random.randint(0, 4)
            way = random.randrange(14)
            if way < 4:
                value = {self.key(): self.state(depth + 1) for _ in range(count)}
            elif way == 4:
                value = [self.state(depth + 1) for _ in range(count)]
            elif way == 5:
                value = tuple(self.state(depth + 1) for _ in range(count))
            elif way == 6:
                value = random.choice([AttributeDict, Ordered, lambda pairs: collections.defaultdict(list, pairs)])(
                    {self.key(): self.state(depth + 1) for _ in range(count + 1)})
            elif way == 7:
                value = Rows(self.state(depth + 1) for _ in range(count + 1))
            elif way == 8:
                value = Pair(self.tensor(), self.state(depth + 1))
            elif way == 9:
                value = Record(self.tensor(), self.state(depth + 1))
            elif way == 10:
                value = types.SimpleNamespace(w=self.tensor(), other=self.state(depth + 1))
            elif way == 11:
                value = random.choice([Plain, Plain.Inner])(self.state(depth + 1))
            elif way == 12:
                value = Net(random)
            else:
                value = collections.deque(self.state(depth + 1) for _ in range(count))
        if random.random() < 0.3:
            self.shared.append(value)
        return value


def digest(cairn, path, *options):
    run = subprocess.run([cairn, "digest", path, "--json", *options], capture_output=True, text=True)
    if run.returncode < 0:
        raise SystemExit(f"FAILED: {path} ended by signal {-run.returncode}")
    if run.returncode:
        return None, run.stderr
    return {t["fqn"]: [t["dtype"], t["shape"], t["sha256"]] for t in json.loads(run.stdout)["tensors"]}, run.stderr


def save(value, path, way, protocol):
    if way == "pickle":
        with open(path, "wb") as file:
            pickle.dump(value, file, protocol=protocol)
    else:
        torch.save(value, path, pickle_protocol=protocol, _use_new_zipfile_serialization=way == "zip")


def check_states(cairn, folder, count, seed):
    results = collections.Counter()
    compared = 0
    for number in range(count):
        made = States(seed * 100_003 + number)
        torch.manual_seed(seed * 100_003 + number)
        state = {f"s{index}": made.state() for index in range(made.random.randint(1, 4))}
        state["last"] = torch.randn(2)
        way, protocol = made.random.choice(["zip", "zip", "legacy", "legacy", "pickle"]), made.random.randint(0, 5)
        path = os.path.join(folder, f"state{number}.pt")
        try:
            save(state, path, way, protocol)
        except Exception as problem:
            results[f"PyTorch cannot write it ({type(problem).__name__})"] += 1
            continue
        expected = tensors(state)
        compared += len(expected)
        found, said = digest(cairn, path)
        if found is None:
            # Two keys of one spelling are refused, since no name would tell them apart.
            named = "spelt alike" in said
            results["refused by name" if named else "FAILED"] += 1
            if not named:
                print(f"FAILED state {number} ({way}, protocol {protocol}): {said.strip()[:300]}")
            continue
        missing = [name for name in expected if name not in found]
        wrong = [name for name in expected if name in found and found[name] != expected[name]]
        more = [name for name in found if name not in expected]
        if wrong or more or missing:
            # Names that two ways lead to are told apart by backslashes; what else is missing must be named.
            same = sorted(map(str, expected.values())) == sorted(map(str, found.values())) and any("\\" in name for name in more)
            closed = missing and not wrong and not more and ("shown as text" in said or "left out" in said)
            if not same and not closed:
                results["FAILED"] += 1
                print(f"FAILED state {number} ({way}, protocol {protocol}): missing {missing[:3]}, wrong {wrong[:3]}, more {more[:3]}\n{said[:500]}")
                continue
            results["equal, other names" if same else "named as left out"] += 1
        else:
            results["equal"] += 1
        os.remove(path)
    print(f"{compared} tensors of states compared")
    return results


def check_ranks(cairn, folder, count, seed):
    """What ranks save of DTensors. No ranks run: each part is what PyTorch computes for the rank's place in the mesh."""
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "interop_pickled_ranks.py")
    results = collections.Counter()
    for number in range(count):
        made = random.Random(seed * 7919 + number)
        mesh = [made.randint(1, 3) for _ in range(made.randint(1, 2))]
        ranks = 1
        for extent in mesh:
            ranks *= extent
        place = os.path.join(folder, f"ranks{number}")
        os.mkdir(place)
        for rank in range(ranks):
            subprocess.run([sys.executable, script, place, json.dumps(mesh), str(rank), str(seed * 7919 + number)], check=True)
        found, said = digest(cairn, place)
        expected = tensors(torch.load(os.path.join(place, "truth.pt")))
        if found == expected:
            results["equal"] += 1
        else:
            results["FAILED"] += 1
            wrong = [name for name in expected if not found or found.get(name) != expected[name]]
            print(f"FAILED ranks {number}, mesh {mesh}: {wrong[:3]} {said.strip()[:300]}")
    return results


def main():
    cairn = sys.argv[1]
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 300
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for what, results in [
            ("states", check_states(cairn, folder, count, seed)),
            ("meshes", check_ranks(cairn, folder, max(1, count // 15), seed)),
        ]:
            failed += results["FAILED"]
            print(f"{what}, seed {seed}: " + ", ".join(f"{number} {name}" for name, number in sorted(results.items())))
    sys.exit(failed > 0)


main()
