"""Loads with PyTorch what Cairn wrote and compares it, bit for bit, with what Cairn says of the source.

Usage: python interop_torch.py torch FILE DIGEST [ORIGINAL]
       python interop_torch.py dcp DIRECTORY DIGEST RANKS
       python interop_torch.py dcp-safetensors DIRECTORY DIGEST RANKS

DIGEST is the JSON of `cairn digest SOURCE --json`; ORIGINAL a file of torch.save whose nesting the result must have.
"""
import base64, hashlib, json, os, struct, sys, warnings

warnings.filterwarnings("ignore")
import torch
import torch.distributed as dist
import gloo_process

NAMES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32", "int16": "I16",
         "int8": "I8", "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64", "bool": "BOOL", "complex32": "C32",
         "complex64": "C64", "complex128": "C128", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
         "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ", "float8_e8m0fnu": "F8_E8M0", "float4_e2m1fn_x2": "F4"}


def describe(t):
    t = t.detach()
    shape = list(t.shape)
    name = NAMES[str(t.dtype)[6:]]
    if name == "F4" and shape:
        shape[-1] *= 2
    t = t.resolve_conj().resolve_neg().contiguous() if t.is_complex() else t.contiguous()
    raw = b""
    if t.numel():
        flat = torch.empty(0, dtype=torch.uint8)
        storage = t.untyped_storage()
        start = t.storage_offset() * t.element_size()
        flat.set_(storage, start, (t.numel() * t.element_size(),))
        raw = flat.numpy().tobytes()
    return name, shape, hashlib.sha256(raw).hexdigest()


def leaf(value):
    """A value in the spelling of cairn-digest/1."""
    if isinstance(value, float):
        return ("f64", struct.pack(">d", value).hex())
    if isinstance(value, (bytes, bytearray)):
        return ("bytes", base64.b64encode(bytes(value)).decode())
    return (type(value).__name__, value)


def expected_leaf(value):
    if isinstance(value, dict) and "$f64" in value:
        return ("f64", value["$f64"])
    if isinstance(value, dict) and "$bytes" in value:
        return ("bytes", value["$bytes"])
    return leaf(value)


def key(component):
    text = str(component)
    return int(text) if text.lstrip("-").isdigit() and str(int(text)) == text else text


def walk(node, path, tensors, leaves):
    if isinstance(node, torch.Tensor):
        tensors[".".join(map(str, path))] = describe(node)
    elif isinstance(node, dict):
        for name, child in node.items():
            walk(child, path + [name], tensors, leaves)
    elif isinstance(node, (list, tuple)):
        for index, child in enumerate(node):
            walk(child, path + [index], tensors, leaves)
    else:
        leaves[tuple(map(key, path))] = leaf(node)


def compare(tensors, leaves, digest, what, with_values=True):
    wanted = {t["fqn"]: (t["dtype"], t["shape"], t["sha256"]) for t in digest["tensors"]}
    # Dots within keys get a backslash where two names would be alike; PyTorch's names have none.
    unescaped = {name.replace("\\.", ".").replace("\\\\", "\\"): found for name, found in wanted.items()}
    if set(tensors) != set(wanted) and len(unescaped) == len(wanted):
        wanted = unescaped
    problems = [f"tensor {n}: {tensors.get(n)} instead of {w}" for n, w in wanted.items() if tensors.get(n) != w]
    problems += [f"tensor {n} is too much" for n in tensors if n not in wanted]
    count = 0
    if with_values:
        expected = {tuple(map(key, o["path"])): expected_leaf(o["value"]) for o in digest["objects"]}
        count = len(expected)
        problems += [f"value {p}: {leaves.get(p)} instead of {v}" for p, v in expected.items() if leaves.get(p) != v]
        problems += [f"value {p} is too much" for p in leaves if p not in expected]
    for problem in problems[:10]:
        print("   ", problem)
    print(f"{'FAILED' if problems else 'ok'}: {what}: {len(wanted)} tensors, {count} values, torch {torch.__version__}")
    return not problems


def same_nesting(one, other, path=""):
    """Whether two states are nested alike; leaves are compared elsewhere."""
    import collections.abc
    if isinstance(other, collections.abc.Mapping):
        if not isinstance(one, dict) or list(one) != list(other):
            return f"{path}: {type(one).__name__} instead of a dictionary, or other keys"
        return next((p for p in (same_nesting(one[k], other[k], f"{path}/{k}") for k in other) if p), None)
    if type(other) in (list, tuple):
        if type(one) is not type(other) or len(one) != len(other):
            return f"{path}: {type(one).__name__} instead of {type(other).__name__}"
        return next((p for p in (same_nesting(a, b, f"{path}/{i}") for i, (a, b) in enumerate(zip(one, other))) if p), None)
    return None


def check_torch(path, digest, original):
    good = True
    ways = [("weights_only", {})]
    if torch.__version__ >= "2.1":
        ways.append(("mmap", {"mmap": True}))
    for name, options in ways:
        tensors, leaves = {}, {}
        try:
            state = torch.load(path, weights_only=True, **options)
        except Exception as error:
            # Before 2.2 the restricted loader knew neither bytes nor the types that came later.
            if torch.__version__ >= "2.2":
                raise
            print(f"left out: torch {torch.__version__}: {str(error).splitlines()[0][-80:]}")
            return good
        walk(state if not isinstance(state, torch.Tensor) else {"tensor": state}, [], tensors, leaves)
        good &= compare(tensors, leaves, digest, f"torch.load {name} {os.path.basename(path)}")
    try:
        from torch.utils.serialization import config
        config.load.calculate_storage_offsets = True
        tensors, leaves = {}, {}
        walk(torch.load(path, weights_only=True, mmap=True), [], tensors, leaves)
        good &= compare(tensors, leaves, digest, f"torch.load with computed offsets {os.path.basename(path)}")
    except (ImportError, AttributeError):
        pass
    if original:
        problem = same_nesting(torch.load(path, weights_only=True), torch.load(original, weights_only=False))
        print(f"{'FAILED' if problem else 'ok'}: nested as in {os.path.basename(original)}{': ' + problem if problem else ''}")
        good &= not problem
    return good


def load(kind, path, rank, size):
    """The whole checkpoint, read by all ranks into shards of the first dimension and gathered."""
    import torch.distributed.checkpoint as dcp
    if kind == "dcp":
        reader = dcp.FileSystemReader(path)
    else:
        from torch.distributed.checkpoint import HuggingFaceStorageReader
        reader = HuggingFaceStorageReader(path)
    metadata = reader.read_metadata()
    flat = {}
    mesh = None
    if size > 1:
        from torch.distributed._tensor import DeviceMesh
        mesh = DeviceMesh("cpu", list(range(size)))
    for name, entry in metadata.state_dict_metadata.items():
        if type(entry).__name__ == "BytesStorageMetadata":
            flat[name] = None
            continue
        dtype = entry.properties.dtype
        if mesh is None or len(entry.size) == 0 or 0 in entry.size:
            flat[name] = torch.empty(entry.size, dtype=dtype)
            continue
        from torch.distributed._tensor import DTensor, Shard
        from torch.distributed._tensor._utils import compute_local_shape_and_global_offset
        shape, _ = compute_local_shape_and_global_offset(entry.size, mesh, [Shard(0)])
        stride = torch.empty(entry.size, dtype=dtype, device="meta").stride()
        flat[name] = DTensor.from_local(torch.empty(shape, dtype=dtype), mesh, [Shard(0)], run_check=False, shape=entry.size, stride=stride)
    if size == 1 and not dist.is_initialized():
        dcp.load(flat, storage_reader=reader) if hasattr(dcp, "load") else dcp.load_state_dict(flat, reader, no_dist=True)
    else:
        dcp.load(flat, storage_reader=reader) if hasattr(dcp, "load") else dcp.load_state_dict(flat, reader)
    gathered = {}
    for name, value in flat.items():
        if hasattr(value, "to_local"):
            # Bytes, since gloo does not send every type.
            local = value.to_local().contiguous()
            raw = local.view(torch.uint8).numpy().tobytes() if local.numel() else b""
            parts = [None] * size
            dist.all_gather_object(parts, raw)
            whole = torch.frombuffer(bytearray(b"".join(parts)), dtype=torch.uint8)
            gathered[name] = whole.view(value.dtype).reshape(value.shape)
        else:
            gathered[name] = value
    return gathered, metadata.planner_data


def worker(rank, size, kind, path, digest, port, result):
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    if size > 1:
        dist.init_process_group("gloo", rank=rank, world_size=size)
    flat, paths = load(kind, path, rank, size)
    if rank == 0:
        tensors, leaves = {}, {}
        for name, value in flat.items():
            if isinstance(value, torch.Tensor):
                tensors[name] = describe(value)
            else:
                walk(value, list(paths[name]) if paths else [name], tensors, leaves)
        if kind == "dcp-safetensors":
            digest = without_ties(path, digest)
        good = compare(tensors, leaves, digest, f"{kind} on {size} ranks {os.path.basename(path)}", with_values=kind == "dcp")
        if kind == "dcp" and size == 1 and paths:
            good &= unflattened(path, digest)
        result.value = int(good)
    if size > 1:
        gloo_process.leave()


def without_ties(path, digest):
    """The digest without names that are stored under another one, which this format has no way to say to others."""
    from safetensors import safe_open
    tied = set()
    for file in sorted(os.listdir(path)):
        with safe_open(os.path.join(path, file), "pt") as shard:
            tied |= set(json.loads((shard.metadata() or {}).get("cairn.ties", "{}")))
    if tied:
        print(f"left out: {', '.join(sorted(tied))}: stored once, under another name")
    return dict(digest, tensors=[t for t in digest["tensors"] if t["fqn"] not in tied])


def unflattened(path, digest):
    """As `dcp_to_torch_save` puts the checkpoint together, without being told what is in it."""
    try:
        from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
        from torch.distributed.checkpoint.state_dict_loader import _load_state_dict
        import torch.distributed.checkpoint as dcp
    except ImportError:
        return True
    state = {}
    try:
        _load_state_dict(state, storage_reader=dcp.FileSystemReader(path), planner=_EmptyStateDictLoadPlanner(), no_dist=True)
    except BaseException as error:
        # PyTorch cannot do so with its own checkpoints either where the dictionaries of a list are empty; its exception
        # is no Exception.
        if "Missing key" not in str(error):
            raise
        print(f"left out: PyTorch does not put {os.path.basename(path)} together: {str(error).splitlines()[-1]}")
        return True
    tensors, leaves = {}, {}
    walk(state, [], tensors, leaves)
    return compare(tensors, leaves, digest, f"dcp put together {os.path.basename(path)}")


def main():
    kind, path = sys.argv[1:3]
    digest = json.load(open(sys.argv[3]))
    if kind == "torch":
        return check_torch(path, digest, sys.argv[4] if len(sys.argv) > 4 else None)
    import torch.multiprocessing as mp
    size = int(sys.argv[4])
    result = mp.get_context("spawn").Value("i", 0)
    port = gloo_process.free_port()
    if size == 1:
        worker(0, 1, kind, path, digest, port, result)
    else:
        mp.spawn(worker, (size, kind, path, digest, port, result), nprocs=size)
    return bool(result.value)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
