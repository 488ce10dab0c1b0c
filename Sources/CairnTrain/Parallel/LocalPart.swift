internal import CairnBase
internal import CairnLayout
internal import CairnTensor

/// Which part of a whole tensor a rank holds.
struct LocalPart: Sendable {
    private let shape: Shape
    private let localShape: Shape?
    private let fragments: [LocalFragment]

    init(_ layout: Layout, _ shape: Shape, rank: Int) throws(CairnError) {
        let sharded = try ShardedShape(layout, shape: shape)
        self.shape = shape
        localShape = sharded.localShape(ofRank: rank)
        fragments = sharded.fragments(ofRank: rank)
    }

    /// The part of `whole`; `nil` where the rank holds none.
    func taken(from whole: Tensor, pool: BufferPool) throws -> Tensor? {
        guard let localShape else { return nil }
        return try Tensor(whole.scalarType, localShape, pool: pool) { bytes in
            for fragment in fragments {
                try RegionCopy.copy(
                    whole.scalarType, from: whole.bytes, of: shape, region: fragment.global, into: &bytes,
                    of: localShape, region: fragment.local)
            }
        }
    }
}
