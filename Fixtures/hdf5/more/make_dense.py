"""Makes dense.h5: attributes that the headers of their objects have no room for, of every kind of type.

h5py 3.16.0 (HDF5 2.0.0). Attribute number i of each object is number, text, text of fixed length, numbers or truth by turns.
"""

import h5py
import numpy as np

with h5py.File("dense.h5", "w", libver="latest") as file:
    file["w"] = np.arange(6, dtype="f4")
    group = file.create_group("group")
    for holder in (file["w"], group):
        for index in range(60):
            name = f"a{index:02}"
            match index % 6:
                case 0: holder.attrs[name] = index
                case 1: holder.attrs[name] = f"text {index} é"
                case 2: holder.attrs.create(name, f"{index}", dtype="S8")
                case 3: holder.attrs[name] = np.arange(3) + index / 2
                case 4: holder.attrs[name] = index % 4 == 0
                case 5: holder.attrs[name] = [f"{index}", "", "x" * 40]
