package import CairnBase
package import CairnLayout
import CairnTensor

/// The parameters of a published model, as its configuration file gives them: what simulations lay out.
package struct ModelShapes: Sendable {
    /// What tensor parallelism does to a parameter.
    enum Split: Sendable {
        /// Every rank has the whole.
        case none
        /// This dimension is sharded.
        case along(Int)
        /// This dimension is several sections of equal size side by side, each sharded on its own.
        case sections(Int, count: Int)
    }

    /// Where in a pipeline a parameter belongs.
    enum PipelinePosition: Sendable {
        case first, last, both
        case layer(Int)
    }

    /// One weight.
    struct Parameter: Sendable {
        var name: String
        var shape: Shape
        var split: Split
        var position: PipelinePosition
        /// Whether the first dimension counts experts.
        var isExpert = false
    }

    /// The name on the command line.
    package let name: String
    /// Where the numbers come from.
    package let origin: String
    let layerCount: Int
    let parameters: [Parameter]

    /// The number of weights.
    package var parameterCount: Int { parameters.reduce(0) { $0 + $1.shape.elementCount } }

    /// The names that ``init(named:)`` knows.
    package static let names = ["gpt2", "gpt2-xl", "llama-7b", "llama-70b", "llama-405b", "moe-1t"]

    /// - Throws: ``CairnError/Code/notFound`` for a name that is not in ``names``.
    package init(named name: String) throws(CairnError) {
        switch name {
        case "gpt2": self.init(name, "openai-community/gpt2", Self.gpt2(width: 768, layers: 12), layers: 12)
        case "gpt2-xl": self.init(name, "openai-community/gpt2-xl", Self.gpt2(width: 1600, layers: 48), layers: 48)
        case "llama-7b":
            let shapes = Llama(width: 4096, layers: 32, heads: 32, keyHeads: 32, inner: 11008, vocabulary: 32000)
            self.init(name, "meta-llama/Llama-2-7b", shapes.parameters, layers: 32)
        case "llama-70b":
            let shapes = Llama(width: 8192, layers: 80, heads: 64, keyHeads: 8, inner: 28672, vocabulary: 128256)
            self.init(name, "meta-llama/Llama-3.1-70B", shapes.parameters, layers: 80)
        case "llama-405b":
            let shapes = Llama(width: 16384, layers: 126, heads: 128, keyHeads: 8, inner: 53248, vocabulary: 128256)
            self.init(name, "meta-llama/Llama-3.1-405B", shapes.parameters, layers: 126)
        case "moe-1t": self.init(name, "moonshotai/Kimi-K2-Base", Self.mixture(), layers: 61)
        default:
            throw CairnError(
                .notFound, "no such model is known",
                .init(expected: Self.names.joined(separator: ", "), found: name))
        }
    }

    private init(_ name: String, _ origin: String, _ parameters: [Parameter], layers: Int) {
        self.name = name
        self.origin = origin
        self.parameters = parameters
        layerCount = layers
    }

    /// Linear layers of GPT-2 have the input first; the head is the token embedding.
    private static func gpt2(width: Int, layers: Int) -> [Parameter] {
        var list = [
            Parameter(name: "wte.weight", shape: [50257, width], split: .along(0), position: .both),
            Parameter(name: "wpe.weight", shape: [1024, width], split: .none, position: .first),
        ]
        for layer in 0..<layers {
            func add(_ name: String, _ shape: Shape, _ split: Split) {
                list.append(Parameter(name: "h.\(layer).\(name)", shape: shape, split: split, position: .layer(layer)))
            }
            for norm in ["ln_1", "ln_2"] {
                add("\(norm).weight", [width], .none)
                add("\(norm).bias", [width], .none)
            }
            add("attn.c_attn.weight", [width, 3 * width], .sections(1, count: 3))
            add("attn.c_attn.bias", [3 * width], .sections(0, count: 3))
            add("attn.c_proj.weight", [width, width], .along(0))
            add("attn.c_proj.bias", [width], .none)
            add("mlp.c_fc.weight", [width, 4 * width], .along(1))
            add("mlp.c_fc.bias", [4 * width], .along(0))
            add("mlp.c_proj.weight", [4 * width, width], .along(0))
            add("mlp.c_proj.bias", [width], .none)
        }
        list.append(Parameter(name: "ln_f.weight", shape: [width], split: .none, position: .last))
        list.append(Parameter(name: "ln_f.bias", shape: [width], split: .none, position: .last))
        return list
    }

    /// Grouped-query attention, gated feed-forward, a head of its own.
    private struct Llama {
        var width: Int
        var layers: Int
        var heads: Int
        var keyHeads: Int
        var inner: Int
        var vocabulary: Int

        var parameters: [Parameter] {
            let keyWidth = width / heads * keyHeads
            var list = [
                Parameter(
                    name: "model.embed_tokens.weight", shape: [vocabulary, width], split: .along(0), position: .first)
            ]
            for layer in 0..<layers {
                func add(_ name: String, _ shape: Shape, _ split: Split) {
                    list.append(
                        Parameter(
                            name: "model.layers.\(layer).\(name).weight", shape: shape, split: split, position: .layer(layer)))
                }
                add("input_layernorm", [width], .none)
                add("post_attention_layernorm", [width], .none)
                add("self_attn.q_proj", [width, width], .along(0))
                add("self_attn.k_proj", [keyWidth, width], .along(0))
                add("self_attn.v_proj", [keyWidth, width], .along(0))
                add("self_attn.o_proj", [width, width], .along(1))
                add("mlp.gate_proj", [inner, width], .along(0))
                add("mlp.up_proj", [inner, width], .along(0))
                add("mlp.down_proj", [width, inner], .along(1))
            }
            list.append(Parameter(name: "model.norm.weight", shape: [width], split: .none, position: .last))
            list.append(
                Parameter(
                    name: "lm_head.weight", shape: [vocabulary, width], split: .along(0), position: .last))
            return list
        }
    }

    /// Latent attention, 384 routed experts and a shared one from the second layer on; experts of a layer are stacked.
    private static func mixture() -> [Parameter] {
        let (width, heads, queryRank, keyRank, plain, rotary, value) = (7168, 64, 1536, 512, 128, 64, 128)
        let (experts, expertInner, denseInner, vocabulary) = (384, 2048, 18432, 163_840)
        var list = [
            Parameter(name: "model.embed_tokens.weight", shape: [vocabulary, width], split: .along(0), position: .first)
        ]
        for layer in 0..<61 {
            func add(_ name: String, _ shape: Shape, _ split: Split, isExpert: Bool = false) {
                list.append(
                    Parameter(
                        name: "model.layers.\(layer).\(name)", shape: shape, split: split, position: .layer(layer),
                        isExpert: isExpert))
            }
            add("input_layernorm.weight", [width], .none)
            add("post_attention_layernorm.weight", [width], .none)
            add("self_attn.q_a_proj.weight", [queryRank, width], .none)
            add("self_attn.q_a_layernorm.weight", [queryRank], .none)
            add("self_attn.q_b_proj.weight", [heads * (plain + rotary), queryRank], .along(0))
            add("self_attn.kv_a_proj_with_mqa.weight", [keyRank + rotary, width], .none)
            add("self_attn.kv_a_layernorm.weight", [keyRank], .none)
            add("self_attn.kv_b_proj.weight", [heads * (plain + value), keyRank], .along(0))
            add("self_attn.o_proj.weight", [width, heads * value], .along(1))
            guard layer > 0 else {
                add("mlp.gate_proj.weight", [denseInner, width], .along(0))
                add("mlp.up_proj.weight", [denseInner, width], .along(0))
                add("mlp.down_proj.weight", [width, denseInner], .along(1))
                continue
            }
            add("mlp.gate.weight", [experts, width], .none)
            add("mlp.gate.e_score_correction_bias", [experts], .none)
            add("mlp.experts.gate_proj.weight", [experts, expertInner, width], .along(1), isExpert: true)
            add("mlp.experts.up_proj.weight", [experts, expertInner, width], .along(1), isExpert: true)
            add("mlp.experts.down_proj.weight", [experts, width, expertInner], .along(2), isExpert: true)
            add("mlp.shared_experts.gate_proj.weight", [expertInner, width], .along(0))
            add("mlp.shared_experts.up_proj.weight", [expertInner, width], .along(0))
            add("mlp.shared_experts.down_proj.weight", [width, expertInner], .along(1))
        }
        list.append(Parameter(name: "model.norm.weight", shape: [width], split: .none, position: .last))
        list.append(Parameter(name: "lm_head.weight", shape: [vocabulary, width], split: .along(0), position: .last))
        return list
    }
}

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
        let flattenings =
            zero && mesh.size(of: "dp") != nil
            ? try flattenings(steps, mesh, stages: stages) : []
        var tensors: [PlacedTensor] = []
        for (index, parameter) in parameters.enumerated() {
            let layout = try named(parameter) { () throws(CairnError) in try Layout(mesh, steps: steps[index]) }
            tensors.append(
                PlacedTensor(
                    name: "model." + parameter.name, scalarType: .bf16, shape: parameter.shape, layout: layout))
            var state = layout
            if !flattenings.isEmpty {
                state = try named(parameter) { () throws(CairnError) in
                    try Layout(mesh, steps: steps[index] + [.init("dp", .flatten(flattenings[index]))])
                }
            }
            for kind in ["master", "exp_avg", "exp_avg_sq"] {
                tensors.append(
                    PlacedTensor(
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
            steps.append(
                .init(
                    "tp",
                    .shard(
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
