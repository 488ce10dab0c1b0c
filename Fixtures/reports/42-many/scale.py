"""How long it takes to write and read many small tensors, in every format and beside the format's own library.

Usage: python scale.py CAIRN [COUNT…]      with torch, numpy, safetensors and h5py; 5000 10000 20000 tensors by default

Seconds of the processor, a line for each number of tensors: twice the tensors must not take more than about twice as long. There are
no inputs here: the script makes them.
"""
import os, resource, shutil, subprocess, sys, tempfile, time

import h5py
import numpy
import safetensors.numpy
import torch

FORMATS = {"npz": "many.npz", "hdf5": "many.h5", "safetensors": "many.safetensors", "torch": "many.pt", "dcp": "many-dcp",
           "dcp-safetensors": "many-shards", "cairn": "many-run"}


def seconds(*command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def own(body):
    before = time.process_time()
    body()
    return time.process_time() - before


def write_h5(arrays):
    with h5py.File("own.h5", "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)


def read_h5():
    with h5py.File("own.h5") as file:
        return {name: file[name][()] for name in file}


def read_npz():
    with numpy.load("own.npz") as file:
        return {name: file[name] for name in file.files}


def main():
    cairn = os.path.abspath(sys.argv[1])
    for count in [int(text) for text in sys.argv[2:]] or [5000, 10000, 20000]:
        folder = tempfile.mkdtemp()
        os.chdir(folder)
        tensors = {f"layers.{index}.w": torch.full((1,), float(index)) for index in range(count)}
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        torch.save(tensors, "source.pt")
        print(f"{count} tensors", flush=True)
        libraries = {
            "npz": (lambda: numpy.savez("own.npz", **arrays), read_npz), "hdf5": (lambda: write_h5(arrays), read_h5),
            "safetensors": (lambda: safetensors.numpy.save_file(arrays, "own.safetensors"),
                            lambda: safetensors.numpy.load_file("own.safetensors")),
            "torch": (lambda: torch.save(tensors, "own.pt"), lambda: torch.load("own.pt", weights_only=True)),
        }
        for form, target in FORMATS.items():
            line = [f"convert {seconds(cairn, 'convert', 'source.pt', target, '--to', form):.2f}"]
            for command in (["inspect"], ["digest"], ["verify", "--deep"]):
                line.append(f"{command[0]} {seconds(cairn, *command, target):.2f}")
            line.append(f"diff {seconds(cairn, 'diff', target, target):.2f}")
            if form in libraries:
                write, read = libraries[form]
                line.append(f"library: write {own(write):.2f}, read {own(read):.2f}")
            print(f"  {form}: " + ", ".join(line), flush=True)
        source = "many.safetensors"
        line = []
        for what, command in {
            "average": ["average", source, source, "-o", "a.safetensors"],
            "interpolate": ["interpolate", source, source, "--at", "0.5", "-o", "i.safetensors"],
            "rename": ["convert", source, "r.safetensors", "--to", "safetensors", "--rename", "layers.*=x.$1"],
            "select": ["convert", source, "s.safetensors", "--to", "safetensors", "--include", "*1*"],
            "cast": ["convert", source, "c.safetensors", "--to", "safetensors", "--dtype", "BF16"],
            "sharded": ["convert", source, "shards", "--to", "safetensors-sharded", "--max-shard-size", "4KB"],
            "reshard": ["reshard", source, "resharded", "--mesh", "dp=2", "--layout", "fsdp"],
        }.items():
            line.append(f"{what} {seconds(cairn, *command):.2f}")
        print("  views: " + ", ".join(line), flush=True)
        os.chdir("/")
        shutil.rmtree(folder)


main()
