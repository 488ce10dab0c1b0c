import CairnBase
public import CairnTensor

extension ShardedShape {
    /// A rank's part of a whole tensor, padding zero; `nil` where the rank holds none.
    ///
    /// - Parameter whole: The whole tensor; of a partial layout the partial values, stacked along a first dimension.
    /// - Throws: ``CairnError/Code/mismatch`` when `whole` has another shape, ``CairnError/Code/unsupported`` when
    ///   packed elements would begin or end inside a byte.
    public func part(ofRank rank: Int, of whole: Tensor, pool: BufferPool? = nil) throws -> Tensor? {
        let expected = isPartial ? try Shape(checking: [partialCount] + shape.extents) : shape
        guard whole.shape == expected else {
            throw CairnError(
                .mismatch, "a whole tensor has another shape than its layout is for",
                .init(rank: rank, expected: "\(expected)", found: "\(whole.shape)"))
        }
        guard let localShape = localShape(ofRank: rank) else { return nil }
        let fragments = fragments(ofRank: rank)
        let prefix = isPartial ? [partialIndex(ofRank: rank)] : []
        return try Tensor(whole.scalarType, localShape, pool: pool) { bytes in
            let filled = fragments.reduce(0) { $0 + $1.global.elementCount }
            if filled < localShape.elementCount {
                bytes.withUnsafeMutableBytes { _ = $0.initializeMemory(as: UInt8.self, repeating: 0) }
            }
            for fragment in fragments {
                let region = try Region(
                    offsets: prefix + fragment.global.offsets,
                    shape: Shape(checking: prefix.map { _ in 1 } + fragment.global.shape.extents))
                guard let runs = PairedRuns(
                    from: region, of: expected, to: fragment.local, of: localShape)
                else {
                    throw CairnError(.unsupported, "a piece cannot be moved", .init(rank: rank, found: "\(fragment)"))
                }
                try runs.copy(whole.bytes, into: &bytes, bitWidth: whole.scalarType.bitWidth)
            }
        }
    }
}
