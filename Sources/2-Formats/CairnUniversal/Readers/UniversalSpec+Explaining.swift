package import CairnBase
package import CairnCheckpoint
package import CairnLayout
package import CairnTensor

/// What a specification makes of shards, told from their metadata alone.
package struct RulesExplanation: Sendable {
    /// A foreign tensor that goes into an application of a rule.
    package struct Foreign: Sendable {
        /// Its name on the first rank that holds it.
        package var name: String
        package var scalarType: ScalarType
        /// The shape of the whole.
        package var shape: Shape
        /// How it lies on the mesh.
        package var layout: Layout
        /// How many ranks hold a part of it.
        package var rankCount: Int
    }

    /// An application of a rule: the foreign tensors of one instance and the logical ones that they are.
    package struct Application: Sendable {
        /// The rule, with the moment in parentheses: `rule "qkv" (exp_avg)`.
        package var rule: String
        package var foreign: [Foreign]
        /// Empty for what is dropped.
        package var logical: [TensorDescription]
        /// What is done between them, as a rules file has it.
        package var transforms: [String]
    }

    /// The mesh of the shards.
    package var mesh: DeviceMesh
    /// By rule, then by name.
    package var applications: [Application]
    /// Everything that does not fit; the shards can be gathered only when there is nothing.
    package var problems: [RuleProblem]
    /// What works in one direction only.
    package var oneWay: [String]
}

extension UniversalSpec {
    /// What each tensor of shards becomes, and everything that does not fit. Reads no data.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for an invalid specification or a mesh of another size, and
    ///   flat buffers that do not fit.
    package func explain(
        _ shards: [any CheckpointReader], mesh sizes: [String: Int] = [:]
    ) throws(CairnError) -> RulesExplanation {
        let mesh = try mesh(sizes, rankCount: shards.count)
        let compiled = try CompiledSpecification(self)
        let binding = try GatherBinding(compiled, mesh: mesh, shards: shards, verifiesReplicas: false)
        let applications = binding.instances.map { instance in
            let rule = compiled.rules[instance.rule]
            return RulesExplanation.Application(
                rule: rule.label,
                foreign: instance.foreign.map { tensor in
                    .init(
                        name: tensor.name, scalarType: tensor.scalarType, shape: tensor.sharded.shape,
                        layout: tensor.sharded.layout, rankCount: tensor.localNames.count)
                },
                logical: instance.logical.enumerated().map { position, tensor in
                    TensorDescription(
                        name: tensor.name, scalarType: tensor.source.scalarType, shape: tensor.source.shape,
                        tiedTo: instance.tie(at: position))
                },
                transforms: rule.transforms.map(\.yaml))
        }
        return RulesExplanation(
            mesh: mesh, applications: applications, problems: binding.problems, oneWay: try oneWayRules())
    }
}

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
    package func placedTensors(
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
            placed.append(
                PlacedTensor(
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
