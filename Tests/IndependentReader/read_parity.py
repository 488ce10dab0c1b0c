"""Brings back files by Cairn's parity files, with nothing but Python's standard library.

Written from Docs/Format.md, section 10, alone, as a check that the document is enough. Slow and plain on purpose.

    python3 read_parity.py runs/kjv/step-00000400 TARGET        writes the protected files, whole, to another folder
"""

import base64
import os
import re
import struct
import sys

from read_cairn import Refused, check, crc32c, parse_json

NAME = re.compile(r"(parity-)(\d\d+)(-[0-9a-f]{16}\.safetensors)|(.+\.cairn-parity-)(\d\d+)")


def field_tables():
    """Powers of 2 in GF(256) with the polynomial 0x11D, and their exponents."""
    powers, exponents, value = [0] * 510, [0] * 256, 1
    for exponent in range(255):
        powers[exponent] = powers[exponent + 255] = value
        exponents[value] = exponent
        value <<= 1
        if value & 0x100:
            value ^= 0x11D
    return powers, exponents


POWERS, EXPONENTS = field_tables()


def product(a, b):
    return POWERS[EXPONENTS[a] + EXPONENTS[b]] if a and b else 0


def inverse(a):
    return POWERS[255 - EXPONENTS[a]]


def add_multiple(target, factor, source):
    """Adds a block times a factor to another."""
    if factor == 0:
        return target
    multiples = bytes(product(factor, byte) for byte in range(256))
    total = int.from_bytes(target, "little") ^ int.from_bytes(source.translate(multiples), "little")
    return total.to_bytes(len(target), "little")


def solve(rows, blocks):
    """The data blocks of a stripe from as many equations: rows of coefficients, and what they give."""
    rows, blocks, count = [list(row) for row in rows], list(blocks), len(rows)
    for column in range(count):
        pivot = next(row for row in range(column, count) if rows[row][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        blocks[column], blocks[pivot] = blocks[pivot], blocks[column]
        factor = inverse(rows[column][column])
        rows[column] = [product(factor, value) for value in rows[column]]
        blocks[column] = add_multiple(bytes(len(blocks[column])), factor, blocks[column])
        for row in range(count):
            factor = rows[row][column]
            if row != column and factor:
                rows[row] = [value ^ product(factor, other) for value, other in zip(rows[row], rows[column])]
                blocks[row] = add_multiple(blocks[row], factor, blocks[column])
    return blocks


def read_index(data):
    """The number and the index of a parity file's bytes, from the front or from the end; None where neither is whole."""
    for mark_at, at_front in ((4096, True), (len(data) - 32, False)):
        mark = data[mark_at : mark_at + 32] if mark_at >= 4096 else b""
        if len(mark) < 32 or mark[:8] != b"CAIRNPAR":
            continue
        version, number, length, index_crc, mark_crc = struct.unpack("<IIQII", mark[8:])
        if crc32c(mark[:28]) != mark_crc:
            continue
        check(version == 1, "the parity is of another version")
        begin = mark_at + 32 if at_front else mark_at - length
        if begin < 4096 or begin + length > len(data):
            continue
        index = data[begin : begin + length]
        if crc32c(index) == index_crc:
            return number, index
    return None


class ParitySet:
    """The protected files of a folder, as they are and as they were."""

    def __init__(self, folder):
        self.folder = folder
        found = {}
        for name in sorted(os.listdir(folder)):
            match = NAME.fullmatch(name)
            read = match and read_index(self.read(name))
            if read and read[0] == int(match[2] or match[5]):
                stem = (match[1] or match[4], match[3] or "")
                found.setdefault((stem, read[1]), []).append(read[0])
        check(found, f"{folder} has no parity file that can be read")
        (self.stem, text), _ = max(found.items(), key=lambda one: len(one[1]))
        index = parse_json(text.decode())
        check(index["cairn_parity"] == 1, "the parity is of another version")
        self.block_bytes = index["block_bytes"]
        self.files = [(file["name"], file["bytes"]) for file in index["files"]]
        for name, _ in self.files:
            parts = name.split("/")
            check(all(part not in ("", ".", "..") for part in parts), f"{name} leaves the folder")
        self.columns = index["columns"]
        self.blocks_at = 4096 + 32 + len(text)
        lengths = [sum(piece[2] for piece in column) for column in self.columns]
        self.length = max(lengths)
        self.stripes = -(-self.length // self.block_bytes)
        self.parity = [self.words(checksums, self.stripes) for checksums in index["checksums"]["parity"]]
        for file, (name, size) in enumerate(self.files):
            pieces = sorted(piece[1:] for column in self.columns for piece in column if piece[0] == file)
            end = 0
            for offset, length in pieces:
                check(offset == end and length > 0, f"the pieces of {name} leave a hole or overlap")
                end += length
            check(end == size, f"the pieces of {name} are not all of it")
        # By column and stripe: where in the block, which file, where in it, the checksum.
        self.segments = {}
        spans = []
        for column, pieces in enumerate(self.columns):
            start = 0
            for file, offset, length in pieces:
                for stripe in range(start // self.block_bytes, (start + length - 1) // self.block_bytes + 1):
                    low = max(start, stripe * self.block_bytes)
                    high = min(start + length, (stripe + 1) * self.block_bytes)
                    spans.append((column, stripe, low - stripe * self.block_bytes, high - low, file, offset + low - start))
                start += length
        checksums = self.words(index["checksums"]["data"], len(spans))
        for (column, stripe, at, length, file, offset), checksum in zip(spans, checksums):
            self.segments.setdefault((column, stripe), []).append((at, length, file, offset, checksum))
        self.data = [self.read(name) for name, _ in self.files]
        self.parity_data = [self.read(self.parity_name(number)) for number in range(len(self.parity))]

    def words(self, text, count):
        data = base64.b64decode(text, validate=True)
        check(len(data) == 4 * count, "another number of checksums than there are blocks")
        return struct.unpack(f"<{count}I", data)

    def read(self, name):
        try:
            with open(os.path.join(self.folder, name), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""

    def parity_name(self, number):
        return f"{self.stem[0]}{number:02}{self.stem[1]}"

    def block(self, row, stripe):
        """A block of a stripe; None where it is lost."""
        size = min(self.block_bytes, self.length - stripe * self.block_bytes)
        if row >= len(self.columns):
            number = row - len(self.columns)
            begin = self.blocks_at + stripe * self.block_bytes
            found = self.parity_data[number][begin : begin + size]
            return found if len(found) == size and crc32c(found) == self.parity[number][stripe] else None
        block = bytearray(size)
        for at, length, file, offset, checksum in self.segments.get((row, stripe), []):
            found = self.data[file][offset : offset + length]
            if len(found) != length or crc32c(found) != checksum:
                return None
            block[at : at + length] = found
        return bytes(block)

    def coefficients(self, row):
        count = len(self.columns)
        if row < count:
            return [int(row == column) for column in range(count)]
        return [inverse(row ^ column) for column in range(count)]

    def repaired(self):
        """Every protected file as it was, by name."""
        result = [bytearray(size) for _, size in self.files]
        count = len(self.columns)
        for stripe in range(self.stripes):
            blocks = {}
            for row in range(count + len(self.parity)):
                block = self.block(row, stripe)
                if block is not None:
                    blocks[row] = block
                if len(blocks) == count:
                    break
            check(len(blocks) == count, f"more is lost than parity brings back, in stripe {stripe}")
            rows = sorted(blocks)
            data = [blocks[row] for row in rows]
            if rows != list(range(count)):
                data = solve([self.coefficients(row) for row in rows], data)
            for column in range(count):
                for at, length, file, offset, checksum in self.segments.get((column, stripe), []):
                    found = data[column][at : at + length]
                    check(crc32c(found) == checksum, f"{self.files[file][0]}: parity gives other bytes at {offset}")
                    result[file][offset : offset + length] = found
        return {name: bytes(data) for (name, _), data in zip(self.files, result)}


if __name__ == "__main__":
    try:
        files = ParitySet(sys.argv[1]).repaired()
    except Refused as error:
        sys.exit(f"refused: {error}")
    for name, data in files.items():
        path = os.path.join(sys.argv[2], name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as target:
            target.write(data)
