package import CairnBase
package import CairnLayout
import CairnTensor

extension ModelShapes {
    /// The state that mixed-precision training with Adam keeps, laid out as large jobs do: BF16 weights, F32 masters and
    /// two F32 moments.
    ///
    /// The axes of `mesh` called `tp` shard weights, `pp` layers, `ep` experts; others replicate.
    ///
    /// - Parameter zero: Whether masters and moments are cut over the axis `dp`: one flat buffer for each pipeline stage
    ///   and each kind of state, one for its experts, regardless of where tensors end (ZeRO stage 1).
    /// - Throws: What layouts that do not fit throw, naming the tensor.
    package func trainingState(on mesh: DeviceMesh, zero: Bool) throws(CairnError) -> [PlacedTensor] {
        let stages = mesh.size(of: "pp") ?? 1
        var steps: [[Layout.Step]] = []
        for parameter in parameters { steps.append(try self.steps(of: parameter, mesh, stages: stages)) }
        let flattenings = zero && mesh.size(of: "dp") != nil
            ? try flattenings(steps, mesh, stages: stages) : []
        var tensors: [PlacedTensor] = []
        for (index, parameter) in parameters.enumerated() {
            let layout = try named(parameter) { () throws(CairnError) in try Layout(mesh, steps: steps[index]) }
            tensors.append(PlacedTensor(
                name: "model." + parameter.name, scalarType: .bf16, shape: parameter.shape, layout: layout))
            var state = layout
            if !flattenings.isEmpty {
                state = try named(parameter) { () throws(CairnError) in
                    try Layout(mesh, steps: steps[index] + [.init("dp", .flatten(flattenings[index]))])
                }
            }
            for kind in ["master", "exp_avg", "exp_avg_sq"] {
                tensors.append(PlacedTensor(
                    name: "optimizer.\(kind).\(parameter.name)", scalarType: .f32, shape: parameter.shape, layout: state))
            }
        }
        return tensors
    }

    private func named<Result>(
        _ parameter: Parameter, _ body: () throws(CairnError) -> Result
    ) throws(CairnError) -> Result {
        do throws(CairnError) { return try body() } catch { throw error.adding(.init(tensor: parameter.name)) }
    }

    private func steps(
        of parameter: Parameter, _ mesh: DeviceMesh, stages: Int
    ) throws(CairnError) -> [Layout.Step] {
        var steps: [Layout.Step] = []
        if stages > 1 {
            let coordinates = Array(Set(stageList(parameter.position, stages))).sorted()
            steps.append(.init("pp", .present(on: coordinates)))
        }
        if parameter.isExpert, mesh.size(of: "ep") != nil { steps.append(.init("ep", .shard(0, .balanced))) }
        guard let parts = mesh.size(of: "tp") else { return steps }
        switch parameter.split {
        case .none: break
        case .along(let dimension):
            let isEven = parameter.shape[dimension] % parts == 0
            steps.append(.init("tp", .shard(dimension, isEven ? .even : .chunked)))
        case .sections(let dimension, let count):
            let size = parameter.shape[dimension] / count
            let section = Sharding.Section(size: size, division: size % parts == 0 ? .even : .balanced)
            steps.append(.init("tp", .shard(
                dimension, sections: [Sharding.Section](repeating: section, count: count))))
        }
        return steps
    }

    private func stageList(_ position: PipelinePosition, _ stages: Int) -> [Int] {
        switch position {
        case .first: [0]
        case .last: [stages - 1]
        case .both: [0, stages - 1]
        case .layer(let layer): [layer * stages / layerCount]
        }
    }

    /// One flat buffer for each stage, and one for its experts, of what the largest local tensors have.
    private func flattenings(
        _ steps: [[Layout.Step]], _ mesh: DeviceMesh, stages: Int
    ) throws(CairnError) -> [Flattening] {
        var result = [Flattening](repeating: .perTensor, count: parameters.count)
        for group in 0..<2 * stages {
            let (stage, isExpert) = (group / 2, group % 2 == 1)
            let members = parameters.indices.filter {
                parameters[$0].isExpert == isExpert && stageList(parameters[$0].position, stages)[0] == stage
            }
            var counts: [Int] = []
            for member in members {
                let shape = try named(parameters[member]) { () throws(CairnError) in
                    try ShardedShape(Layout(mesh, steps: steps[member]), shape: parameters[member].shape)
                }
                // Uneven parts are largest at the first coordinate.
                let largest = mesh.rank(at: mesh.axes.map { $0.name == "pp" ? stage : 0 })
                counts.append(shape.localShape(ofRank: largest)?.elementCount ?? 0)
            }
            let cuts = try Flattening.group(counts: counts, parts: mesh.size(of: "dp") ?? 1)
            for (member, flattening) in zip(members, cuts) { result[member] = flattening }
        }
        return result
    }
}
