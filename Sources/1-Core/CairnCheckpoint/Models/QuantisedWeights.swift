package import CairnBase
import CairnTensor

/// The weights of a checkpoint that are stored as codes with scales, which mean nothing by themselves: an average of codes
/// is not an average of weights.
///
/// They are recognised by names and types together, never by shapes; a model's configuration adds what names leave open. 8-bit
/// floats without scales are numbers like any others. Copying, renaming, selecting and resharding codes together with their
/// scales is right; computing with them is refused.
package struct QuantisedWeights: Sendable {
    /// By name.
    package let weights: [QuantisedWeight]
    private let configuration: ModelConfiguration.Quantisation?
    /// For each part the weight that it belongs to.
    private let owners: [ExactString: Int]

    /// Recognises them. Reads no data.
    ///
    /// - Parameter configuration: The model's, if there is one.
    package init(in tensors: [TensorDescription], configuration: ModelConfiguration? = nil) {
        var finder = QuantisedWeightFinder(tensors)
        // Most checkpoints are numbers alone.
        if tensors.contains(where: { QuantisationPattern.codeTypes.contains($0.scalarType) }) {
            finder.findPatterns(configuration?.quantisation)
        }
        if let known = configuration?.quantisation { finder.findConfigured(known) }
        weights = finder.weights.sorted { ExactString($0.name) < ExactString($1.name) }
        self.configuration = configuration?.quantisation
        var owners: [ExactString: Int] = [:]
        for (index, weight) in weights.enumerated() {
            for part in weight.parts { owners[ExactString(part)] = index }
        }
        self.owners = owners
    }

    /// Whether there are none.
    package var isEmpty: Bool { weights.isEmpty }

    /// The weight that a tensor is a part of.
    package func weight(with part: String) -> QuantisedWeight? { owners[ExactString(part)].map { weights[$0] } }

    /// Whether a tensor holds codes, whose values are not numbers.
    package func areCodes(_ tensor: String) -> Bool {
        guard let weight = weight(with: tensor) else { return false }
        return weight.codes.contains { ExactString($0) == ExactString(tensor) }
    }

    /// How many weights each scheme has, in the order of the schemes.
    package var counts: [(scheme: QuantisationScheme, count: Int)] {
        QuantisationScheme.allCases.compactMap { scheme in
            let count = weights.count { $0.scheme == scheme }
            return count > 0 ? (scheme, count) : nil
        }
    }

    /// Such as `10 weights in GPTQ (gptq, 4 bits)`.
    package var description: String {
        let schemes = counts.map { "\($0.count == 1 ? "1 weight" : "\($0.count) weights") in \($0.scheme.rawValue)" }
        return schemes.joined(separator: ", ") + (details.map { " (\($0))" } ?? "")
    }

    /// What the configuration says of them.
    package var details: String? {
        guard let configuration else { return nil }
        return
            ([configuration.method, configuration.format].compactMap { $0 }
            + (configuration.bits.map { ["\($0) bits"] } ?? [])).joined(separator: ", ")
    }

    /// Makes sure that nothing is computed with codes.
    ///
    /// - Parameters:
    ///   - action: What would be: `an average`.
    ///   - source: What errors name.
    ///   - selects: The tensors that take part; all by default.
    /// - Throws: ``CairnError/Code/unsupported`` that names the tensors and the scheme.
    package func refuse(
        _ action: String, of source: String, where selects: (String) -> Bool = { _ in true }
    ) throws(CairnError) {
        let taken = weights.filter { $0.parts.contains(where: selects) }
        guard let first = taken.first, let part = first.parts.first(where: selects) else { return }
        let list = taken.prefix(3).map(\.name).joined(separator: ", ") + (taken.count > 3 ? ", …" : "")
        throw CairnError(
            .unsupported, "weights are stored as codes with scales, and \(action) would take the codes for numbers",
            .init(
                file: source, tensor: part, expected: "weights that are numbers", found: "\(description): \(list)",
                advice: "leave them out by --exclude, or store them as numbers with the library that made them; copying, "
                    + "renaming and selecting codes together with their scales works"))
    }

    /// What is lost where some parts of a weight are taken and others are not: a sentence, or nothing.
    ///
    /// - Parameter selects: The tensors that are taken.
    package func lossNote(where selects: (String) -> Bool) -> String? {
        var lost: [String] = []
        var broken: [QuantisedWeight] = []
        for weight in weights where weight.parts.contains(where: selects) {
            let missing = weight.parts.filter { !selects($0) }
            if !missing.isEmpty { broken.append(weight) }
            lost += missing
        }
        guard let first = broken.first, let part = lost.first else { return nil }
        return "\(broken.count == 1 ? "a weight" : "\(broken.count) weights") in \(first.scheme.rawValue) cannot be read "
            + "without what is left out of it: \(part)" + (lost.count > 1 ? ", …" : "")
    }
}

/// Finds the parts of weights by their names and types.
private struct QuantisedWeightFinder {
    private(set) var weights: [QuantisedWeight] = []
    private let tensors: [TensorDescription]
    private let types: [ExactString: TensorDescription]
    private var claimed: Set<ExactString> = []

    init(_ tensors: [TensorDescription]) {
        self.tensors = tensors
        types = Dictionary(tensors.map { (ExactString($0.name), $0) }, uniquingKeysWith: { first, _ in first })
    }

    mutating func findPatterns(_ configuration: ModelConfiguration.Quantisation?) {
        for pattern in QuantisationPattern.all {
            for tensor in tensors where pattern.types.contains(tensor.scalarType) && tensor.name.hasSuffix(pattern.codes) {
                let beginning = String(tensor.name.dropLast(pattern.codes.count))
                guard Self.isWhole(beginning, pattern.codes), !claimed.contains(ExactString(tensor.name)),
                    let evidence = evidence(pattern, beginning)
                else { continue }
                let endings = pattern.evidence.map(\.ending) + pattern.companions
                let others = Set(endings).sorted().map { beginning + $0 }.filter {
                    types[ExactString($0)] != nil && !claimed.contains(ExactString($0)) && $0 != tensor.name
                }
                let scheme = scheme(pattern, tensor, beginning, configuration)
                add(tensor, Set(evidence + others).sorted(), scheme, beginning)
            }
        }
    }

    /// A word such as `weight` is one only behind a dot, or alone; what begins with a sign stands for itself.
    private static func isWhole(_ beginning: String, _ codes: String) -> Bool {
        guard let first = codes.first, first != "_", first != "." else { return !beginning.isEmpty }
        return beginning.isEmpty || beginning.hasSuffix(".")
    }

    /// The tensors that prove that this one holds codes; `nil` where none does.
    private func evidence(_ pattern: QuantisationPattern, _ beginning: String) -> [String]? {
        guard !pattern.evidence.isEmpty else { return [] }
        let found = pattern.evidence.filter { companion in
            types[ExactString(beginning + companion.ending)].map { companion.types.contains($0.scalarType) } ?? false
        }
        return found.isEmpty ? nil : found.map { beginning + $0.ending }
    }

    private func scheme(
        _ pattern: QuantisationPattern, _ tensor: TensorDescription, _ beginning: String,
        _ configuration: ModelConfiguration.Quantisation?
    ) -> QuantisationScheme {
        guard pattern.scheme == .packedColumns else { return pattern.scheme }
        switch configuration?.method {
        case "gptq": return .gptq
        case "awq": return .awq
        default: break
        }
        if types[ExactString(beginning + "g_idx")] != nil { return .gptq }
        // Names and types have said what it is; where the words lie says whose.
        guard let columns = types[ExactString(beginning + "scales")]?.shape.extents.last,
            let words = tensor.shape.extents.last
        else { return .packedColumns }
        return words == columns ? .gptq : words < columns ? .awq : .packedColumns
    }

    private mutating func add(
        _ codes: TensorDescription, _ companions: [String], _ scheme: QuantisationScheme, _ beginning: String
    ) {
        var name = codes.name
        for ending in ["_packed", "_blocks", "_qdata", "._data"] where name.hasSuffix(ending) {
            name = String(name.dropLast(ending.count))
        }
        if name.hasSuffix("._weight") { name = String(name.dropLast("_weight".count)) + "weight" }
        if ["qweight", "W_q", "codes", "q_weight"].contains(where: { codes.name == beginning + $0 }) {
            name = beginning + "weight"
        }
        weights.append(QuantisedWeight(name: name, scheme: scheme, codes: [codes.name], companions: companions))
        for part in [codes.name] + companions { claimed.insert(ExactString(part)) }
    }

    /// Adds what the configuration alone says: codes whose scales are not here, in another file of the model.
    mutating func findConfigured(_ configuration: ModelConfiguration.Quantisation) {
        let codes: Set<ScalarType> = [.f8e4m3, .f8e5m2, .f8e4m3fnuz, .f8e5m2fnuz, .f4, .u8, .i8]
        for tensor in tensors
        where codes.contains(tensor.scalarType) && !claimed.contains(ExactString(tensor.name))
            && (tensor.name.hasSuffix("weight") || tensor.name.hasSuffix("_blocks"))
        {
            add(tensor, [], .configured, "")
        }
    }
}

/// A weight that is stored as codes: which tensors it is made of.
package struct QuantisedWeight: Sendable, Hashable {
    /// What the weight itself is called where it is stored as numbers, or the module that it belongs to.
    package var name: String
    package var scheme: QuantisationScheme
    /// The tensors of codes.
    package var codes: [String]
    /// What lies beside them: scales, zero points, orders, shapes.
    package var companions: [String]

    /// All tensors, the codes first.
    package var parts: [String] { codes + companions }
}
