package import Cairn
package import CairnCheckpoint
package import CairnTrain
package import CairnUniversal

/// Sparse upcycling (Komatsuzaki et al. 2023): a dense transformer becomes one with experts that computes the same.
///
/// Every expert is a copy of the feed-forward part, or with a granularity above 1 of a part of it (He et al. 2024); the
/// router starts at random. As the weights of a token's experts sum to one, what they add up to does not depend on the
/// router. What becomes of each tensor is written in the universal language; the copies of an expert are ties, stored
/// once until they train.
package struct Upcycling: Sendable {
    /// What becomes of the optimizer's state.
    package enum OptimizerState: String, Sendable, CaseIterable {
        /// Kept for what is copied as it is; experts and routers start from zero.
        case carry
        /// Kept, and copied with the experts; routers start from zero.
        case expand
        /// All of it starts from zero.
        case drop
    }

    /// Experts in a layer.
    package var experts: Int
    /// How many each token goes to.
    package var chosen: Int
    /// Every how many layers there are experts.
    package var every: Int
    /// Into how many parts the feed-forward part is cut.
    package var granularity: Int
    package var balance: Double
    package var optimizer: OptimizerState
    /// Determines the routers.
    package var seed: UInt64

    package init(
        experts: Int, chosen: Int = 2, every: Int = 2, granularity: Int = 1, balance: Double = 0.01,
        optimizer: OptimizerState = .expand, seed: UInt64 = 0
    ) {
        self.experts = experts
        self.chosen = chosen
        self.every = every
        self.granularity = granularity
        self.balance = balance
        self.optimizer = optimizer
        self.seed = seed
    }

    /// The structure that a dense one becomes.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` when it cannot become one that computes the same.
    package func model(from dense: TransformerConfiguration) throws(CairnError) -> TransformerConfiguration {
        guard dense.experts == nil else {
            throw CairnError(.invalidArgument, "the model has experts already")
        }
        let inner = dense.feedForwardMultiple * dense.width
        guard granularity >= 1, inner % granularity == 0, experts % granularity == 0, chosen % granularity == 0 else {
            throw CairnError(
                .invalidArgument, "parts of the feed-forward part do not make up experts that compute the same",
                .init(
                    expected: "a granularity that divides \(inner) columns, the experts and those of a token",
                    found: "granularity \(granularity), \(experts) experts, \(chosen) a token"))
        }
        guard granularity == 1 || !dense.biases else {
            throw CairnError(
                .unsupported, "a model with biases is upcycled to whole experts only",
                .init(found: "granularity \(granularity)", advice: "use granularity 1"))
        }
        var model = dense
        model.experts = ExpertConfiguration(
            count: experts, chosen: chosen, width: inner / granularity, every: every, balance: balance,
            scale: Double(granularity))
        // Reading its own value checks it.
        return try TransformerConfiguration(model.value)
    }

    /// What becomes of each tensor of a dense checkpoint.
    package func rules(from dense: TransformerConfiguration) throws -> UniversalSpec {
        let layers = (0..<dense.layers).filter { $0 % every == every - 1 }.map(String.init)
        let isOne = layers.count == 1
        let place = "model.layers." + (isOne ? layers[0] : "{n:\(layers.joined(separator: "|"))}") + ".mlp."
        let target = "model.layers." + (isOne ? layers[0] : "{n}") + ".mlp.experts.{e}."
        let kept = optimizer == .expand ? ["exp_avg", "exp_avg_sq", "momentum", "master"] : ["master"]
        let loose = "optimizer.{slot:exp_avg|exp_avg_sq|momentum}."
        var spec = try UniversalSpec(mesh: [], parameters: ["experts": experts, "parts": granularity]) {
            Rule("experts, in", from: place + "{part:gate|up}.{kind:weight|bias}", to: target + "{part}.{kind}") {
                Apply(.copy(slot: "e", count: "experts", parts: "parts"))
            }
            Rule("experts, out", from: place + "down.weight", to: target + "down.weight") {
                Apply(.copy(slot: "e", count: "experts", parts: "parts", dimension: 1))
            }
            Rule("experts, bias of what comes out", from: place + "down.bias", to: target + "down.bias") {
                Apply(.copy(slot: "e", count: "experts"))
            }.optional
        }
        spec.summary = "A dense transformer becomes one with experts."
        spec.moments = kept.map {
            Moment($0, from: "optimizer.\($0).{fqn}", to: "optimizer.\($0).{fqn}", isOptional: true)
        }
        spec.moments.append(Moment("average", from: "average.{fqn}", to: "average.{fqn}", isOptional: true))
        var others = [place + "**"]
        if dense.tiedEmbeddings {
            spec.rules.append(
                Rule("head", from: "model.head.weight", to: "model.head.weight") {
                    Tied(to: "model.embedding.weight")
                    WithMoments(.none)
                }.optional)
            others.append("model.head.weight")
        }
        switch optimizer {
        case .expand: break
        case .carry:
            var rule = Rule("moments", from: loose + "{name**}", to: "optimizer.{slot}.{name}") { WithMoments(.none) }
            rule.except = [loose + place + "**"]
            spec.rules.append(rule.optional)
            spec.rules.append(Rule.drop("moments of what becomes experts", from: loose + place + "**").optional)
            others.append(loose + "**")
        case .drop:
            spec.rules.append(Rule.drop("moments", from: loose + "**").optional)
            others.append(loose + "**")
        }
        var rest = Rule("the rest", from: "{name**}", to: "{name}")
        rest.except = others
        spec.rules.append(rest)
        try spec.validate()
        return spec
    }
}

/// A dense checkpoint seen as one with experts, and what has become of everything.
package struct UpcycledCheckpoint: Sendable {
    /// One tensor and what it became.
    package struct Copy: Sendable, Hashable {
        package var from: String
        /// The tensors; those behind the first ones may be ties to them.
        package var to: [String]
        /// How many of them are stored.
        package var storedCount: Int
    }

    /// A tensor that is not from the dense checkpoint.
    package struct Start: Sendable, Hashable {
        package var name: String
        /// `random` or `zero`.
        package var how: String
    }

    /// The view: to be written, or loaded as it is.
    package let reader: ExtendedReader
    package let model: TransformerConfiguration
    package let copied: [Copy]
    package let initialised: [Start]
    package let dropped: [String]
    /// The rules that say what is copied and dropped, as a file has them.
    package let rules: String

    /// - Throws: What ``Upcycling`` throws; ``CairnError/Code/incomplete`` and ``CairnError/Code/mismatch`` when the
    ///   result would not be, tensor for tensor, the state of a run of the model with experts.
    package init(_ dense: any CheckpointReader, _ upcycling: Upcycling) throws {
        try QuantisedWeights(in: dense.tensors).refuse("upcycling", of: dense.source)
        var values = dense.values.byName
        let parent = try TransformerConfiguration(values["model"])
        let model = try upcycling.model(from: parent)
        let spec = try upcycling.rules(from: parent)
        let explanation = try spec.explain([dense])
        if let problem = explanation.problems.first { throw problem.error }
        let gathered = try GatheredReader([dense], spec: spec)
        copied = explanation.applications.flatMap { application in
            let (to, stored) = (application.logical.map(\.name), application.logical.filter { $0.tiedTo == nil }.count)
            return to.isEmpty ? [] : application.foreign.map { Copy(from: $0.name, to: to, storedCount: stored) }
        }
        dropped = explanation.applications.filter(\.logical.isEmpty).flatMap(\.foreign).map(\.name).sorted()
        rules = spec.yaml

        let wanted = try model.stateTensors(
            optimizer: values["optimizer"], trainer: values["trainer"],
            hasAverage: values["average"] != nil)
        let routers = try model.initialRouters(seed: upcycling.seed, granularity: upcycling.granularity)
        var additions: [String: ExtendedReader.Addition] = [:]
        var starts: [Start] = []
        var zeros: [Shape: String] = [:]
        for tensor in wanted where gathered.tensors.first(where: { $0.name == tensor.name }) == nil {
            if let router = routers[tensor.parameter], tensor.slot.map(Self.areWeights) ?? true {
                additions[tensor.name] = .init(tensor: try router.converted(to: tensor.scalarType))
                starts.append(Start(name: tensor.name, how: "random"))
                continue
            }
            let isNew = routers[tensor.parameter] != nil || tensor.parameter.contains(".mlp.experts.")
            let mayBeZero = upcycling.optimizer == .drop || upcycling.optimizer == .carry && isNew
            guard let slot = tensor.slot, !Self.areWeights(slot), mayBeZero || routers[tensor.parameter] != nil else {
                throw CairnError(
                    .incomplete, "the dense checkpoint lacks what a tensor is made of",
                    .init(file: dense.source, tensor: tensor.name, advice: "drop the optimizer's state"))
            }
            additions[tensor.name] = .init(
                tensor: try Tensor([Float](repeating: 0, count: tensor.shape.elementCount), tensor.shape),
                tiedTo: zeros[tensor.shape])
            if zeros[tensor.shape] == nil { zeros[tensor.shape] = tensor.name }
            starts.append(Start(name: tensor.name, how: "zero"))
        }
        initialised = starts
        values["model"] = model.value
        if upcycling.optimizer == .drop, case .dictionary(var optimizer)? = values["optimizer"] {
            optimizer["step"] = .integer(0)
            values["optimizer"] = .dictionary(optimizer)
        }
        self.model = model
        reader = ExtendedReader(gathered, adding: additions, values: values)
        try Self.check(reader, against: wanted, ties: model.ties)
    }

    /// Whether what is kept of a parameter are weights themselves.
    private static func areWeights(_ slot: String) -> Bool { slot == "master" || slot == "average" }

    /// Every tensor that a run of the model has, and no other: what is copied under another name would be lost
    /// silently.
    private static func check(
        _ reader: ExtendedReader, against wanted: [StateTensor], ties: [(name: String, target: String)]
    ) throws(CairnError) {
        let found = Dictionary(reader.tensors.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        for tensor in wanted {
            guard let made = found[tensor.name], made.shape == tensor.shape, made.scalarType == tensor.scalarType else {
                throw CairnError(
                    .mismatch, "a tensor of the model with experts would be another one",
                    .init(
                        file: reader.source, tensor: tensor.name, expected: "\(tensor.scalarType)\(tensor.shape)",
                        found: found[tensor.name].map { "\($0.scalarType)\($0.shape)" } ?? "nothing"))
            }
        }
        let known = Set(wanted.map(\.name) + ties.map(\.name))
        if let other = reader.tensors.first(where: { !known.contains($0.name) }) {
            throw CairnError(
                .mismatch, "the model with experts has no such tensor", .init(file: reader.source, tensor: other.name))
        }
    }
}
