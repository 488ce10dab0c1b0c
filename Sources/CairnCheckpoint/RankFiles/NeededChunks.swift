import CairnBase
package import CairnTensor

/// The chunks of one stored fragment that reading parts of it takes: known from metadata alone.
package struct NeededChunks {
    /// How many chunks are needed.
    package private(set) var count = 0
    /// The bytes of those chunks, expanded.
    package private(set) var byteCount = 0
    /// The chunks, ascending.
    private(set) var chunks: [Int] = []

    /// - Parameters:
    ///   - regions: Of the whole tensor; what lies outside of the fragment is left out.
    ///   - fragment: The fragment's region.
    package init(of regions: [Region], in fragment: Region, _ scalarType: ScalarType, chunkByteCount: Int) {
        let total = scalarType.byteCount(elementCount: fragment.elementCount) ?? 0
        var needed = [Bool](repeating: false, count: total.dividedRoundingUp(by: chunkByteCount))
        for region in regions {
            guard let common = region.intersection(fragment) else { continue }
            let own = common.relative(to: fragment.offsets)
            guard let runs = PairedRuns(
                from: own, of: fragment.shape, to: Region(whole: own.shape), of: own.shape)
            else { continue }
            Self.mark(&needed, runs, scalarType.bitWidth, chunkByteCount)
        }
        for chunk in needed.indices where needed[chunk] {
            chunks.append(chunk)
            byteCount += min(total, (chunk + 1) * chunkByteCount) - chunk * chunkByteCount
        }
        count = chunks.count
    }

    /// Marks the chunks that hold the source's elements of some runs.
    static func mark(_ needed: inout [Bool], _ runs: PairedRuns, _ bits: Int, _ chunkByteCount: Int) {
        var index = 0
        while index < runs.count {
            let offset = runs.sourceOffset(ofPiece: index)
            let first = offset * bits / 8 / chunkByteCount
            let last = ((offset + runs.pieceLength) * bits / 8 - 1) / chunkByteCount
            for chunk in first...last { needed[chunk] = true }
            // Whatever else begins in the last chunk needs nothing more.
            let next = runs.firstPiece(endingAfter: (last + 1) * chunkByteCount * 8 / bits)
            index = max(index + 1, next)
        }
    }
}
