public import CairnBase
public import CairnCheckpoint
public import CairnLayout
import CairnTensor

extension UniversalSpec {
    /// The tensors of a whole checkpoint, each with the layout that its rule gives it: what ranks load, and what a
    /// checkpoint is resharded to.
    ///
    /// Names stay the checkpoint's own. Rules may rename, cast (the ranks have the foreign type) and strip padding (the
    /// ranks have it), but not otherwise transform: a tensor that ranks hold fused is another one than the checkpoint's.
    /// What rules drop is left out, and so are ties, which follow their targets.
    ///
    /// - Parameter sizes: The sizes of mesh axes that the specification leaves open, or others than it has.
    /// - Throws: ``CairnError/Code/unsupported`` for a rule that transforms; otherwise as ``ShardedCheckpoint``. Errors
    ///   name the rule and the tensor.
    public func placedTensors(
        of reader: any CheckpointReader, mesh sizes: [String: Int] = [:]
    ) throws(CairnError) -> [PlacedTensor] {
        let binding = try ShardingBinding(
            CompiledSpecification(self), mesh: mesh(sizes), reader: reader, allowsLosses: true)
        if let error = binding.problems.firstError() { throw error }
        var placed: [PlacedTensor] = []
        for part in binding.parts {
            let compiled = binding.specification.rules[part.rule]
            let name = compiled.logicalName(compiled.to[0], key: part.key, unstackSlot: part.slot)
            guard compiled.transforms.allSatisfy(\.keepsTheTensor), compiled.to.count == 1, compiled.from.count == 1
            else {
                throw CairnError(
                    .unsupported, "\(compiled.label): a tensor that is transformed has no layout of its own",
                    .init(tensor: name, advice: "write a rule that says how the tensor itself lies on the mesh"))
            }
            let whole = try reader.description(of: name)
            guard whole.tiedTo == nil else { continue }
            placed.append(PlacedTensor(
                name: name, scalarType: part.source.scalarType, shape: whole.shape,
                layout: try part.sharded.layout.padded(from: whole.shape, to: part.sharded.shape)))
        }
        return placed
    }
}

extension RuleTransform {
    /// Whether a rank's part is one of the logical tensor itself, in another type or with padding.
    fileprivate var keepsTheTensor: Bool {
        switch self {
        case .cast, .strip: true
        default: false
        }
    }
}

extension Layout {
    /// The layout of a tensor that is padded to the shape that this one is for.
    fileprivate func padded(from shape: Shape, to padded: Shape) throws(CairnError) -> Layout {
        guard shape != padded else { return self }
        var padding: [Int: Int] = [:]
        for dimension in shape.extents.indices where padded[dimension] > shape[dimension] {
            padding[dimension] = padded[dimension]
        }
        return try Layout(mesh, steps: steps, padding: padding)
    }
}
