import CairnBase

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
