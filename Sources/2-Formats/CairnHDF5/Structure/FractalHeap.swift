import CairnBase
import CairnStorage

/// A heap of blocks that double in size: where an object keeps attributes that its header has no room for, and a file
/// the parts of headers that several objects share.
///
/// Source: HDF5 File Format Specification 3.0, III.G, and the library's `H5HF`.
final class FractalHeap {
    /// The header of the heap, as it is needed to find objects.
    private struct Table {
        var width: Int
        var startByteCount: Int
        var greatestDirect: Int
        /// How many rows the root has; none where it is the one block with objects.
        var rootRows: Int

        func rowByteCount(_ row: Int) -> Int { row == 0 ? startByteCount : startByteCount << (row - 1) }
        var directRows: Int { greatestDirect.trailingZeroBitCount - startByteCount.trailingZeroBitCount + 2 }
        /// How many rows a block of blocks has that stands for so many bytes.
        func rows(of byteCount: Int) -> Int {
            byteCount.trailingZeroBitCount - startByteCount.trailingZeroBitCount - width.trailingZeroBitCount + 1
        }
    }

    private let parts: MetadataParts
    private let address: Int
    private let table: Table
    private let offsetWidth: Int
    private let lengthWidth: Int
    private let hasSums: Bool
    private let root: Int?
    private let idByteCount: Int
    /// Objects too large for blocks, by their number.
    private let huge: [Int: (address: Int, byteCount: Int)]
    /// The blocks that were looked at, by where they are.
    private var blocks: [Int: [UInt8]] = [:]

    /// - Throws: ``CairnError/Code/corrupted`` when it is damaged, ``CairnError/Code/unsupported`` when it went through
    ///   filters.
    init(_ address: Int, in parts: MetadataParts) throws(CairnError) {
        let (addressWidth, length) = (parts.widths.address, parts.widths.length)
        let start = try parts.bytes(address, 10)
        guard start[7] == 0, start[8] == 0 else {
            throw CairnError(
                .unsupported, "a heap of the file's description went through filters",
                .init(file: parts.file.key, offset: address))
        }
        let fixed = 14 + 12 * length + 3 * addressWidth
        let header = try parts.part(address, fixed + 12, "FRHP")
        let geometry = 14 + 10 * length + 2 * addressWidth
        guard let idByteCount = header.integer(5, 2), idByteCount >= 2, let flags = header.integer(9, 1),
            let greatestObject = header.integer(10, 4), greatestObject > 0, let width = header.integer(geometry, 2),
            let startByteCount = header.integer(geometry + 2, length),
            let greatestDirect = header.integer(geometry + 2 + length, length),
            let bits = header.integer(geometry + 2 + 2 * length, 2),
            let rows = header.integer(geometry + 6 + 2 * length + addressWidth, 2),
            width.nonzeroBitCount == 1, startByteCount.nonzeroBitCount == 1, greatestDirect.nonzeroBitCount == 1,
            startByteCount <= greatestDirect, greatestDirect <= 1 << 32, bits <= 64,
            // The last row must end where numbers do.
            rows + startByteCount.trailingZeroBitCount + width.trailingZeroBitCount < 62
        else { throw parts.damaged("the header of a heap contradicts itself", address) }
        self.parts = parts
        self.address = address
        self.idByteCount = idByteCount
        table = Table(
            width: width, startByteCount: startByteCount, greatestDirect: greatestDirect, rootRows: rows)
        offsetWidth = (bits + 7) / 8
        lengthWidth = min(
            (greatestDirect.trailingZeroBitCount + 7) / 8,
            (Int.bitWidth - 1 - greatestObject.leadingZeroBitCount) / 8 + 1)
        hasSums = flags & 2 != 0
        root = header.address(geometry + 6 + 2 * length, addressWidth)
        var huge: [Int: (address: Int, byteCount: Int)] = [:]
        if let index = header.address(14 + length, addressWidth), addressWidth + length > idByteCount - 1 {
            for record in try BTree2(parts).records(of: index, kind: 1, byteCount: addressWidth + 2 * length) {
                guard let location = record.address(0, addressWidth), let byteCount = record.integer(addressWidth, length),
                    let number = record.integer(addressWidth + length, length)
                else { throw parts.damaged("an object of a heap has no address", index) }
                huge[number] = (location, byteCount)
            }
        }
        self.huge = huge
    }

    /// The object that goes by an identifier.
    func object(_ id: [UInt8]) throws(CairnError) -> [UInt8] {
        let fields = ByteFields(id)
        guard id.count >= idByteCount, id[0] >> 6 == 0 else { throw missing() }
        switch id[0] >> 4 & 3 {
        case 0:
            guard let offset = fields.integer(1, offsetWidth),
                let byteCount = fields.integer(1 + offsetWidth, lengthWidth), byteCount > 0
            else { throw missing() }
            return try managed(offset, byteCount)
        case 1:
            let (addressWidth, length) = (parts.widths.address, parts.widths.length)
            if addressWidth + length <= idByteCount - 1 {
                guard let location = fields.address(1, addressWidth),
                    let byteCount = fields.integer(1 + addressWidth, length)
                else { throw missing() }
                return try parts.bytes(location, byteCount)
            }
            guard let number = fields.integer(1, min(length, idByteCount - 1)), let location = huge[number] else {
                throw missing()
            }
            return try parts.bytes(location.address, location.byteCount)
        case 2 where idByteCount <= 17:
            let byteCount = Int(id[0] & 15) + 1
            guard byteCount < idByteCount else { throw missing() }
            return Array(id[1..<1 + byteCount])
        default: throw missing()
        }
    }

    private func missing() -> CairnError { parts.damaged("an object of a heap has no address", address) }

    /// An object in one of the blocks, whose places are counted through with all that is in them.
    private func managed(_ offset: Int, _ byteCount: Int) throws(CairnError) -> [UInt8] {
        guard var block = root else { throw missing() }
        var begin = 0
        var rows = table.rootRows
        var size = table.startByteCount
        let addressWidth = parts.widths.address
        while rows > 0 {
            let directRows = min(rows, table.directRows)
            let indirectRows = rows - directRows
            let header = 5 + addressWidth + offsetWidth
            let content = header + (directRows + indirectRows) * table.width * addressWidth
            let fields = try parts.part(block, content + 4, "FHIB")
            var row = 0
            var rowBegin = begin
            while row < rows, offset >= rowBegin + table.width * table.rowByteCount(row) {
                rowBegin += table.width * table.rowByteCount(row)
                row += 1
            }
            guard row < rows, offset >= rowBegin else { throw missing() }
            let column = (offset - rowBegin) / table.rowByteCount(row)
            guard let child = fields.address(header + (row * table.width + column) * addressWidth, addressWidth) else {
                throw missing()
            }
            block = child
            size = table.rowByteCount(row)
            begin = rowBegin + column * size
            if row < table.directRows { break }
            // A block of blocks has fewer rows than the one that it is in.
            rows = table.rows(of: size)
            guard rows > 0 else { throw missing() }
        }
        let position = offset - begin
        guard position >= 5 + addressWidth + offsetWidth, let end = position.adding(checked: byteCount), end <= size
        else { throw missing() }
        return Array(try direct(block, size)[position..<end])
    }

    private func direct(_ block: Int, _ byteCount: Int) throws(CairnError) -> [UInt8] {
        if let bytes = blocks[block], bytes.count == byteCount { return bytes }
        var bytes = try parts.bytes(block, byteCount)
        guard bytes.starts(with: "FHDB".utf8) else { throw parts.damaged("a part of it has no FHDB", block) }
        if hasSums {
            // The checksum is of the whole block with zeros in its own place, behind the header.
            let location = 5 + parts.widths.address + offsetWidth
            let stored = ByteFields(bytes).integer(location, 4)
            guard stored != nil else { throw parts.damaged("a block of a heap is too short", block) }
            for index in location..<location + 4 { bytes[index] = 0 }
            guard stored == Int(Lookup3.checksum(bytes)) else { throw parts.damaged("a checksum differs", block) }
        }
        blocks[block] = bytes
        return bytes
    }
}

/// A B-tree of version 2. Source: HDF5 File Format Specification 3.0, III.A.2.
struct BTree2 {
    private let parts: MetadataParts

    init(_ parts: MetadataParts) { self.parts = parts }

    /// All records of a tree.
    ///
    /// - Parameters:
    ///   - kind: What the records are.
    ///   - byteCount: How many bytes each has.
    /// - Throws: ``CairnError/Code/corrupted`` for a tree that is damaged or of something else.
    func records(of address: Int, kind: Int, byteCount: Int) throws(CairnError) -> [ByteFields] {
        let (addressWidth, lengthWidth) = (parts.widths.address, parts.widths.length)
        let header = try parts.part(address, 22 + addressWidth + lengthWidth, "BTHD")
        guard header.integer(5, 1) == kind, let nodeByteCount = header.integer(6, 4),
            header.integer(10, 2) == byteCount, let depth = header.integer(12, 2), depth < 32,
            let count = header.integer(16 + addressWidth, 2), nodeByteCount > byteCount + 10, nodeByteCount <= 1 << 24
        else { throw parts.damaged("the header of a tree contradicts itself", address) }
        guard let root = header.address(16, addressWidth) else { return [] }
        let most = greatestCounts(nodeByteCount: nodeByteCount, width: byteCount, depth: depth)
        var records: [ByteFields] = []
        var pending = [(root, count, depth)]
        var visited: Set<Int> = []
        while let (nodeAddress, count, level) = pending.popLast() {
            guard visited.insert(nodeAddress).inserted, count <= most[level].count else {
                throw parts.damaged("a node of a tree is met twice or too full", nodeAddress)
            }
            let totalWidth = level > 1 ? most[level - 1].totalWidth : 0
            let pointerWidth = addressWidth + most[0].leafCountWidth + totalWidth
            let content = 6 + count * byteCount + (level > 0 ? (count + 1) * pointerWidth : 0)
            guard content + 4 <= nodeByteCount else { throw parts.damaged("a node of a tree is too full", nodeAddress) }
            let node = try parts.part(nodeAddress, content + 4, level > 0 ? "BTIN" : "BTLF")
            for record in 0..<count {
                let start = 6 + record * byteCount
                records.append(ByteFields(Array(node.bytes[start..<start + byteCount])))
            }
            guard level > 0 else { continue }
            for child in 0...count {
                let start = 6 + count * byteCount + child * pointerWidth
                guard let address = node.address(start, addressWidth),
                    let childCount = node.integer(start + addressWidth, most[0].leafCountWidth)
                else { throw parts.damaged("a node of a tree names no child", nodeAddress) }
                pending.append((address, childCount, level - 1))
            }
        }
        return records
    }

    /// For each level of a tree the most records of a node and, from those, how wide its counts are.
    private struct Level {
        var count: Int
        var total: Int
        var leafCountWidth: Int
        var totalWidth: Int { Self.width(total) }

        static func width(_ value: Int) -> Int { max(1, (Int.bitWidth - value.leadingZeroBitCount + 7) / 8) }
    }

    private func greatestCounts(nodeByteCount: Int, width: Int, depth: Int) -> [Level] {
        let leaf = (nodeByteCount - 10) / width
        // All levels use the width of the most records that a leaf has.
        let countWidth = Level.width(leaf)
        var levels = [Level(count: leaf, total: leaf, leafCountWidth: countWidth)]
        for level in stride(from: 1, through: depth, by: 1) {
            let below = levels[level - 1]
            let pointer = parts.widths.address + countWidth + (level > 1 ? below.totalWidth : 0)
            let count = max(0, (nodeByteCount - 10 - pointer) / (width + pointer))
            let total = (count + 1).multiplied(checked: below.total)?.adding(checked: count) ?? .max
            levels.append(Level(count: count, total: total, leafCountWidth: countWidth))
        }
        return levels
    }
}
