"""Reads a Cairn checkpoint, format version 1, with nothing but Python's standard library.

Written from Docs/Format.md alone, as a check that the document is enough. Slow and plain on purpose.

    python3 read_cairn.py runs/kjv/step-00000400        prints a digest as JSON (schema cairn-digest/1)

Compressed fragments need a zstd decoder: Python 3.14's compression.zstd, the package zstandard, or the system's libzstd.
Without one they are reported under "unread", never guessed.
"""

import base64
import ctypes
import ctypes.util
import hashlib
import json
import math
import os
import struct
import sys


def zstd_decoder():
    """A function from a frame and the length it must expand to, to bytes; None when there is no decoder."""
    try:
        from compression import zstd

        return lambda frame, length: zstd.decompress(frame)
    except ImportError:
        pass
    try:
        import zstandard

        return lambda frame, length: zstandard.ZstdDecompressor().decompress(frame, max_output_size=length)
    except ImportError:
        pass
    name = ctypes.util.find_library("zstd")
    if name is None:
        return None
    library = ctypes.CDLL(name)
    library.ZSTD_decompress.restype = ctypes.c_size_t
    library.ZSTD_decompress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]

    def decompress(frame, length):
        target = ctypes.create_string_buffer(max(1, length))
        size = library.ZSTD_decompress(target, length, frame, len(frame))
        check(size == length, "a frame does not expand to its length")  # errors are impossibly large sizes
        return target.raw[:length]

    return decompress


zstd_decompress = zstd_decoder()


class Refused(Exception):
    """The checkpoint is damaged, contradicts itself, or needs a newer reader."""


def check(condition, message):
    if not condition:
        raise Refused(message)


def crc32c_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


CRC32C_TABLE = crc32c_table()


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value = CRC32C_TABLE[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip


def byte_count(dtype, shape):
    check(dtype in BITS, f"unknown dtype {dtype}")
    bits = math.prod(shape) * BITS[dtype]
    check(bits % 8 == 0, "the elements do not fill whole bytes")
    return bits // 8


def unique(pairs):
    keys = [key for key, _ in pairs]
    check(len(keys) == len(set(keys)), "a JSON object has a key twice")
    return dict(pairs)


def parse_json(text):
    def refuse(constant):
        raise Refused(f"{constant} is not JSON")

    return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)


def count(value):
    check(isinstance(value, int) and not isinstance(value, bool) and value >= 0, f"{value!r} is not a count")
    return value


def counts(values):
    check(isinstance(values, list), f"{values!r} is not a list")
    return [count(value) for value in values]


# Values


def decode_value(json_value):
    if isinstance(json_value, list):
        return [decode_value(element) for element in json_value]
    if not isinstance(json_value, dict):
        return json_value
    tags = [key for key in json_value if key.startswith("$") and not key.startswith("$$")]
    if not tags:
        return {key[1:] if key.startswith("$$") else key: decode_value(value) for key, value in json_value.items()}
    check(len(json_value) == 1, "a tag stands among other keys")
    (tag, text), = json_value.items()
    check(isinstance(text, str), "the value of a tag is a string")
    if tag == "$u64":
        return int(text)
    if tag == "$f64":
        return struct.unpack(">d", bytes.fromhex(text))[0]
    if tag == "$bytes":
        return base64.b64decode(text, validate=True)
    raise Refused(f"unknown tag {tag}")


def leaves(path, value):
    """The digest's form of a value: what is neither list nor dictionary, and how to get there."""
    if isinstance(value, list):
        for index, element in enumerate(value):
            yield from leaves(path + [index], element)
    elif isinstance(value, dict):
        for key in sorted(value, key=lambda key: key.encode()):
            yield from leaves(path + [key], value[key])
    else:
        if isinstance(value, bytes):
            value = {"$bytes": base64.b64encode(value).decode()}
        elif isinstance(value, float) and not math.isfinite(value):
            value = {"$f64": struct.pack(">d", value).hex()}
        yield {"path": path, "value": value}


# Rank files


class RankFile:
    def __init__(self, path, expected, identity):
        """identity: save id, step, rank and number of ranks that the file must have."""
        self.path = path
        with open(path, "rb") as file:
            self.bytes = file.read()
        check(len(self.bytes) == expected["bytes"], f"{path}: the file has another length than the manifest says")
        header = self.bytes[: expected["header_bytes"]]
        check(f"{crc32c(header):08x}" == expected["header_crc32c"], f"{path}: the header does not match its checksum")
        (length,) = struct.unpack("<Q", header[:8])
        check(8 + length == len(header), f"{path}: the header has another length than the manifest says")
        self.data_start = len(header)
        entries = parse_json(header[8:].decode())
        metadata = entries.pop("__metadata__")
        check(metadata["cairn.version"] == "1", f"{path}: another format version")
        self.save_id, self.step = metadata["cairn.save_id"], int(metadata["cairn.step"])
        self.rank, self.ranks = int(metadata["cairn.rank"]), int(metadata["cairn.ranks"])
        check(
            (self.save_id, self.step, self.rank, self.ranks)
            == identity,
            f"{path}: the file belongs to another save",
        )
        self.chunk_bytes = int(metadata["cairn.chunk_bytes"])
        check(
            4096 <= self.chunk_bytes <= 64 << 20 and self.chunk_bytes.bit_count() == 1,
            f"{path}: the chunk size is not allowed",
        )
        self.values = {name: decode_value(value) for name, value in parse_json(metadata["cairn.values"])}
        self.fragments = self.read_fragments(
            entries, parse_json(metadata["cairn.fragments"]), base64.b64decode(metadata["cairn.chunks"], validate=True)
        )

    def read_fragments(self, entries, described, table):
        words = iter(struct.unpack(f"<{len(table) // 4}I", table))
        check(set(described) <= set(entries), f"{self.path}: a fragment is described but not stored")
        fragments = {}
        end = 0
        for key, entry in sorted(entries.items(), key=lambda item: tuple(item[1]["data_offsets"])):
            begin, stop = counts(entry["data_offsets"])
            check(begin == end and stop >= begin, f"{self.path}: a hole or an overlap before {key}")
            end = stop
            about = described.get(key, {})
            codec = about.get("codec", "raw")
            check(codec in ("raw", "zstd-planes", "exponent-planes"), f"{self.path}: unknown codec {codec}")
            raw = codec == "raw"
            dtype = entry["dtype"] if raw else about["dtype"]
            extent = counts(entry["shape"] if raw else about["extent"])
            shape = counts(about.get("shape", extent))
            offset = counts(about.get("offset", [0] * len(extent)))
            total = byte_count(dtype, extent)
            check(stop - begin == byte_count(entry["dtype"], counts(entry["shape"])), f"{self.path}: {key} has no room")
            chunks = []
            position = begin
            for first in range(0, total, self.chunk_bytes):
                plain = min(self.chunk_bytes, total - first)
                stored = plain if raw else next(words)
                check(0 < stored <= plain, f"{self.path}: a stored length of {key} is impossible")
                chunks.append((position, stored, plain, next(words)))
                position += stored
            check(position == stop, f"{self.path}: the chunks of {key} do not fill its bytes")
            name = about.get("name", key)
            fragments[name, tuple(offset), tuple(extent)] = {
                "dtype": dtype, "shape": shape, "codec": codec, "chunks": chunks,
            }  # fmt: skip
        check(next(words, None) is None, f"{self.path}: the chunk table is too long")
        check(self.data_start + end == len(self.bytes), f"{self.path}: the data end elsewhere")
        return fragments

    def read(self, fragment):
        """The plain bytes of a fragment; None when a chunk is compressed and nothing here can expand it."""
        plain = bytearray()
        for offset, stored, length, checksum in fragment["chunks"]:
            begin = self.data_start + offset
            data = self.bytes[begin : begin + stored]
            check(crc32c(data) == checksum, f"{self.path}: the chunk at {begin} does not match its checksum")
            if stored < length:
                if zstd_decompress is None:
                    return None
                width = {"C64": 4}.get(fragment["dtype"], max(1, BITS[fragment["dtype"]] // 8))
                if fragment["codec"] == "exponent-planes":
                    planes = expand_planes(data, length // width, width)
                else:
                    planes = zstd_decompress(data, length)
                check(len(planes) == length, f"{self.path}: the chunk at {begin} does not expand to its length")
                data = join_planes(planes, width)
                if fragment["codec"] == "exponent-planes" and fragment["dtype"] in ROTATED:
                    data = rotated_right(data, width)
            plain += data
        return bytes(plain)


# The dtypes whose numbers the codec exponent-planes rotates.
ROTATED = ("F16", "BF16", "F32", "F64", "C64")


def expand_planes(data, elements, width):
    """The planes of a chunk, each of which is stored as it is or as a frame."""
    check(len(data) > 4 * width, "a chunk is shorter than the lengths of its planes")
    lengths = struct.unpack(f"<{width}I", data[: 4 * width])
    check(sum(lengths) == len(data) - 4 * width, "the planes of a chunk do not fill it")
    planes = b""
    position = 4 * width
    for length in lengths:
        check(0 < length <= elements, "the length of a plane is impossible")
        plane = data[position : position + length]
        position += length
        if length < elements:
            plane = zstd_decompress(plane, elements)
        check(len(plane) == elements, "a plane does not expand to its length")
        planes += plane
    return planes


def rotated_right(data, width):
    """Every number of so many bytes, with its lowest bit moved to the top."""
    form = f"<{len(data) // width}{ {2: 'H', 4: 'I', 8: 'Q'}[width] }"
    return struct.pack(form, *((number >> 1) | (number & 1) << (8 * width - 1) for number in struct.unpack(form, data)))


def join_planes(data, width):
    elements = len(data) // width
    plain = bytearray(data)
    for plane in range(width):
        plain[plane : elements * width : width] = data[plane * elements : (plane + 1) * elements]
    return bytes(plain)


# Checkpoints


def ascending(names):
    keys = [name.encode() for name in names]
    return all(first < second for first, second in zip(keys, keys[1:]))


def unpack(manifest):
    """The manifest with the members of its packed part, which only a zstd decoder can read."""
    packed = manifest.pop("packed")
    frame, length = base64.b64decode(packed["zstd"], validate=True), count(packed["bytes"])
    check(0 < length <= 1 << 30 and length // 1024 <= len(frame), "the packed part claims an impossible length")
    check(zstd_decompress is not None, "the manifest is packed, and there is no zstd decoder")
    plain = zstd_decompress(frame, length)
    check(len(plain) == length, "the packed part does not expand to its length")
    members = parse_json(plain.decode())
    check(not set(members) & set(manifest), "a member stands inside and outside the packed part")
    return {**manifest, **members}


class Checkpoint:
    def __init__(self, folder):
        with open(os.path.join(folder, "manifest.json"), "rb") as file:
            data = file.read()
        body, seal = data[:-32], data[-32:]
        check(seal == b',\n"checksum":"crc32c:%08x"}\n' % crc32c(body), "the manifest does not match its checksum")
        self.manifest = manifest = parse_json(data.decode())
        check(manifest["cairn"] == 1, f"format version {manifest['cairn']}")
        check(set(manifest["requires"]) <= {"packed", "layouts", "references"}, f"the checkpoint requires {manifest['requires']}")
        if "packed" in manifest["requires"]:
            self.manifest = manifest = unpack(manifest)
        for index, file in enumerate(manifest["files"]):
            name = file["name"]
            check(name and "/" not in name and name not in (".", ".."), f"file name {name!r}")
            check(min(name) > " ", f"file name {name!r}")
            check(file["rank"] == index, "the files are not in the order of ranks")
        self.own = len(manifest["files"])
        self.files = [
            RankFile(
                os.path.join(folder, file["name"]), file, (manifest["save_id"], manifest["step"], file["rank"], self.own)
            )
            for file in manifest["files"]
        ]
        # Files of earlier saves, numbered on from those of this one.
        earlier = manifest.get("earlier", [])
        check(bool(earlier) == ("references" in manifest["requires"]), "references and requirement differ")
        for entry in earlier:
            file = entry["file"]
            name = file["name"]
            check(name and "/" not in name and name not in (".", "..") and min(name) > " ", f"file name {name!r}")
            check(entry["save_id"] != manifest["save_id"], "an earlier file is of this save")
            path = os.path.join(folder, "..", f"step-{entry['step']:08d}", name)
            self.files.append(RankFile(path, file, (entry["save_id"], entry["step"], file["rank"], entry["ranks"])))
        self.tensors = {tensor["name"]: tensor for tensor in manifest["tensors"]}
        self.ties = dict(manifest["ties"])
        self.values = {name: decode_value(value) for name, value in manifest["values"]}
        for list_of_names in (
            [tensor["name"] for tensor in manifest["tensors"]],
            [name for name, _ in manifest["ties"]],
            [name for name, _ in manifest["values"]],
        ):
            check(ascending(list_of_names), "names are not sorted, or one stands twice")
        for name, target in self.ties.items():
            check(target in self.tensors and name not in self.tensors, f"the tie {name} leads nowhere")
        check(not set(self.values) & set(self.tensors), "a name stands for a tensor and a value")

    def read(self, name):
        """The bytes of a whole tensor, row-major, or None."""
        tensor = self.tensors[self.ties.get(name, name)]
        dtype, shape = tensor["dtype"], counts(tensor["shape"])
        if "layout" in tensor:
            # Where layouts say what is where, the headers say so too.
            places = {**{rank: rank for rank in range(self.own)}, **dict(tensor.get("elsewhere", []))}
            pieces = [
                [number, *key[1:]]
                for number in places.values()
                for key in self.files[number].fragments
                if key[0] == tensor["name"]
            ]
        elif "file" in tensor:
            pieces = [[tensor["file"], [0] * len(shape), shape]]
        else:
            pieces = tensor["fragments"]
        whole = bytearray(byte_count(dtype, shape))
        covered = bytearray(math.prod(shape))
        for file, offset, extent in pieces:
            key = (tensor["name"], tuple(counts(list(offset))), tuple(counts(list(extent))))
            check(0 <= file < len(self.files), f"{name}: no such file")
            held = self.files[file].fragments.get(key)
            check(held is not None, f"{name}: the file lacks a fragment")
            check((held["dtype"], held["shape"]) == (dtype, shape), f"{name}: described differently in the file")
            check(all(o + e <= s for o, e, s in zip(offset, extent, shape)), f"{name}: a fragment lies outside")
            data = self.files[file].read(held)
            if data is None:
                return None
            place(data, offset, extent, whole, covered, shape, BITS[dtype])
        check(all(covered), f"{name}: elements are missing")
        return bytes(whole)

    def digest(self):
        tensors, unread = [], []
        for name in sorted([*self.tensors, *self.ties], key=lambda name: name.encode()):
            described = self.tensors[self.ties.get(name, name)]
            data = self.read(name)
            if data is None:
                unread.append(name)
                continue
            tensors.append({
                "fqn": name, "dtype": described["dtype"], "shape": described["shape"],
                "sha256": hashlib.sha256(data).hexdigest(),
            })  # fmt: skip
        objects = [leaf for name, value in self.values.items() for leaf in leaves([name], value)]
        document = {"schema": "cairn-digest/1", "format": "cairn", "tensors": tensors, "objects": objects}
        if unread:
            document["unread"] = unread
        return document


def place(data, offset, extent, whole, covered, shape, bits):
    """Copies a fragment, row by row, to where it belongs in the whole tensor."""
    if math.prod(extent) == 0:
        return
    row = extent[-1] if extent else 1
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    index = [0] * max(0, len(extent) - 1)
    for source in range(0, math.prod(extent), row):
        target = sum((o + i) * s for o, i, s in zip(offset, [*index, 0], strides))
        check(not any(covered[target : target + row]), "two fragments overlap")
        covered[target : target + row] = b"\1" * row
        check(target * bits % 8 == 0 and row * bits % 8 == 0 or row == len(covered), "a row begins inside a byte")
        whole[target * bits // 8 : (target + row) * bits // 8] = data[source * bits // 8 : (source + row) * bits // 8]
        for axis in reversed(range(len(index))):
            index[axis] += 1
            if index[axis] < extent[axis]:
                break
            index[axis] = 0


if __name__ == "__main__":
    try:
        json.dump(Checkpoint(sys.argv[1]).digest(), sys.stdout, indent=1, ensure_ascii=False)
        print()
    except (Refused, OSError, KeyError, ValueError, TypeError, struct.error) as error:
        sys.exit(f"{sys.argv[1]}: {type(error).__name__}: {error}")
