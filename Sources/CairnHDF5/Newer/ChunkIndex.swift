import CairnBase
import CairnStorage

/// Where the chunks of a dataset are whose layout has version 5, which HDF5 1.10 does not know: that of HDF5 2.0 for
/// chunks that went through filters.
///
/// Source: HDF5 File Format Specification 3.0, III.A.2, VII.C and VII.D, and the library's `H5EA` and `H5FA`.
struct ChunkIndex: Sendable {
    struct Entry: Sendable {
        /// From the beginning of the file.
        var offset: Int
        var byteCount: Int
        var mask: UInt32
    }

    private var entries: [[Int]: Entry] = [:]
    /// How many chunks there can be along each dimension, in the order of the index; `nil` when it goes by coordinates.
    private var counts: [Int]?
    /// The dimension that comes first in the index.
    private var leading = 0

    /// The chunk at these places in the grid of chunks, `nil` when it was never written.
    func entry(at scaled: [Int]) -> Entry? {
        guard let counts else { return entries[scaled] }
        var ordered = scaled
        ordered.insert(ordered.remove(at: leading), at: 0)
        var index = 0
        for (place, count) in zip(ordered, counts) { index = index &* count &+ place }
        return entries[[index]]
    }

    /// Whether a layout message is of a single chunk, which HDF5 1.10 finds all the same.
    static func isSingle(_ layout: [UInt8]) -> Bool {
        let place = 5 + Int(layout[3]) * Int(layout[4])
        return place < layout.count && layout[place] == 1
    }

    /// - Parameters:
    ///   - layout: The layout message, at whose end the index is named.
    ///   - chunk: The extents of a chunk.
    ///   - greatest: The extents that the dataset may get, `nil` for those without limit.
    /// - Throws: ``CairnError/Code/corrupted`` when a part of the index is damaged.
    init?(
        _ layout: [UInt8], _ file: any StorageFile, base: Int, chunk: [Int], greatest: [Int?]
    ) throws(CairnError) {
        let dimensionCount = Int(layout[3])
        guard dimensionCount == chunk.count + 1 else { return nil }
        let kindPosition = 5 + dimensionCount * Int(layout[4])
        guard kindPosition + 9 <= layout.count else { return nil }
        let address = ByteFields(Array(layout.suffix(8))).integer(0, 8)
        let source = Source(file: file, base: base)
        switch layout[kindPosition] {
        case 3, 4:
            let isExtensible = layout[kindPosition] == 4
            leading = isExtensible ? greatest.firstIndex(of: nil) ?? 0 : 0
            var counts = zip(greatest, chunk).map { greatest, extent in
                greatest.map { max(1, $0.dividedRoundingUp(by: extent)) } ?? 1
            }
            counts.insert(counts.remove(at: leading), at: 0)
            self.counts = counts
            guard let address else { return }
            let found = isExtensible ? try source.extensibleArray(address) : try source.fixedArray(address)
            for (index, entry) in found { entries[[index]] = entry }
        case 5:
            guard let address else { return }
            entries = try source.tree(address, dimensionCount: chunk.count)
        default: return nil
        }
    }
}

/// Reads the parts of an index, each checked against its checksum.
private struct Source {
    let file: any StorageFile
    let base: Int

    typealias Entry = ChunkIndex.Entry

    /// A part that begins with a signature and, when `isChecked`, ends with a checksum.
    private func part(
        _ address: Int, _ byteCount: Int, _ signature: String?, isChecked: Bool = true
    ) throws(CairnError) -> ByteFields {
        guard let offset = address.adding(checked: base), byteCount > 0, let end = offset.adding(checked: byteCount),
            end <= file.byteCount
        else { throw damaged("a part of it lies outside of the file", address) }
        let bytes = try file.bytes(in: offset..<end)
        if let signature, !bytes.starts(with: signature.utf8) {
            throw damaged("a part of it has no \(signature)", address)
        }
        if isChecked {
            let sum = ByteFields(bytes).integer(byteCount - 4, 4)
            guard sum == Int(Lookup3.checksum(bytes.dropLast(4))) else { throw damaged("a checksum differs", address) }
        }
        return ByteFields(bytes)
    }

    private func damaged(_ reason: String, _ address: Int) -> CairnError {
        CairnError(.corrupted, "the index of chunks is damaged: \(reason)", .init(file: file.key, offset: address))
    }

    /// The entry of an array at a position; `nil` for a chunk that was never written.
    private func entry(_ fields: ByteFields, _ position: Int, _ width: Int) -> Entry? {
        guard let address = fields.integer(position, 8), let offset = address.adding(checked: base),
            let byteCount = fields.integer(position + 8, width - 12),
            let mask = fields.integer(position + width - 4, 4), byteCount > 0
        else { return nil }
        return Entry(offset: offset, byteCount: byteCount, mask: UInt32(mask))
    }

    private func checkedWidth(_ width: Int?, _ address: Int) throws(CairnError) -> Int {
        guard let width, (13...20).contains(width) else { throw damaged("its records have another size", address) }
        return width
    }

    // MARK: Fixed arrays

    func fixedArray(_ address: Int) throws(CairnError) -> [(Int, Entry)] {
        let header = try part(address, 28, "FAHD")
        let width = try checkedWidth(header.integer(6, 1), address)
        guard let pageBits = header.integer(7, 1), pageBits < 32, let count = header.integer(8, 8),
            count <= file.byteCount / width
        else { throw damaged("it is larger than the file", address) }
        guard let block = header.integer(16, 8) else { return [] }
        let pageCount = 1 << pageBits
        guard count > pageCount else {
            let fields = try part(block, 14 + count * width + 4, "FADB")
            return (0..<count).compactMap { index in
                entry(fields, 14 + index * width, width).map { (index, $0) }
            }
        }
        let pages = count.dividedRoundingUp(by: pageCount)
        let bitmap = (pages + 7) / 8
        let prefix = try part(block, 14 + bitmap + 4, "FADB")
        var found: [(Int, Entry)] = []
        for page in 0..<pages where prefix.bytes[14 + page / 8] & (0x80 >> UInt8(page % 8)) != 0 {
            let first = page * pageCount
            let fields = try part(
                block + 14 + bitmap + 4 + page * (pageCount * width + 4), min(pageCount, count - first) * width + 4, nil
            )
            for index in 0..<min(pageCount, count - first) {
                if let entry = entry(fields, index * width, width) { found.append((first + index, entry)) }
            }
        }
        return found
    }

    // MARK: Extensible arrays

    func extensibleArray(_ address: Int) throws(CairnError) -> [(Int, Entry)] {
        let header = try part(address, 72, "EAHD")
        let width = try checkedWidth(header.integer(6, 1), address)
        guard let maximumBits = header.integer(7, 1), maximumBits <= 64, let direct = header.integer(8, 1),
            let leastElements = header.integer(9, 1), let leastPointers = header.integer(10, 1),
            let pageBits = header.integer(11, 1), pageBits < 32, leastElements.nonzeroBitCount == 1,
            leastPointers.nonzeroBitCount == 1, let lastIndex = header.integer(44, 8),
            lastIndex <= file.byteCount / width
        else { throw damaged("its header contradicts itself", address) }
        guard let indexBlock = header.integer(60, 8) else { return [] }
        let superCount = 1 + maximumBits - leastElements.trailingZeroBitCount
        let directSupers = 2 * leastPointers.trailingZeroBitCount
        let blockPointers = 2 * (leastPointers - 1)
        guard superCount >= directSupers, superCount <= 64 else {
            throw damaged("its header contradicts itself", address)
        }
        let offsetWidth = (maximumBits + 7) / 8
        let pointers = 14 + direct * width
        let index = try part(
            indexBlock, pointers + (blockPointers + superCount - directSupers) * 8 + 4, "EAIB")
        var found: [(Int, Entry)] = []
        for element in 0..<direct {
            if let entry = entry(index, 14 + element * width, width) { found.append((element, entry)) }
        }
        var first = direct
        var block = 0
        for level in 0..<superCount {
            // So many elements at most were ever stored.
            guard first < lastIndex, level < 60 else { break }
            let blockCount = 1 << (level / 2)
            let elementCount = (1 << ((level + 1) / 2)) * leastElements
            let pages = elementCount > 1 << pageBits ? elementCount >> pageBits : 0
            var addresses: [Int?]
            var bitmaps: ArraySlice<UInt8> = []
            let bitmap = (pages + 7) / 8
            if level < directSupers {
                guard pages == 0 else { throw damaged("a block is in pages where none can be", address) }
                addresses = (0..<blockCount).map { index.integer(pointers + (block + $0) * 8, 8) }
                block += blockCount
            } else if let place = index.integer(pointers + (blockPointers + level - directSupers) * 8, 8) {
                let start = 14 + offsetWidth
                guard blockCount <= file.byteCount / 8 else { throw damaged("it is larger than the file", place) }
                let fields = try part(place, start + blockCount * (bitmap + 8) + 4, "EASB")
                bitmaps = fields.bytes[start..<start + blockCount * bitmap]
                addresses = (0..<blockCount).map { fields.integer(start + blockCount * bitmap + $0 * 8, 8) }
            } else {
                addresses = []
            }
            for (number, place) in addresses.enumerated() {
                guard let place else { continue }
                let start = first + number * elementCount
                if pages == 0 {
                    let fields = try part(place, 14 + offsetWidth + elementCount * width + 4, "EADB")
                    for element in 0..<elementCount {
                        let entry = entry(fields, 14 + offsetWidth + element * width, width)
                        if let entry { found.append((start + element, entry)) }
                    }
                    continue
                }
                _ = try part(place, 14 + offsetWidth + 4, "EADB")
                let bits = bitmaps.dropFirst(number * bitmap).prefix(bitmap)
                for page in 0..<pages where bits[bits.startIndex + page / 8] & (0x80 >> UInt8(page % 8)) != 0 {
                    let size = 1 << pageBits
                    let fields = try part(
                        place + 14 + offsetWidth + 4 + page * (size * width + 4), size * width + 4, nil)
                    for element in 0..<size {
                        let entry = entry(fields, element * width, width)
                        if let entry { found.append((start + page * size + element, entry)) }
                    }
                }
            }
            first += blockCount * elementCount
        }
        return found
    }

    // MARK: B-trees, version 2

    func tree(_ address: Int, dimensionCount: Int) throws(CairnError) -> [[Int]: Entry] {
        let header = try part(address, 38, "BTHD")
        guard header.bytes[5] == 11, let nodeByteCount = header.integer(6, 4), let width = header.integer(10, 2),
            let depth = header.integer(12, 2), depth < 32, width == 20 + 8 * dimensionCount,
            let count = header.integer(24, 2), nodeByteCount > width + 10, nodeByteCount <= 1 << 24
        else { throw damaged("its header contradicts itself", address) }
        guard let root = header.integer(16, 8) else { return [:] }
        let most = Self.greatestCounts(nodeByteCount: nodeByteCount, width: width, depth: depth)
        var entries: [[Int]: Entry] = [:]
        var pending = [(root, count, depth)]
        var visited: Set<Int> = []
        while let (place, count, level) = pending.popLast() {
            guard visited.insert(place).inserted, count <= most[level].count else {
                throw damaged("a node is met twice or too full", place)
            }
            let totalWidth = level > 1 ? most[level - 1].totalWidth : 0
            let pointerWidth = 8 + most[0].leafCountWidth + totalWidth
            let content = 6 + count * width + (level > 0 ? (count + 1) * pointerWidth : 0)
            guard content + 4 <= nodeByteCount else { throw damaged("a node is too full", place) }
            let node = try part(place, content + 4, level > 0 ? "BTIN" : "BTLF")
            for record in 0..<count {
                let start = 6 + record * width
                let scaled = (0..<dimensionCount).compactMap { node.integer(start + 20 + $0 * 8, 8) }
                guard scaled.count == dimensionCount, let entry = entry(node, start, 20) else { continue }
                entries[scaled] = entry
            }
            guard level > 0 else { continue }
            for child in 0...count {
                let start = 6 + count * width + child * pointerWidth
                guard let address = node.integer(start, 8),
                    let records = node.integer(start + 8, most[0].leafCountWidth)
                else { throw damaged("a node names no child", place) }
                pending.append((address, records, level - 1))
            }
        }
        return entries
    }

    /// For each level of a tree the most records of a node and, from those, how wide its counts are.
    private struct Level {
        var count: Int
        var total: Int
        var leafCountWidth: Int
        var totalWidth: Int { Self.width(total) }

        static func width(_ value: Int) -> Int { max(1, (Int.bitWidth - value.leadingZeroBitCount + 7) / 8) }
    }

    private static func greatestCounts(nodeByteCount: Int, width: Int, depth: Int) -> [Level] {
        let leaf = (nodeByteCount - 10) / width
        // All levels use the width of the most records that a leaf has.
        let countWidth = Level.width(leaf)
        var levels = [Level(count: leaf, total: leaf, leafCountWidth: countWidth)]
        for level in stride(from: 1, through: depth, by: 1) {
            let below = levels[level - 1]
            let pointer = 8 + countWidth + (level > 1 ? below.totalWidth : 0)
            let count = max(0, (nodeByteCount - 10 - pointer) / (width + pointer))
            let total = (count + 1).multiplied(checked: below.total)?.adding(checked: count) ?? .max
            levels.append(Level(count: count, total: total, leafCountWidth: countWidth))
        }
        return levels
    }
}

/// Little-endian fields of a part in memory.
struct ByteFields {
    let bytes: [UInt8]

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// `nil` beyond the end, and for what is no `Int`, as an address that is not defined.
    func integer(_ position: Int, _ width: Int) -> Int? {
        bytes.withUnsafeBytes { ObjectHeaderBlock.integer($0, position, width) }
    }
}
