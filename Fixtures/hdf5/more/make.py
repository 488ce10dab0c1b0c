"""Makes the files of this folder: python make.py, with h5py 3.16.0 (HDF5 2.0.0) and NumPy 2.4.6."""
import hashlib
import json

import h5py
import numpy as np

NAMES = {"bool": "BOOL", "int8": "I8", "uint8": "U8", "int16": "I16", "uint16": "U16", "int32": "I32", "uint32": "U32",
         "int64": "I64", "uint64": "U64", "float16": "F16", "float32": "F32", "float64": "F64", "complex64": "C64"}
rng = np.random.default_rng(7)
truth = {}


def record(name, array):
    array = np.asarray(array)
    array = array.astype(array.dtype.newbyteorder("<"))
    return {"fqn": name, "dtype": NAMES[array.dtype.name], "shape": list(array.shape),
            "sha256": hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()}


def note(path, skipped=()):
    tensors = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: tensors.append(record(name, item[()]))
                        if isinstance(item, h5py.Dataset) and name not in skipped else None)
    truth[path] = {"tensors": tensors, "values": []}


# What lies elsewhere, leads nowhere or round in circles, and what no tensor is.
with h5py.File("kinds.h5", "w") as file:
    file["w"] = np.arange(12, dtype="f4").reshape(3, 4)
    file["external_link"] = h5py.ExternalLink("w.h5", "/w")
    file["soft_cycle"] = h5py.SoftLink("/soft_cycle")
    group = file.create_group("group")
    group["up"] = file["/"]
    group["inner/w2"] = np.arange(3)
    file["other"] = file["group/inner"]
    file["soft_group"] = h5py.SoftLink("/group")
    file.create_dataset("external_data", shape=(10,), dtype="f4", external=[("data.raw", 0, 40)])
    layout = h5py.VirtualLayout(shape=(3, 4), dtype="f4")
    layout[...] = h5py.VirtualSource("w.h5", "w", shape=(3, 4))
    file.create_virtual_dataset("virtual", layout)
    file["reference"] = np.array([file["w"].ref], dtype=h5py.ref_dtype)
    ragged = file.create_dataset("ragged", (2,), dtype=h5py.vlen_dtype("i4"))
    ragged[0], ragged[1] = [1, 2, 3], [4]
    file["long_double"] = np.ones(3, np.longdouble)
    file["enumeration"] = np.array([0, 2, 1], dtype=h5py.enum_dtype({"A": 0, "B": 1, "C": 2}, "u2"))
    file["arrays"] = np.zeros(4, dtype=[("v", "f4", (2, 3))])["v"] + np.arange(6).reshape(2, 3).astype("f4")
    pairs = h5py.h5t.array_create(h5py.h5t.IEEE_F32BE, (2, 3))
    identifier = h5py.h5d.create(file.id, b"inner_dimensions", pairs, h5py.h5s.create_simple((4,)))
    identifier.write(h5py.h5s.ALL, h5py.h5s.ALL, np.arange(24, dtype=">f4").reshape(4, 2, 3), mtype=pairs)
    file["opaque"] = np.frombuffer(bytes(range(12)), dtype="V3")
    file["named_type"] = np.dtype("f4")
    file.create_dataset("of_named_type", data=np.ones(2, "f4"), dtype=file["named_type"])
    twelve = h5py.h5t.STD_I16LE.copy()
    twelve.set_precision(12)
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((5,))
    properties.set_filter(h5py.h5z.FILTER_NBIT)
    identifier = h5py.h5d.create(file.id, b"twelve_bits", twelve, h5py.h5s.create_simple((11,)), properties)
    identifier.write(h5py.h5s.ALL, h5py.h5s.ALL, np.arange(-5, 6, dtype="i2"))
    file.create_dataset("float_scaleoffset", data=np.linspace(0, 1, 20, dtype="f4"), chunks=(6,), scaleoffset=3)
note("kinds.h5", skipped=["external_data", "virtual", "reference", "ragged", "long_double", "inner_dimensions", "opaque"])
truth["kinds.h5"]["tensors"] += [record("inner_dimensions", np.arange(24, dtype="f4").reshape(4, 2, 3)),
                                 record("opaque", np.arange(12, dtype="u1").reshape(4, 3))]

# Every index of chunks, as old and new versions write them; some chunks were never written.
for name, versions in {"v18.h5": ("v108", "v108"), "v110.h5": ("v110", "v110"), "v112.h5": ("v112", "v112"),
                       "latest.h5": "latest"}.items():
    with h5py.File(name, "w", libver=versions, userblock_size=512) as file:
        for filters in ({}, {"compression": "gzip"}, {"compression": "lzf", "shuffle": True, "fletcher32": True}):
            group = file.create_group("-".join(map(str, filters)) or "plain")
            group.create_dataset("single", data=rng.standard_normal((5, 7)), chunks=(5, 7), **filters)
            group.create_dataset("fixed", data=np.arange(60, dtype=">i4").reshape(6, 10), chunks=(4, 3), **filters)
            group.create_dataset("roomy", data=np.arange(60.0).reshape(6, 10), chunks=(4, 3), maxshape=(9, 40), **filters)
            group.create_dataset("paged", data=np.arange(1500, dtype="u2"), chunks=(1,), maxshape=(2000,), **filters)
            group.create_dataset("growing", data=np.arange(1200, dtype="i2"), chunks=(1,), maxshape=(None,), **filters)
            wide = group.create_dataset("wide", shape=(9, 40), dtype="f4", chunks=(4, 6), maxshape=(20, None),
                                        fillvalue=2.5, **filters)
            wide[:4, 12:30] = rng.standard_normal((4, 18))
            group.create_dataset("free", data=rng.standard_normal((30, 8)).astype("c8"), chunks=(2, 2),
                                 maxshape=(None, None), **filters)
        file.create_dataset("offsets", data=np.arange(-40, 60), chunks=(9,), scaleoffset=0)
        file.create_dataset("truths", data=rng.random(9) > 0.5)
        file.attrs["flags"] = np.array([True, False])
    note(name)
json.dump({"files": truth}, open("truth/truth.json", "w"), separators=(",", ":"))
