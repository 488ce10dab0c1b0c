import CairnBase
import CairnLayout
import CairnTensor

/// The tensors of a decoder's training state: bf16 parameters, fp32 master copies and Adam's moments.
struct Transformer {
    var layers: Int
    var hidden: Int
    var keyValue: Int
    var inner: Int
    var vocabulary: Int

    /// Axes `dp`, `tp` and `pp`, as far as the mesh has them.
    func tensors(on mesh: DeviceMesh, shardsOptimizer: Bool) throws -> [PlacedTensor] {
        var tensors: [PlacedTensor] = []
        let stages = mesh.size(of: "pp") ?? 1
        func add(_ name: String, _ shape: Shape, split: Int?, stage: Int) throws {
            var steps: [Layout.Step] = []
            if mesh.size(of: "pp") != nil { steps.append(.init("pp", .present(on: [stage]))) }
            if let split, mesh.size(of: "tp") != nil { steps.append(.init("tp", .shard(split))) }
            let parameter = try Layout(mesh, steps: steps)
            if shardsOptimizer { steps.append(.init("dp", .flatten(.perTensor))) }
            let state = try Layout(mesh, steps: steps)
            tensors.append(PlacedTensor(name: name, scalarType: .bf16, shape: shape, layout: parameter))
            for kind in ["master", "exp_avg", "exp_avg_sq"] {
                tensors.append(PlacedTensor(name: "\(kind).\(name)", scalarType: .f32, shape: shape, layout: state))
            }
        }
        try add("embedding", [vocabulary, hidden], split: 0, stage: 0)
        for layer in 0..<layers {
            let stage = layer * stages / layers
            let weights: [(String, Shape, Int?)] = [
                ("wq", [hidden, hidden], 0), ("wk", [keyValue, hidden], 0), ("wv", [keyValue, hidden], 0),
                ("wo", [hidden, hidden], 1), ("w1", [inner, hidden], 0), ("w3", [inner, hidden], 0),
                ("w2", [hidden, inner], 1), ("attention_norm", [hidden], nil), ("mlp_norm", [hidden], nil),
            ]
            for (name, shape, split) in weights {
                try add("layers.\(layer).\(name)", shape, split: split, stage: stage)
            }
        }
        try add("norm", [hidden], split: nil, stage: stages - 1)
        try add("output", [vocabulary, hidden], split: 0, stage: stages - 1)
        return tensors
    }
}
