"""Writes files of PyTorch's formats and what they hold. Usage: python generate.py FOLDER"""
import collections, hashlib, io, json, os, pickle, sys, zipfile
import numpy as np
import torch

out = sys.argv[1]
os.makedirs(os.path.join(out, "truth"), exist_ok=True)
torch.manual_seed(7)
NAMES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32", "int16": "I16",
         "int8": "I8", "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64", "bool": "BOOL", "complex32": "C32",
         "complex64": "C64", "complex128": "C128", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
         "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ", "float8_e8m0fnu": "F8_E8M0"}


def tensor(path, t):
    t = t.detach().resolve_conj().resolve_neg().contiguous().clone()
    raw = t.reshape(-1).view(torch.uint8).numpy().tobytes() if t.numel() else b""
    return {"fqn": ".".join(map(str, path)), "path": list(path), "dtype": NAMES[str(t.dtype)[6:]], "shape": list(t.shape),
            "sha256": hashlib.sha256(raw).hexdigest()}


def walk(o, path, tensors, objects):
    if isinstance(o, torch.Tensor):
        tensors.append(tensor(path, o))
    elif isinstance(o, dict) and o:
        for k, v in o.items():
            walk(v, path + [k], tensors, objects)
    elif isinstance(o, (dict, list, tuple)) and not o:
        pass
    elif isinstance(o, (list, tuple)):
        for i, v in enumerate(o):
            walk(v, path + [i], tensors, objects)
    else:
        kind = {type(None): "none", bool: "bool", int: "int", float: "float", str: "str"}[type(o)]
        value = o if not isinstance(o, int) or isinstance(o, bool) or abs(o) < 2**53 else str(o)
        objects.append({"path": path, "t": kind, "v": value})


truth = {"torch": torch.__version__, "files": {}}


def note(name, logical):
    tensors, objects = [], []
    walk(logical, [], tensors, objects)
    truth["files"][name] = {"tensors": tensors, "objects": objects}


def random(dtype, shape):
    size = torch.empty(0, dtype=dtype).element_size()
    count = int(np.prod(shape)) if shape else 1
    if dtype == torch.bool:
        return torch.randint(0, 2, shape).bool()
    return torch.randint(0, 120, (count * size,), dtype=torch.uint8).view(dtype).reshape(shape)


types = [getattr(torch, name) for name in NAMES]
plain = {str(t)[6:]: random(t, (2, 3)) for t in types}
base = torch.arange(30.0)
legacy = collections.OrderedDict(
    plain, empty=torch.empty(0, 4), scalar=torch.tensor(2.5), column=base.reshape(5, 6)[:, 2], tail=base[20:], tied=base[20:],
    conj=torch.complex(base[:4], base[4:8]).conj(), parameter=torch.nn.Parameter(torch.ones(3)),
    state={0: {"step": 3, "big": 2**70, "negative": -(2**40)}, "groups": [{"lr": 0.1, "betas": (0.9, 0.99), "nothing": None}], "deep": {"empty": {}}})
for protocol in (2, 4, 5):
    name = f"legacy_p{protocol}.pt"
    torch.save(legacy, os.path.join(out, name), _use_new_zipfile_serialization=False, pickle_protocol=protocol)
    note(name, legacy)
for protocol in (1, 3):
    name = f"zip_p{protocol}.pt"
    torch.save(legacy, os.path.join(out, name), pickle_protocol=protocol)
    note(name, legacy)

# As a big-endian machine would have written it: the numbers of every storage with their bytes the other way round.
source = io.BytesIO()
swapped = {"f32": torch.arange(6.0).reshape(2, 3), "i64": torch.tensor([1, -2, 3]), "bf16": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
           "c64": torch.tensor([1 + 2j, -3.5j], dtype=torch.complex64), "u8": torch.tensor([1, 2], dtype=torch.uint8),
           "u16": torch.tensor([258, 3], dtype=torch.uint16), "column": torch.arange(8.0, dtype=torch.float64).reshape(4, 2)[:, 1]}
torch.save(swapped, source)
widths = {"data/0": 4, "data/1": 8, "data/2": 2, "data/3": 4, "data/4": 1, "data/5": 2, "data/6": 8}
with zipfile.ZipFile(io.BytesIO(source.getvalue())) as archive, zipfile.ZipFile(os.path.join(out, "big_endian.pt"), "w") as target:
    for record in archive.infolist():
        data = archive.read(record)
        short = record.filename.split("/", 1)[1]
        if short == "byteorder":
            data = b"big"
        elif short in widths:
            width = widths[short]
            data = b"".join(data[i:i + width][::-1] for i in range(0, len(data), width))
        target.writestr(record.filename, data)
note("big_endian.pt", swapped)

# Tensors that consist of others.
matrix = torch.tensor([[0.0, 1, 0, 2], [0, 0, 3, 0], [4, 0, 0, 0], [0, 5, 0, 6]])
described, exotic = {}, {}
coo = torch.sparse_coo_tensor([[0, 1, 1], [2, 0, 2]], [3.0, 4, 5], (2, 3))
exotic["coo"] = coo
described["coo"] = {"layout": "torch.sparse_coo", "shape": [2, 3], "is_coalesced": False, "indices": coo._indices(), "values": coo._values()}
for layout in ("csr", "csc", "bsr", "bsc"):
    block = (2, 2) if layout.startswith("b") else None
    t = getattr(matrix, f"to_sparse_{layout}")(*([block] if block else []))
    rows = layout.endswith("r")
    exotic[layout] = t
    described[layout] = {"layout": f"torch.sparse_{layout}", "shape": [4, 4],
                         "crow_indices" if rows else "ccol_indices": t.crow_indices() if rows else t.ccol_indices(),
                         "col_indices" if rows else "row_indices": t.col_indices() if rows else t.row_indices(), "values": t.values()}
values = torch.arange(-4.0, 4).reshape(2, 4)
for name, dtype, point in (("qint8", torch.qint8, 3), ("quint8", torch.quint8, 100), ("qint32", torch.qint32, 0)):
    q = torch.quantize_per_tensor(values, 0.25, point, dtype)
    exotic[name] = q
    described[name] = {"dtype": f"torch.{name}", "qscheme": "torch.per_tensor_affine", "int_repr": q.int_repr(), "scale": 0.25, "zero_point": point}
q = torch.quantize_per_channel(values, torch.tensor([0.1, 0.2], dtype=torch.float64), torch.tensor([1, 2]), 0, torch.qint8)
exotic["channels"] = q
described["channels"] = {"dtype": "torch.qint8", "qscheme": "torch.per_channel_affine", "int_repr": q.int_repr(), "axis": 0,
                         "scales": q.q_per_channel_scales(), "zero_points": q.q_per_channel_zero_points()}
exotic["meta"] = torch.empty(3, 4, device="meta", dtype=torch.bfloat16)
described["meta"] = {"device": "meta", "dtype": "torch.bfloat16", "shape": [3, 4], "stride": [4, 1]}
parts = [torch.arange(4.0).reshape(2, 2), torch.arange(6.0).reshape(3, 2)]
nested = torch.nested.nested_tensor(parts)
exotic["nested"] = nested
described["nested"] = {"layout": "torch.nested_strided", "buffer": nested.values() if hasattr(nested, "values") else None,
                       "sizes": nested._nested_tensor_size(), "strides": nested._nested_tensor_strides(), "storage_offsets": nested._nested_tensor_storage_offsets()}
jagged = torch.nested.nested_tensor(parts, layout=torch.jagged)
exotic["jagged"] = jagged
described["jagged"] = {"layout": "torch.jagged", "values": jagged.values(), "offsets": jagged.offsets(), "lengths": None, "ragged_dimension": 1}
exotic["storage"] = torch.arange(3.0).untyped_storage()
described["storage"] = torch.arange(3.0).view(torch.uint8)
for name, options in (("described.pt", {}), ("described_legacy.pt", {"_use_new_zipfile_serialization": False})):
    torch.save(exotic, os.path.join(out, name), **options)
    note(name, described)

# Python's own pickle has the storages within.
inner = {"w": torch.arange(6, dtype=torch.int16).reshape(2, 3), "view": base.reshape(5, 6)[1:3, 2], "n": 4}
with open(os.path.join(out, "plain.pkl"), "wb") as file:
    pickle.dump(inner, file)
note("plain.pkl", inner)
torch.save(torch.arange(4.0), os.path.join(out, "bare_tensor.pt"))
truth["files"]["bare_tensor.pt"] = {"tensors": [dict(tensor([], torch.arange(4.0)), fqn="tensor")], "objects": []}


class Module(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(5, 3)
        self.register_buffer("n", torch.tensor(4))
        self.register_buffer("unsaved", torch.arange(3.0), persistent=False)

    def forward(self, x):
        return torch.relu(self.fc(x)) + self.unsaved + torch.tensor([1.0, 2.0, 3.0])


module = Module().eval()
traced = torch.jit.trace(module, torch.ones(2, 5))
frozen = torch.jit.freeze(torch.jit.script(module))
traced.save(os.path.join(out, "traced_constants.pt"))
frozen.save(os.path.join(out, "frozen.pt"))
truth["files"]["traced_constants.pt"] = {"tensors": [tensor([k], v) for k, v in dict(module.named_parameters(), **dict(module.named_buffers())).items()], "objects": []}
truth["files"]["frozen.pt"] = {"tensors": [tensor(["constants", i], v) for i, v in enumerate([module.fc.weight, module.fc.bias, module.unsaved, torch.tensor([1.0, 2.0, 3.0])])], "objects": []}
program = torch.export.export(module, (torch.ones(2, 5),))
torch.export.save(program, os.path.join(out, "exported.pt2"))
tensors = dict(program.state_dict)
tensors.update({k: v for k, v in program.constants.items() if isinstance(v, torch.Tensor)})
truth["files"]["exported.pt2"] = {"tensors": [tensor([k], v) for k, v in tensors.items()], "objects": []}
# What tools for debugging keep beside the weights names paths of the machine and is not needed.
for name, unwanted in (("traced_constants.pt", ".debug_pkl"), ("frozen.pt", ".debug_pkl"), ("exported.pt2", "models/model.json")):
    path = os.path.join(out, name)
    with zipfile.ZipFile(path) as archive:
        records = [(i.filename, archive.read(i)) for i in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for record, data in records:
            if not record.endswith(unwanted):
                archive.writestr(record, data)
            elif record.endswith(".json"):
                archive.writestr(record, "{}")
json.dump(truth, open(os.path.join(out, "truth", "truth.json"), "w"), indent=1)
print(sorted(os.listdir(out)))
