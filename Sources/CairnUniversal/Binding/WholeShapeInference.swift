import CairnBase
import CairnLayout
import CairnTensor

/// Finds the shape of a whole tensor from those of its shards.
enum WholeShapeInference {
    /// Along a dimension that axes shard, the whole has what the coordinates of those axes have together; along the
    /// others, what each has.
    ///
    /// - Parameter locals: The local shapes by rank, at least one; what the steps do not shard agrees.
    static func shape(of locals: [Int: Shape], steps: [On], mesh: DeviceMesh) throws(CairnError) -> Shape {
        guard let base = locals.min(by: { $0.key < $1.key }) else { return .scalar }
        var extents = base.value.extents
        let origin = mesh.coordinates(ofRank: base.key)
        for dimension in extents.indices {
            let dividing = steps.compactMap { step -> Int? in
                guard case .shard(dimension, _, _, _, _) = step.placement else { return nil }
                return mesh.axes.firstIndex { $0.name == step.axis }
            }
            guard !dividing.isEmpty else { continue }
            var sum = 0
            for (rank, shape) in locals {
                let coordinates = mesh.coordinates(ofRank: rank)
                guard coordinates.indices.allSatisfy({ dividing.contains($0) || coordinates[$0] == origin[$0] }) else {
                    continue
                }
                guard shape.dimensionCount == extents.count, let next = sum.adding(checked: shape[dimension]) else {
                    throw CairnError(
                        .mismatch, "the shards have different numbers of dimensions",
                        .init(rank: rank, expected: "\(base.value)", found: "\(shape)"))
                }
                sum = next
            }
            extents[dimension] = sum
        }
        return try Shape(checking: extents)
    }
}
