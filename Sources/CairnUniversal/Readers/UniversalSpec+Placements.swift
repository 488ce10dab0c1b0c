public import CairnBase
public import CairnCheckpoint
public import CairnLayout

extension UniversalSpec {
    /// The tensors of a whole checkpoint, each with the layout that its rule gives it: what ranks load, and what a
    /// checkpoint is resharded to.
    ///
    /// Names stay the checkpoint's own. Rules may rename, but not transform: a tensor that ranks hold fused or padded is
    /// another one than the checkpoint's. What rules drop is left out, and so are ties, which follow their targets.
    ///
    /// - Parameter sizes: The sizes of mesh axes that the specification leaves open, or others than it has.
    /// - Throws: ``CairnError/Code/unsupported`` for a rule that transforms; otherwise as ``DividedCheckpoint``. Errors
    ///   name the rule and the tensor.
    public func placedTensors(
        of reader: any CheckpointReader, mesh sizes: [String: Int] = [:]
    ) throws(CairnError) -> [PlacedTensor] {
        let binding = try DivisionBinding(
            CompiledSpecification(self), mesh: mesh(sizes), reader: reader, allowsLosses: true)
        if let error = binding.problems.firstError() { throw error }
        var placed: [PlacedTensor] = []
        for part in binding.parts {
            let compiled = binding.specification.rules[part.rule]
            let name = compiled.logicalName(compiled.to[0], key: part.key, unstackSlot: part.slot)
            guard compiled.transforms.isEmpty, compiled.to.count == 1, compiled.from.count == 1 else {
                throw CairnError(
                    .unsupported, "\(compiled.label): a tensor that is transformed has no layout of its own",
                    .init(tensor: name, advice: "write a rule that says how the tensor itself lies on the mesh"))
            }
            guard try reader.description(of: name).tiedTo == nil else { continue }
            placed.append(PlacedTensor(
                name: name, scalarType: part.source.scalarType, shape: part.source.shape, layout: part.sharded.layout))
        }
        return placed
    }
}
