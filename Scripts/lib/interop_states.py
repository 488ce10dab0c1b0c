"""Random nested states written by torch.save, through every writer of Cairn and back by `--to torch`: each comes back the same under
torch.load(weights_only=True), or every difference is named by its path in a note of one of the two conversions.

Usage: python interop_states.py CAIRN [COUNT [SEED]]

A path is the keys on the way joined by dots. Where a format has no nested dictionaries, names joined by dots count as the path,
if the note that says so names the entry. Exit code 1 and the state's seed for anything that changed without a word.
"""
import collections, json, math, os, pathlib, random, re, shutil, struct, subprocess, sys, tempfile, warnings

warnings.filterwarnings("ignore")
import numpy as np
import torch

torch.set_num_threads(1)
FORMATS = ["torch", "cairn", "safetensors", "safetensors-sharded", "dcp", "dcp-safetensors", "deepspeed-universal", "hdf5", "npz"]
# Keys that no file for weights_only holds come back as text: the note on the key is looked for, not the type of the key.
SHOWN = {"<torch.float16>", "frozenset([4])"}
NESTING = "kept in their names alone"
PLAIN = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
         torch.uint16, torch.uint32, torch.uint64, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2] * 6 + [torch.complex128]


class Maker:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.made = []

    def tensor(self):
        r = self.random
        shape = r.choice([(), (0,), (1,), (3,), (2, 3), (4, 1, 2), (2, 0, 3)])
        dtype = r.choice(PLAIN)
        count = math.prod(shape)
        width = torch.empty(0, dtype=dtype).element_size()
        if dtype == torch.bool:
            t = torch.tensor([r.random() < 0.5 for _ in range(count)], dtype=torch.bool).reshape(shape)
        else:
            raw = torch.tensor(list(r.randbytes(count * width)), dtype=torch.uint8)
            t = raw.view(dtype).reshape(shape) if count else torch.empty(shape, dtype=dtype)
        kind = r.randrange(8)
        if kind == 0 and t.dim() == 2:
            t = t.t()
        elif kind == 1 and t.dim() >= 1 and t.shape[0] > 1:
            t = t[1:]
        elif kind == 2 and t.is_floating_point() and width >= 2:
            t = t.requires_grad_()
        elif kind == 3 and t.is_floating_point() and width >= 2:
            t = torch.nn.Parameter(t, requires_grad=r.random() < 0.5)
        elif kind == 4 and self.made:
            t = r.choice(self.made)
        elif kind == 5 and t.dim() == 1 and t.shape[0] == 1:
            t = t.expand(4)
        elif kind == 6 and t.dtype == torch.complex64:
            t = t.conj()
        self.made.append(t)
        return t

    def special_tensor(self):
        r = self.random
        kind = r.randrange(6)
        dense = torch.tensor([[0.0, 1.5, 0.0], [2.5, 0.0, -3.0]])
        if kind == 0:
            return dense.to_sparse()
        if kind == 1:
            return dense.to_sparse_csr()
        if kind == 2:
            return torch.quantize_per_tensor(dense, 0.1, 3, r.choice([torch.qint8, torch.quint8, torch.qint32]))
        if kind == 3:
            return torch.quantize_per_channel(dense, torch.tensor([0.1, 0.2], dtype=torch.float64), torch.tensor([1, 2]), 0, torch.qint8)
        if kind == 4:
            return torch.empty(2, 3, device="meta")
        return np.array([[1, 2], [3, 4]], dtype=r.choice(["<f4", "<i8", ">i4"]))

    def scalar(self):
        r = self.random
        return r.choice([
            lambda: None, lambda: True, lambda: False, lambda: r.randrange(-10, 10), lambda: r.randrange(-2**63, 2**63),
            lambda: r.randrange(2**63, 2**64), lambda: r.randrange(2**64, 2**100), lambda: -r.randrange(2**63 + 1, 2**100),
            lambda: r.random(), lambda: -0.0, lambda: math.nan, lambda: math.inf, lambda: -math.inf, lambda: 5e-324,
            lambda: "text", lambda: "", lambda: "é\n\"'\\", lambda: "0", lambda: b"", lambda: b"\x00\xffbytes", lambda: bytearray(b"\x01\x00"),
            lambda: complex(1.5, -0.0), lambda: torch.Size([2, 3]), lambda: torch.Size([]), lambda: torch.float32, lambda: torch.bfloat16,
            lambda: torch.qint8, lambda: torch.device("cpu"), lambda: torch.device("cuda", 1), lambda: torch.strided,
            lambda: pathlib.PurePosixPath("a/b"), lambda: np.float32(1.5), lambda: np.int64(-3), lambda: np.dtype("<f4"),
            lambda: {1, 2, 3}, lambda: set(), lambda: {"a", (1, 2)}, lambda: frozenset({1, "x"}), lambda: {frozenset({1}), 2},
            lambda: collections.deque([1, 2]),
        ])()

    def key(self):
        r = self.random
        if r.random() < 0.8:
            return r.choice("abcdefgh") + str(r.randrange(30))
        return r.choice([0, 1, 7, -2, True, None, 0.5, (1, "a"), b"k", "with.dot", "with space", "ключ", 2**70, frozenset({4}), torch.float16])

    def node(self, depth):
        r = self.random
        chance = r.random()
        if depth <= 0 or chance < 0.35:
            return self.tensor() if r.random() < 0.5 else self.scalar()
        if chance < 0.42:
            return self.special_tensor()
        size = r.choice([0, 1, 2, 3, 3, 4])
        if chance < 0.57:
            return [self.node(depth - 1) for _ in range(size)]
        if chance < 0.69:
            return tuple(self.node(depth - 1) for _ in range(size))
        members = {}
        for _ in range(size):
            members.setdefault(self.key(), self.node(depth - 1))
        if chance < 0.78:
            return collections.OrderedDict(members)
        if chance < 0.83:
            made = collections.defaultdict(int)
            made.update(members)
            return made
        if chance < 0.86:
            return collections.Counter({"x": 2, "y": 3})
        return members

    def state(self):
        members = {}
        for _ in range(self.random.randrange(1, 7)):
            members.setdefault(self.key(), self.node(3))
        return members


def text(key):
    if isinstance(key, torch.dtype):
        return f"<{key}>"
    if isinstance(key, frozenset):
        return f"frozenset({sorted(key)})"
    return key if isinstance(key, str) else repr(key)


def is_tensor(node):
    return isinstance(node, (torch.Tensor, np.ndarray))


def has_tensor(node):
    if isinstance(node, dict):
        return any(has_tensor(value) for value in node.values())
    if isinstance(node, (list, tuple)) and not isinstance(node, torch.Size):
        return any(has_tensor(value) for value in node)
    return is_tensor(node)


def bits(t):
    t = t.detach().resolve_conj().resolve_neg().contiguous()
    if t.numel() == 0:
        return b""
    return t.reshape(-1).view(torch.uint8).numpy().tobytes()


def describe(leaf):
    """Everything about a leaf that must be the same."""
    if isinstance(leaf, np.ndarray):
        return ("ndarray", leaf.dtype.str, leaf.shape, leaf.tobytes())
    if isinstance(leaf, torch.Tensor):
        kind = ("Parameter" if isinstance(leaf, torch.nn.Parameter) else "Tensor", leaf.requires_grad, str(leaf.dtype), str(leaf.layout),
                leaf.device.type, tuple(leaf.shape))
        if leaf.device.type == "meta":
            return kind
        if leaf.layout == torch.sparse_coo:
            return kind + (leaf.is_coalesced(), bits(leaf._indices()), bits(leaf._values()))
        if leaf.layout == torch.sparse_csr:
            return kind + (bits(leaf.crow_indices()), bits(leaf.col_indices()), bits(leaf.values()))
        if leaf.is_quantized:
            scheme = leaf.qscheme()
            if scheme in (torch.per_tensor_affine, torch.per_tensor_symmetric):
                numbers = (leaf.q_scale(), leaf.q_zero_point())
            else:
                numbers = (bits(leaf.q_per_channel_scales()), bits(leaf.q_per_channel_zero_points()), leaf.q_per_channel_axis())
            return kind + (str(scheme), numbers, bits(leaf.int_repr()))
        return kind + (bits(leaf),)
    if isinstance(leaf, float):
        return (type(leaf).__name__, struct.pack(">d", leaf))
    if isinstance(leaf, complex):
        return ("complex", struct.pack(">dd", leaf.real, leaf.imag))
    if isinstance(leaf, (set, frozenset)):
        return (type(leaf).__name__, sorted(repr(describe(element)) for element in leaf))
    if isinstance(leaf, (dict, list, tuple, collections.deque)):
        return (type(leaf).__name__, repr(leaf))
    return (type(leaf).__name__, repr(leaf))


def flatten(node, path, found):
    """Paths to leaves and to containers; a container is its type and the types of its keys."""
    is_list = isinstance(node, (list, tuple)) and not isinstance(node, torch.Size)
    if isinstance(node, dict) and node:
        found.setdefault(path, ("container", type(node).__name__, sorted(repr(key) for key in node if text(key) not in SHOWN), has_tensor(node)))
        for key, value in node.items():
            flatten(value, path + "." + text(key) if path else text(key), found)
    elif is_list and len(node) > 0:
        found.setdefault(path, ("container", type(node).__name__, len(node), has_tensor(node)))
        for index, value in enumerate(node):
            flatten(value, f"{path}.{index}" if path else str(index), found)
    else:
        found[path] = ("leaf", describe(node))


def named(path, notes):
    """Whether a note names the path or what it lies in; what is changed as a whole is named as a whole."""
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        prefix = ".".join(parts[:count])
        if any(f'"{prefix}"' in note for note in notes if NESTING not in note):
            return True
    return False


def differences(original, result, notes):
    before, after = {}, {}
    flatten(original, "", before)
    flatten(result, "", after)
    nested = [note for note in notes if NESTING in note]
    for path, node in before.items():
        if path == "":
            continue
        other = after.get(path)
        if other == node or named(path, notes):
            continue
        if node[0] == "container" and node[3] and any(f'"{path[:end]}"' in note for note in nested for end in ends(path)):
            continue
        # What is left out of a set is named by its place in the list of its elements.
        if node[0] == "leaf" and "set" in str(node[1][0]) and any(f'"{path}.' in note for note in notes):
            continue
        # A dictionary that is gone because all in it is, each by its name.
        if node[0] == "container" and other is None and \
                all(named(below, notes) for below in before if below.startswith(path + ".") and before[below][0] == "leaf"):
            continue
        if node[0] == "container" and other is not None and other[0] == "container" and (node[1], other[1]) in ((node[1], node[1]), ("list", "dict")) and \
                any(named(path + "." + key, notes) for key in members(before, path)):
            continue
        yield f"{path}: {node} became {other}"
    for path in after:
        if path and path not in before and not named(path, notes):
            yield f"{path}: {after[path]} is new"


def ends(path):
    return [index for index, letter in enumerate(path) if letter == "."] + [len(path)]


def members(found, path):
    return {other[len(path) + 1:].split(".")[0] for other in found if other.startswith(path + ".")}


def convert(cairn, source, target, form):
    run = subprocess.run([cairn, "convert", source, target, "--to", form, "--force", "--json"], capture_output=True, text=True)
    if run.returncode != 0:
        return None, run.stderr.strip().split("\n")[-1]
    return json.loads(run.stdout)["notes"], ""


def main():
    cairn = sys.argv[1]
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 500
    first = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    work = tempfile.mkdtemp()
    outcomes = {form: collections.Counter() for form in FORMATS}
    failures = 0
    refusals = collections.Counter()
    for seed in range(first, first + count):
        state = Maker(seed).state()
        for form in FORMATS:
            own = dict(state)
            if form == "deepspeed-universal":
                for name in ("fp32", "exp_avg", "exp_avg_sq"):
                    own["weight." + name] = torch.arange(3, dtype=torch.float32)
            source, middle, back = (os.path.join(work, name) for name in ("state.pt", "middle", "back.pt"))
            if form in ("safetensors", "hdf5", "npz"):
                middle += {"safetensors": ".safetensors", "hdf5": ".h5", "npz": ".npz"}[form]
            for path in (source, middle, back):
                shutil.rmtree(path, ignore_errors=True) if os.path.isdir(path) else os.path.exists(path) and os.remove(path)
            torch.save(own, source)
            notes, refusal = convert(cairn, source, middle, form)
            if notes is not None:
                more, refusal = convert(cairn, middle, back, "torch")
                notes = None if more is None else notes + more
            if notes is None:
                outcomes[form]["refused"] += 1
                refusals[form + ": " + re.sub(r"\S*/\S*|\"[^\"]*\"", "…", refusal)[:150]] += 1
                continue
            try:
                result = torch.load(back, weights_only=True)
            except Exception as error:
                failures += 1
                print(f"FAILED seed {seed} {form}: torch.load: {error}")
                continue
            found = list(differences(own, result, notes))
            for line in found[:3]:
                print(f"FAILED seed {seed} {form}: {line[:300]}")
            failures += bool(found)
            outcomes[form]["changed in silence" if found else "named" if notes else "equal"] += 1
    shutil.rmtree(work)
    for form in FORMATS:
        print(f"{form}: " + ", ".join(f"{number} {what}" for what, number in sorted(outcomes[form].items())))
    for what, number in refusals.most_common():
        print(f"refused {number} times: {what}")
    sys.exit(failures > 0)


main()
