package import Cairn
package import CairnTrain
import CairnUniversal

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
        var values = Dictionary(dense.values.map { ($0.name, $0.value) }, uniquingKeysWith: { first, _ in first })
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

        let wanted = try model.stateTensors(optimizer: values["optimizer"], trainer: values["trainer"],
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
