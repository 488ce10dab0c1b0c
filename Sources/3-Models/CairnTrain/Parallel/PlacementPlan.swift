internal import CairnBase
internal import CairnLayout
internal import CairnTensor

/// How every tensor of a run's state lies on the ranks: computed alike by each of them.
struct PlacementPlan: Sendable {
    /// Which ranks of data parallelism keep the optimizer's state of a parameter.
    enum StateOwner: Sendable, Hashable {
        /// All, each the whole.
        case all
        /// All, each its stretch of a flat buffer.
        case stretch(Flattening, buffer: Int)
        /// One, the whole.
        case one(Int)
    }

    /// A parameter of the whole model.
    struct Parameter: Sendable {
        let specification: ParameterSpecification
        let rule: ParameterUpdate.Rule
        let stateOwner: StateOwner
        /// Of the weight.
        let layout: Layout
        /// Of each tensor that the optimizer keeps.
        let stateLayout: Layout
    }

    /// In the order of the whole model.
    let parameters: [Parameter]
    /// All tensors of the state.
    let tensors: [PlacedTensor]

    init(
        _ model: TransformerConfiguration, stages: [Range<Int>], optimizer: OptimizerConfiguration.Kind,
        precision: WeightPrecision, hasAverage: Bool, _ parallel: ParallelConfiguration
    ) throws(CairnError) {
        let mesh = parallel.mesh
        let dataCount = parallel.dataCount
        // The first rank's parts, with all experts: no other rank has larger ones.
        let parts = stages.map { layers in
            Transformer(
                model, part: TransformerPart(of: model, layers: layers, share: 0, shareCount: parallel.tensorCount))
        }
        var stagesOf: [String: [Int]] = [:]
        var largestCount: [String: Int] = [:]
        for (stage, part) in parts.enumerated() {
            for parameter in part.parameters {
                stagesOf[parameter.name, default: []].append(stage)
                largestCount[parameter.name] = parameter.shape.elementCount
            }
        }
        let whole = Transformer(model).parameters
        let owners = (0..<parallel.expertRankCount).flatMap { rank in
            TransformerPart.balanced(model.experts?.count ?? 0, part: rank, of: parallel.expertRankCount)
                .map { _ in rank }
        }
        /// Which rank of expert parallelism has it, if not all have.
        func owner(_ parameter: ParameterSpecification) -> Int? {
            parallel.expertRankCount > 1 ? parameter.expert.map { owners[$0] } : nil
        }
        let rules = whole.map { ParameterUpdate.rule(optimizer, $0.role) }
        var stateOwners = [StateOwner](repeating: .all, count: whole.count)
        if parallel.zero, dataCount > 1 {
            // One buffer for each stage, for the experts of each rank of a stage, and one for what several stages have.
            var buffers: [Holders: [Int]] = [:]
            for (index, parameter) in whole.enumerated() {
                let holders = Holders(stages: stagesOf[parameter.name] ?? [], expertRank: owner(parameter))
                buffers[holders, default: []].append(index)
            }
            let order = buffers.keys.sorted { $0.key < $1.key }
            for (buffer, key) in order.enumerated() {
                let members = buffers[key] ?? []
                let flat = members.filter { rules[$0].isElementwise }
                let flattenings = try Flattening.group(
                    counts: flat.map { largestCount[whole[$0].name] ?? 0 }, parts: dataCount, alignment: 16)
                for (index, flattening) in zip(flat, flattenings) {
                    stateOwners[index] = .stretch(flattening, buffer: buffer)
                }
                let matrices = members.filter { !rules[$0].isElementwise }
                let owners = Self.owners(of: matrices.map { whole[$0].shape.elementCount }, among: dataCount)
                for (index, owner) in zip(matrices, owners) { stateOwners[index] = .one(owner) }
            }
        }
        var parameters: [Parameter] = []
        for (index, specification) in whole.enumerated() {
            var steps: [Layout.Step] = []
            if stages.count > 1 {
                steps.append(.init(AxisName.pipeline, .present(on: stagesOf[specification.name] ?? [])))
            }
            if let owner = owner(specification) { steps.append(.init(AxisName.experts, .present(on: [owner]))) }
            if parallel.tensorCount > 1, let sharding = specification.sharding {
                steps.append(.init(AxisName.tensor, sharding.placement(of: specification.shape)))
            }
            let layout = try Layout(mesh, steps: steps)
            switch stateOwners[index] {
            case .all: break
            case .stretch(let flattening, _): steps.append(.init(AxisName.data, .flatten(flattening)))
            case .one(let owner): steps.append(.init(AxisName.data, .present(on: [owner])))
            }
            parameters.append(
                Parameter(
                    specification: specification, rule: rules[index], stateOwner: stateOwners[index], layout: layout,
                    stateLayout: try Layout(mesh, steps: steps)))
        }
        self.parameters = parameters
        let weightType = precision.scalarType
        tensors =
            parameters.map {
                PlacedTensor(
                    name: $0.specification.name, scalarType: weightType, shape: $0.specification.shape,
                    layout: $0.layout)
            }
            + parameters.flatMap { parameter in
                ParameterUpdate.slotNames(
                    of: parameter.specification.name, parameter.rule, hasMaster: weightType != .f32,
                    hasAverage: hasAverage
                ).map { name in
                    PlacedTensor(
                        name: name, scalarType: .f32, shape: parameter.specification.shape,
                        layout: parameter.stateLayout)
                }
            }
    }

    /// The ranks that have a parameter, but for data and tensor parallelism.
    private struct Holders: Hashable {
        var stages: [Int]
        /// `nil` for what all ranks of expert parallelism have.
        var expertRank: Int?

        var key: (Int, Int, Int) { (stages.count, stages.first ?? 0, expertRank ?? -1) }
    }

    /// An owner for each matrix such that all have about as many elements: the largest first, each to whom has least.
    private static func owners(of counts: [Int], among ownerCount: Int) -> [Int] {
        var loads = [Int](repeating: 0, count: ownerCount)
        var owners = [Int](repeating: 0, count: counts.count)
        for index in counts.indices.sorted(by: { (counts[$1], $0) < (counts[$0], $1) }) {
            let owner = loads.indices.min { (loads[$0], $0) < (loads[$1], $1) } ?? 0
            owners[index] = owner
            loads[owner] += counts[index]
        }
        return owners
    }
}

extension TensorSharding {
    /// What the axis of tensor parallelism does to a parameter of this shape.
    func placement(of shape: Shape) -> Placement {
        .shard(
            dimension, sections: [.init(size: shape[dimension] / sections, division: .balanced, unit: unit)],
            repeats: sections)
    }
}
