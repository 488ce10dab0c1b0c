package import CairnBase

/// What a member has of a save: its objects one after the other, and the checksum of every cell of that.
package struct BundleDescriptor: Sendable, Hashable {
    package struct Item: Sendable, Hashable {
        package var key: String
        package var byteCount: Int

        package init(key: String, byteCount: Int) {
            self.key = key
            self.byteCount = byteCount
        }
    }

    /// In the order of their keys.
    package let items: [Item]
    package let byteCount: Int
    /// How many bytes one checksum covers: a power of two from 64 bytes to 4 MiB.
    package let cell: Int
    /// CRC-32C of the cells, the last of which may be short.
    package let checksums: [UInt32]

    package static let leastCell = 64
    package static let greatestCell = 4 << 20
    private static let greatestCellCount = 1 << 18

    /// - Throws: ``CairnError/Code/malformed`` for what contradicts itself, ``CairnError/Code/unsupported`` for a bundle that is
    ///   too large.
    package init(items: [Item], checksums: [UInt32]) throws(CairnError) {
        let byteCount = try Self.total(of: items)
        let cell = try Self.cell(for: byteCount)
        guard checksums.count == byteCount.dividedRoundingUp(by: cell) else {
            throw CairnError(
                .malformed, "the description of a bundle has another number of checksums",
                .init(expected: "\(byteCount.dividedRoundingUp(by: cell))", found: "\(checksums.count)"))
        }
        self.items = items
        self.byteCount = byteCount
        self.cell = cell
        self.checksums = checksums
    }

    package static func total(of items: [Item]) throws(CairnError) -> Int {
        var total = 0
        for item in items {
            guard item.byteCount >= 0, let sum = total.adding(checked: item.byteCount) else {
                throw CairnError(.malformed, "no bundle is so large", .init(file: item.key, found: "\(item.byteCount)"))
            }
            total = sum
        }
        return total
    }

    /// How large the cells of a bundle are: small ones pad little, and large ones need few checksums.
    package static func cell(for byteCount: Int) throws(CairnError) -> Int {
        var cell = leastCell
        while (cell < 1 << 20 && byteCount / cell > 256) || (cell < greatestCell && byteCount / cell >= greatestCellCount) {
            cell *= 2
        }
        guard byteCount / cell < greatestCellCount else {
            throw CairnError(
                .unsupported, "a host has more of a save than a bundle can hold",
                .init(expected: "less than 1 TiB", found: "\(byteCount) bytes", advice: "save from more hosts"))
        }
        return cell
    }

    /// Where an object is in the bundle.
    package func range(of key: String) -> Range<Int>? {
        var offset = 0
        for item in items {
            if item.key == key { return offset..<offset + item.byteCount }
            offset += item.byteCount
        }
        return nil
    }

    /// The parts of objects that make up a range of the bundle.
    package func parts(of range: Range<Int>) -> [(key: String, range: Range<Int>)] {
        var parts: [(key: String, range: Range<Int>)] = []
        var offset = 0
        for item in items {
            let part = range.clamped(to: offset..<offset + item.byteCount)
            if !part.isEmpty { parts.append((item.key, part.lowerBound - offset..<part.upperBound - offset)) }
            offset += item.byteCount
        }
        return parts
    }

    /// Whether these are the bytes from `offset` on, which is where a cell begins.
    package func isRight(_ bytes: [UInt8], at offset: Int) -> Bool {
        var start = 0
        while start < bytes.count {
            let end = min(start + cell, bytes.count)
            let index = (offset + start) / cell
            guard index < checksums.count, end - start == min(cell, byteCount - (offset + start)),
                CRC32C.checksum(bytes.span.bytes.extracting(start..<end)) == checksums[index]
            else { return false }
            start = end
        }
        return true
    }
}

/// How the bundles of all members lie in stripes.
package struct SaveGeometry: Sendable, Hashable {
    /// The bytes of a block: of each bundle there are as many blocks as columns of data.
    package let block: Int
    /// Where anything that is checked begins and ends: whole cells of every bundle.
    package let grid: Int

    package init(_ descriptors: [BundleDescriptor], dataCount: Int) {
        grid = descriptors.map(\.cell).max() ?? BundleDescriptor.leastCell
        let largest = descriptors.map(\.byteCount).max() ?? 0
        block = largest.dividedRoundingUp(by: dataCount).dividedRoundingUp(by: grid) * grid
    }

    /// How many bytes are asked for at once.
    package var portion: Int { max(grid, 1 << 20) }

    /// The part of a bundle that a range of one of its blocks is; what is beyond the bundle's end counts as zeros.
    package func bundleRange(_ range: Range<Int>, ofBlock index: Int, in descriptor: BundleDescriptor) -> Range<Int> {
        let start = index * block
        return (start + range.lowerBound..<start + range.upperBound).clamped(to: 0..<descriptor.byteCount)
    }
}
