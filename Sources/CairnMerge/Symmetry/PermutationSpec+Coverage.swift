public import CairnBase
public import CairnCheckpoint
import CairnTensor

extension PermutationSpec {
    /// Makes sure that nothing is left behind: every tensor with an axis as long as one that is rearranged is named, as
    /// rearranged or, with `nil` for its axes, as keeping its order.
    ///
    /// A norm or a bias along the residual stream that a specification forgets would stay as it is while everything around
    /// it moves, and the network would compute something else.
    ///
    /// - Throws: ``CairnError/Code/unsupported`` that names the tensors; as ``unitCounts(in:)``.
    public func requireEveryTensor(in reader: any CheckpointReader) throws(CairnError) {
        let counts = try unitCounts(in: reader)
        // A label of one unit moves nothing.
        let moving = Set(counts.filter { $0.value > 1 }.keys)
        var lengths = Set<Int>()
        for (name, axes) in axes {
            let shape = try reader.description(of: name).shape
            for (dimension, axis) in axes.enumerated() {
                if let axis, moving.contains(axis.label) { lengths.insert(shape[dimension]) }
            }
        }
        var named = Set((Array(axes.keys) + stacks.values.joined().joined()).map { ExactString($0) })
        // One tensor under several names moves as any of them says.
        for tensor in reader.tensors {
            guard let target = tensor.tiedTo else { continue }
            if named.contains(ExactString(tensor.name)) { named.insert(ExactString(target)) }
        }
        let left = reader.tensors.filter { tensor in
            tensor.shape.extents.contains(where: lengths.contains) && !named.contains(ExactString(tensor.name))
                && !(tensor.tiedTo.map { named.contains(ExactString($0)) } ?? false)
        }
        guard let first = left.first else { return }
        let list = left.prefix(4).map { "\($0.name) \($0.shape)" }.joined(separator: ", ")
        throw CairnError(
            .unsupported, "nothing says whether tensors move that have an axis as long as one that is rearranged",
            .init(
                file: reader.source, tensor: first.name,
                expected: "every such tensor named as rearranged or as fixed",
                found: list + (left.count > 4 ? ", … (\(left.count) tensors)" : ""),
                advice: "name them in a specification, with null for axes that keep their order; rearrange what belongs to "
                    + "weights by --along; or leave them out by --exclude"))
    }
}
