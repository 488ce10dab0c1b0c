public import CairnBase
public import CairnCheckpoint
public import CairnLayout
public import CairnTensor

/// What a specification makes of shards, told from their metadata alone.
public struct RulesExplanation: Sendable {
    /// A foreign tensor that goes into an application of a rule.
    public struct Foreign: Sendable {
        /// Its name on the first rank that holds it.
        public var name: String
        public var scalarType: ScalarType
        /// The shape of the whole.
        public var shape: Shape
        /// How it lies on the mesh.
        public var layout: Layout
        /// How many ranks hold a part of it.
        public var rankCount: Int
    }

    /// An application of a rule: the foreign tensors of one instance and the logical ones that they are.
    public struct Application: Sendable {
        /// The rule, with the moment in parentheses: `rule "qkv" (exp_avg)`.
        public var rule: String
        public var foreign: [Foreign]
        /// Empty for what is dropped.
        public var logical: [TensorDescription]
        /// What is done between them, as a rules file has it.
        public var transforms: [String]
    }

    /// The mesh of the shards.
    public var mesh: DeviceMesh
    /// By rule, then by name.
    public var applications: [Application]
    /// Everything that does not fit; the shards can be gathered only when there is nothing.
    public var problems: [RuleProblem]
    /// What works in one direction only.
    public var oneWay: [String]
}

extension UniversalSpec {
    /// What each tensor of shards becomes, and everything that does not fit. Reads no data.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for an invalid specification or a mesh of another size, and
    ///   flat buffers that do not fit.
    public func explain(
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
