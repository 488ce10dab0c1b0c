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
        for (location, count) in zip(ordered, counts) { index = index &* count &+ location }
        return entries[[index]]
    }

    /// Whether a layout message is of a single chunk or of chunks in a row, which HDF5 1.10 finds all the same.
    static func isFoundByOldLibrary(_ layout: [UInt8]) -> Bool {
        let location = 5 + Int(layout[3]) * Int(layout[4])
        return location < layout.count && (layout[location] == 1 || layout[location] == 2)
    }

    /// - Parameters:
    ///   - layout: The layout message, at whose end the index is named.
    ///   - chunk: The extents of a chunk.
    ///   - greatest: The extents that the dataset may get, `nil` for those without limit.
    /// - Throws: ``CairnError/Code/corrupted`` when a part of the index is damaged.
    init?(
        _ layout: [UInt8], _ parts: MetadataParts, chunk: [Int], greatest: [Int?]
    ) throws(CairnError) {
        // HDF5 2.0 writes such layouts in files with addresses of any size, these in all that are known.
        guard parts.widths.address == 8, parts.widths.length == 8 else { return nil }
        let dimensionCount = Int(layout[3])
        guard dimensionCount == chunk.count + 1 else { return nil }
        let kindPosition = 5 + dimensionCount * Int(layout[4])
        guard kindPosition + 9 <= layout.count else { return nil }
        let address = ByteFields(Array(layout.suffix(8))).integer(0, 8)
        let source = Source(parts: parts)
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

/// Reads the parts of an index.
private struct Source {
    let parts: MetadataParts

    typealias Entry = ChunkIndex.Entry

    private func part(
        _ address: Int, _ byteCount: Int, _ signature: String?
    ) throws(CairnError) -> ByteFields {
        try parts.part(address, byteCount, signature)
    }

    private func damaged(_ reason: String, _ address: Int) -> CairnError { parts.damaged(reason, address) }

    /// The entry of an array at a position; `nil` for a chunk that was never written.
    private func entry(_ fields: ByteFields, _ position: Int, _ width: Int) -> Entry? {
        guard let address = fields.integer(position, 8), let offset = address.adding(checked: parts.base),
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
            count <= parts.file.byteCount / width
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
            lastIndex <= parts.file.byteCount / width
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
            } else if let location = index.integer(pointers + (blockPointers + level - directSupers) * 8, 8) {
                let start = 14 + offsetWidth
                guard blockCount <= parts.file.byteCount / 8 else { throw damaged("it is larger than the file", location) }
                let fields = try part(location, start + blockCount * (bitmap + 8) + 4, "EASB")
                bitmaps = fields.bytes[start..<start + blockCount * bitmap]
                addresses = (0..<blockCount).map { fields.integer(start + blockCount * bitmap + $0 * 8, 8) }
            } else {
                addresses = []
            }
            for (number, location) in addresses.enumerated() {
                guard let location else { continue }
                let start = first + number * elementCount
                if pages == 0 {
                    let fields = try part(location, 14 + offsetWidth + elementCount * width + 4, "EADB")
                    for element in 0..<elementCount {
                        let entry = entry(fields, 14 + offsetWidth + element * width, width)
                        if let entry { found.append((start + element, entry)) }
                    }
                    continue
                }
                _ = try part(location, 14 + offsetWidth + 4, "EADB")
                let bits = bitmaps.dropFirst(number * bitmap).prefix(bitmap)
                for page in 0..<pages where bits[bits.startIndex + page / 8] & (0x80 >> UInt8(page % 8)) != 0 {
                    let size = 1 << pageBits
                    let fields = try part(
                        location + 14 + offsetWidth + 4 + page * (size * width + 4), size * width + 4, nil)
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

    // MARK: B-trees

    func tree(_ address: Int, dimensionCount: Int) throws(CairnError) -> [[Int]: Entry] {
        let width = 20 + 8 * dimensionCount
        var entries: [[Int]: Entry] = [:]
        for record in try BTree2(parts).records(of: address, kind: 11, byteCount: width) {
            let scaled = (0..<dimensionCount).compactMap { record.integer(20 + $0 * 8, 8) }
            guard scaled.count == dimensionCount, let entry = entry(record, 0, 20) else { continue }
            entries[scaled] = entry
        }
        return entries
    }
}
