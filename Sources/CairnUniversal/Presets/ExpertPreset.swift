extension UniversalSpec {
    /// How the experts of a layer are stored.
    public enum ExpertStorage: Sendable, Hashable {
        /// Each under a name of its own, numbered from 0 on each expert-parallel rank.
        case separate
        /// Those of a rank in one tensor, along a first dimension.
        case stacked
    }

    /// A mixture of experts over an expert-parallel axis: the experts are dealt out, each sharded over `tp`; the router
    /// and everything else is replicated over `ep`.
    ///
    /// Foreign names are `layers.N.mlp.experts.E.{w1,w3}` (column-parallel), `….w2` (row-parallel),
    /// `layers.N.mlp.router.weight`; logical ones are the same with the experts numbered through.
    public static func mixtureOfExperts(experts: Int, storage: ExpertStorage = .separate) throws -> UniversalSpec {
        var spec = try UniversalSpec(mesh: ["ep", "dp", "tp"], parameters: ["experts": experts]) {
            switch storage {
            case .separate:
                let from = "layers.{n}.mlp.experts.{e:0..<experts/ep.size}."
                let to = "layers.{n}.mlp.experts.{e + ep*experts/ep.size}."
                Rule("experts in", from: from + "{w:w1|w3}", to: to + "{w}") { On("tp", .shard(0)) }
                Rule("experts out", from: from + "w2", to: to + "w2") { On("tp", .shard(1)) }
            case .stacked:
                let from = "layers.{n}.mlp.experts.", to = "layers.{n}.mlp.experts.{e}."
                Rule("experts in", from: from + "{w:w1|w3}", to: to + "{w}") {
                    On("ep", .shard(0))
                    On("tp", .shard(1))
                    Apply(.unstack(axis: 0, slot: "e"))
                }
                Rule("experts out", from: from + "w2", to: to + "w2") {
                    On("ep", .shard(0))
                    On("tp", .shard(2))
                    Apply(.unstack(axis: 0, slot: "e"))
                }
            }
            Rule("router", from: "layers.{n}.mlp.router.weight", to: "layers.{n}.mlp.router.weight")
            Rule("the rest", from: "{name**}", to: "{name}") {
                Except("layers.*.mlp.experts.**", "layers.*.mlp.router.weight")
            }.optional
        }
        spec.summary = "A mixture of experts over an expert-parallel axis."
        return spec
    }
}
