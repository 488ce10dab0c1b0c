public import CairnBase
import CairnTensor

/// Another checkpoint under other names.
public struct RenamedReader: CheckpointView {
    public let base: any CheckpointReader
    public let tensors: [TensorDescription]
    public let values: [NamedValue]
    /// Parallel to `tensors`.
    private let originalNames: [String]
    /// By the new names.
    private let originalValueNames: [ExactString: String]
    private let rules: [RenameRule]


    /// Renames each tensor and value by the first rule whose pattern fits; the others keep their names.
    ///
    /// - Throws: ``CairnError/Code/notFound`` for a rule that renames nothing, ``CairnError/Code/mismatch`` when two
    ///   would get the same name.
    public init(_ base: any CheckpointReader, rules: [RenameRule]) throws(CairnError) {
        self.base = base
        var originals: [ExactString: String] = [:]
        var isUsed = [Bool](repeating: false, count: rules.count)
        func rename(_ name: String) throws(CairnError) -> String {
            var renamed = name
            for (index, rule) in rules.enumerated() {
                guard let found = rule.apply(to: name) else { continue }
                isUsed[index] = true
                renamed = found
                break
            }
            if let other = originals.updateValue(name, forKey: ExactString(renamed)) {
                throw CairnError(
                    .mismatch, "\"\(other)\" and \"\(name)\" would both be named \"\(renamed)\"",
                    .init(file: base.source, tensor: name))
            }
            return renamed
        }
        var viewed: [ViewedTensor] = []
        for tensor in base.tensors {
            var description = tensor
            description.name = try rename(tensor.name)
            viewed.append(ViewedTensor(description: description, originalName: tensor.name))
        }
        var values: [NamedValue] = []
        var valueNames: [ExactString: String] = [:]
        for named in base.values {
            let name = try rename(named.name)
            valueNames[ExactString(name)] = named.name
            values.append(NamedValue(name: name, value: named.value))
        }
        originalValueNames = valueNames
        self.rules = rules
        if isUsed.contains(false) {
            for name in try base.rankValues().flatMap({ $0.values.map(\.name) }) {
                if let index = rules.firstIndex(where: { $0.apply(to: name) != nil }) { isUsed[index] = true }
            }
        }
        if let index = isUsed.firstIndex(of: false) {
            throw CairnError(
                .notFound, "a pattern fits no name of the checkpoint that is not renamed already",
                .init(file: base.source, found: rules[index].pattern.text.debugDescription))
        }
        viewed = viewed.retied(below: base.tensors)
        tensors = viewed.map(\.description)
        originalNames = viewed.map(\.originalName)
        self.values = values.sorted { ExactString($0.name) < ExactString($1.name) }
    }

    /// Names are what renaming is about, so tensors lie flat under theirs; values stay what they were.
    public var structure: StateNode? {
        base.structure.map { structure in
            StateNode(flat: tensors, values: values, of: structure) { originalValueNames[ExactString($0)] ?? $0 }
        }
    }

    public func rankValues() throws(CairnError) -> [RankValues] {
        try base.rankValues().map { own throws(CairnError) in try renamed(own) }
    }

    public func rankValues(ofRank rank: Int) throws(CairnError) -> RankValues? {
        guard let own = try base.rankValues(ofRank: rank) else { return nil }
        return try renamed(own)
    }

    private func renamed(_ own: RankValues) throws(CairnError) -> RankValues {
        var own = own
        var names = Set<ExactString>()
        for index in own.values.indices {
            let name = own.values[index].name
            let renamed = rules.lazy.compactMap { $0.apply(to: name) }.first ?? name
            guard names.insert(ExactString(renamed)).inserted else {
                throw CairnError(
                    .mismatch, "two values of a rank would both be named \"\(renamed)\"",
                    .init(file: source, tensor: name, rank: own.rank))
            }
            own.values[index].name = renamed
        }
        own.values.sort { ExactString($0.name) < ExactString($1.name) }
        return own
    }

    public func baseName(of name: String) throws(CairnError) -> String? {
        originalNames[try tensors.requiredPosition(of: name, in: source)]
    }
}
