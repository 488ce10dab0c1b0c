import CISALCalls
package import CairnBase

/// The Reed-Solomon code that parity is computed by: over GF(2^8) with the polynomial 0x11D, with the Cauchy matrix of ISA-L.
///
/// A stripe is a row of blocks: `dataCount` of data, then `parityCount` of parity. Any `dataCount` of them give all others.
/// Parity block p is the sum of the data blocks j times the inverse of (dataCount + p) xor j, so it does not depend on how many
/// other parity blocks there are.
package struct ErasureCode: Sendable {
    /// As many elements as the field has, without zero.
    static let greatestCount = 255

    package let dataCount: Int
    package let parityCount: Int
    /// (dataCount + parityCount) rows of dataCount coefficients.
    private let matrix: [UInt8]

    /// - Throws: ``CairnError/Code/invalidArgument`` unless both counts are at least 1 and together at most 255.
    package init(dataCount: Int, parityCount: Int) throws(CairnError) {
        guard dataCount >= 1, parityCount >= 1, dataCount <= Self.greatestCount, parityCount <= Self.greatestCount - dataCount
        else {
            throw CairnError(
                .invalidArgument, "there is no parity for so many columns",
                .init(
                    expected: "at least 1 of data, at least 1 of parity, together at most \(Self.greatestCount)",
                    found: "\(dataCount) and \(parityCount)"))
        }
        self.dataCount = dataCount
        self.parityCount = parityCount
        matrix = [UInt8](unsafeUninitializedCapacity: (dataCount + parityCount) * dataCount) { bytes, count in
            count = bytes.count
            cairn_ec_matrix(CInt(dataCount), CInt(parityCount), bytes.baseAddress)
        }
    }

    /// Blocks computed from other blocks of the same stripe.
    package struct Combination: Sendable {
        /// The rows that are read, and those that are computed.
        let sources: [Int]
        let targets: [Int]
        fileprivate let tables: [UInt8]

        fileprivate init(sources: [Int], targets: [Int], coefficients: [UInt8]) {
            self.sources = sources
            self.targets = targets
            tables = [UInt8](unsafeUninitializedCapacity: 32 * coefficients.count) { bytes, count in
                count = bytes.count
                coefficients.withUnsafeBufferPointer {
                    cairn_ec_tables(CInt(sources.count), CInt(targets.count), $0.baseAddress, bytes.baseAddress)
                }
            }
        }

        /// Computes the first `byteCount` bytes of the target rows.
        package func apply(to blocks: StripeBuffer, byteCount: Int) {
            guard byteCount > 0, !targets.isEmpty else { return }
            let read = sources.map { Optional(UnsafePointer(blocks.base(ofRow: $0))) }
            let written = targets.map { Optional(blocks.base(ofRow: $0)) }
            cairn_ec_combine(min(byteCount, blocks.blockByteCount), CInt(read.count), CInt(written.count), tables, read, written)
        }
    }

    /// Parity of the data.
    package var encoding: Combination {
        Combination(
            sources: Array(0..<dataCount), targets: Array(dataCount..<dataCount + parityCount),
            coefficients: Array(matrix[(dataCount * dataCount)...]))
    }

    /// How to compute lost rows from as many intact ones as there is data.
    ///
    /// - Throws: ``CairnError/Code/incomplete`` for fewer sources.
    func recovery(of lost: [Int], from sources: [Int]) throws(CairnError) -> Combination {
        Combination(sources: sources, targets: lost, coefficients: try coefficients(of: lost, from: sources))
    }

    /// The coefficients with which intact rows, as many as there is data, add up to each lost row, one lost row after the other.
    ///
    /// - Throws: ``CairnError/Code/incomplete`` for fewer sources.
    package func coefficients(of lost: [Int], from sources: [Int]) throws(CairnError) -> [UInt8] {
        guard sources.count == dataCount else {
            throw CairnError(
                .incomplete, "too few blocks of the stripe are left",
                .init(expected: "\(dataCount)", found: "\(sources.count)"))
        }
        // What the intact rows are of the data; its inverse gives the data from them.
        var present = sources.flatMap { matrix[$0 * dataCount..<($0 + 1) * dataCount] }
        var inverse = [UInt8](repeating: 0, count: present.count)
        let result = present.withUnsafeMutableBufferPointer { present in
            inverse.withUnsafeMutableBufferPointer {
                cairn_ec_invert(present.baseAddress, $0.baseAddress, CInt(dataCount))
            }
        }
        guard result == 0 else {
            throw CairnError(.invalidArgument, "the rows of a stripe are not told apart", .init(found: "\(sources)"))
        }
        var coefficients: [UInt8] = []
        for row in lost {
            coefficients +=
                row < dataCount
                ? Array(inverse[row * dataCount..<(row + 1) * dataCount]) : product(ofRow: row, by: inverse)
        }
        return coefficients
    }

    /// The coefficient of a data block in a parity block.
    package func coefficient(parity: Int, column: Int) -> UInt8 { matrix[(dataCount + parity) * dataCount + column] }

    /// Adds `source` times a coefficient to the first bytes of `target`, which is as long at least.
    package static func add(_ source: [UInt8], times coefficient: UInt8, to target: inout [UInt8]) {
        precondition(source.count <= target.count, "the target is too short")
        guard !source.isEmpty else { return }
        let tables = [UInt8](unsafeUninitializedCapacity: 32) { bytes, count in
            count = bytes.count
            withUnsafePointer(to: coefficient) { cairn_ec_tables(1, 1, $0, bytes.baseAddress) }
        }
        target.withUnsafeMutableBufferPointer { target in
            source.withUnsafeBufferPointer { cairn_ec_add($0.count, tables, $0.baseAddress, target.baseAddress) }
        }
    }

    /// A row of the matrix times another matrix: the rows of that, combined as the row says.
    private func product(ofRow row: Int, by other: [UInt8]) -> [UInt8] {
        let blocks = StripeBuffer(rowCount: dataCount + 1, blockByteCount: dataCount)
        for index in 0..<dataCount {
            blocks.write(row: index) { bytes in
                for column in 0..<dataCount { bytes[column] = other[index * dataCount + column] }
            }
        }
        Combination(
            sources: Array(0..<dataCount), targets: [dataCount],
            coefficients: Array(matrix[row * dataCount..<(row + 1) * dataCount])
        ).apply(to: blocks, byteCount: dataCount)
        return blocks.bytes(ofRow: dataCount, count: dataCount)
    }
}
