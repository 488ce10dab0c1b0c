"""Applies a delta to a checkpoint, written from Docs/Deltas.md and Docs/Format.md alone, with Python's standard library.

    python3 read_delta.py FILE.delta CHECKPOINT-FOLDER      prints the digests of the tensors that come out
"""

import hashlib
import json
import struct
import sys

from read_cairn import (
    BITS, ROTATED, Checkpoint, Refused, byte_count, check, count, counts, crc32c, expand_planes, join_planes, parse_json,
    rotated_right, zstd_decompress,
)  # fmt: skip

FORMS = {1: "B", 2: "H", 4: "I", 8: "Q"}


def width_of(dtype):
    """The bytes of the numbers that a tensor is made of: parts of complex ones; packed ones by the byte."""
    return {"C64": 4}.get(dtype, max(1, BITS[dtype] // 8))


def expanded(data, is_coded, numbers, width, dtype=None):
    """Numbers that may be coded, as bytes; of a dtype where they are elements."""
    if is_coded:
        data = join_planes(expand_planes(data, numbers, width), width)
        if dtype in ROTATED:
            data = rotated_right(data, width)
    check(len(data) == numbers * width, "the changes do not expand to their numbers")
    return data


def unfolded(number):
    return (number >> 1) ^ -(number & 1)


class Delta:
    def __init__(self, path):
        with open(path, "rb") as file:
            data = file.read()
        (length,) = struct.unpack("<Q", data[:8])
        header = parse_json(data[8 : 8 + length].decode())
        check(header["__metadata__"]["cairn.delta"] == "1", "no delta, or one of another version")
        start = 8 + length
        ranges = {name: counts(header[name]["data_offsets"]) for name in ("changes", "contents")}
        self.changes, contents = (data[start + begin : start + end] for begin, end in ranges.values())
        (plain,) = struct.unpack("<Q", contents[:8])
        text = contents[8:]
        if len(text) != plain:
            text = zstd_decompress(text, plain)
        check(len(text) == plain, "the contents do not expand to their length")
        self.contents = parse_json(text.decode())
        check(self.contents["schema"] == "cairn-delta-contents/1", "contents of another version")

    def chunks(self, entry):
        """The length and the changes of each chunk of a tensor."""
        if "chunks" not in entry:
            return
        begin, end, number = count(entry["begin"]), count(entry["end"]), count(entry["chunks"])
        table = end - 12 * number
        check(begin <= table <= end <= len(self.changes), "a table of chunks lies outside")
        for index in range(number):
            length, stored, checksum = struct.unpack_from("<III", self.changes, table + 12 * index)
            data = self.changes[begin : begin + stored]
            check(len(data) == stored and begin + stored <= table, "the changes of a chunk lie outside")
            check(crc32c(data) == checksum, "the changes of a chunk do not match their checksum")
            yield length, data
            begin += stored
        check(begin == table, "the changes of a tensor do not end at its table")

    def tensor(self, entry, base):
        """The bytes of a tensor of the result."""
        dtype, total = entry["dtype"], byte_count(entry["dtype"], counts(entry["shape"]))
        width = width_of(dtype)
        result = bytearray(total if entry["is"] == "new" else base.read(entry["name"]))
        check(len(result) == total, f"{entry['name']}: the base's has another length")
        if "base_sha256" in entry:
            check(hashlib.sha256(result).hexdigest() == entry["base_sha256"], f"{entry['name']}: the base has other elements")
        position = 0
        for length, data in self.chunks(entry):
            if data:
                part = bytes(result[position : position + length])
                result[position : position + length] = self.changed(part, data, width, dtype)
            position += length
        check(position in (0, total), f"{entry['name']}: its chunks do not cover it")
        check(hashlib.sha256(result).hexdigest() == entry["sha256"], f"{entry['name']}: other elements come out")
        return bytes(result)

    @staticmethod
    def changed(part, data, width, dtype):
        """A chunk with its changes made."""
        kind, gap_width, gaps_coded, numbers_coded = data[:4]
        numbers = len(part) // width
        if kind == 3:
            return expanded(data[4:], numbers_coded, numbers, width, dtype)
        if kind == 1:
            changed, gap_count, gap_bytes = struct.unpack_from("<III", data, 4)
            gaps = expanded(data[16 : 16 + gap_bytes], gaps_coded, gap_count, gap_width)
            places, place = [], 0
            for gap in struct.unpack(f"<{gap_count}{FORMS[gap_width]}", gaps):
                place += gap
                if gap < 256**gap_width - 1:
                    places.append(place)
                    place += 1
            check(len(places) == changed and (not places or places[-1] < numbers), "positions lie outside of a chunk")
            rest = data[16 + gap_bytes :]
        else:
            check(kind == 2, f"changes of the unknown kind {kind}")
            changed, places, rest = numbers, range(numbers), data[4:]
        folded = struct.unpack(f"<{changed}{FORMS[width]}", expanded(rest, numbers_coded, changed, width))
        values = list(struct.unpack(f"<{numbers}{FORMS[width]}", part))
        for place, difference in zip(places, folded):
            values[place] = (values[place] + unfolded(difference)) % 256**width
        return struct.pack(f"<{numbers}{FORMS[width]}", *values)

    def digests(self, base):
        """SHA-256 of every tensor that comes out, by name."""
        found = {}
        for entry in self.contents["tensors"]:
            if entry["is"] != "tied":
                found[entry["name"]] = hashlib.sha256(self.tensor(entry, base)).hexdigest()
        for entry in self.contents["tensors"]:
            if entry["is"] == "tied":
                found[entry["name"]] = found[entry["to"]]
        return found


if __name__ == "__main__":
    try:
        json.dump(Delta(sys.argv[1]).digests(Checkpoint(sys.argv[2])), sys.stdout, indent=1, ensure_ascii=False)
        print()
    except (Refused, OSError, KeyError, ValueError, TypeError, struct.error) as error:
        sys.exit(f"{sys.argv[1]}: {type(error).__name__}: {error}")
