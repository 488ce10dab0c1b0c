package import CairnBase
package import CairnCheckpoint
import CairnTensor

/// Rules that were guessed, with what speaks for each.
package struct InferredRules: Sendable {
    /// A rule and how sure it is.
    package struct Finding: Sendable {
        /// The rule's name.
        package var rule: String
        /// What speaks for it.
        package var remark: String
        /// Whether a person should look at it.
        package var isGuess: Bool
        /// How many tensors it is for.
        package var tensorCount: Int
    }

    /// The rules.
    package var specification: UniversalSpec
    /// What speaks for each, in the order of the rules.
    package var findings: [Finding]
    /// Names for which nothing was found.
    package var unexplained: [String]

    /// The rules as a file, with the remarks as comments.
    package var yaml: String {
        let byRule = Dictionary(findings.map { ($0.rule, $0) }, uniquingKeysWith: { first, _ in first })
        var text = ""
        for name in unexplained.prefix(100) { text += "# nothing explains \(name.debugDescription)\n" }
        return text
            + specification.yaml { rule in
                byRule[rule.name].map { ($0.isGuess ? "a guess: " : "") + $0.remark }
            }
    }
}

extension UniversalSpec {
    /// Proposes rules from two shard sets of one model that differ in the size of one mesh axis; one may be whole.
    ///
    /// Shapes say which dimension is sharded; data is read to tell plain shards from sections side by side, and
    /// replicas from partial tensors. Names stay as they are; numbers in them become captures where all of them tell the same.
    ///
    /// - Parameters:
    ///   - axis: What the axis is called.
    ///   - readsData: Without data every rule is a guess: sections look like plain shards, partial values like replicas.
    /// - Throws: ``CairnError/Code/invalidArgument`` for sets of one size, and what the readers throw.
    package static func infer(
        _ first: [any CheckpointReader], _ second: [any CheckpointReader], axis: String = "tp", readsData: Bool = true
    ) throws(CairnError) -> InferredRules {
        guard !first.isEmpty, !second.isEmpty, first.count != second.count else {
            throw CairnError(
                .invalidArgument, "rules are inferred from two shard sets of different sizes",
                .init(found: "\(first.count) and \(second.count) shards"))
        }
        var names: Set<ExactString> = [], others: Set<ExactString> = []
        for shard in first { names.formUnion(shard.tensors.map { ExactString($0.name) }) }
        for shard in second { others.formUnion(shard.tensors.map { ExactString($0.name) }) }
        var found: [(name: String, placement: InferredPlacement)] = []
        var unexplained: [String] = []
        for name in names.union(others).sorted() {
            let inference = TensorInference(
                name: name.string, axis: axis, first: first, second: second, readsData: readsData)
            if names.contains(name), others.contains(name), let placement = try inference.infer() {
                found.append((name.string, placement))
            } else {
                unexplained.append(name.string)
            }
        }
        var specification = UniversalSpec(axes: [.init(axis)])
        var findings: [InferredRules.Finding] = []
        for group in NameGroup.groups(found) {
            var rule = Rule(group.template, from: group.template, to: group.template)
            rule.to = [group.plainTemplate]
            rule.placement = group.placement.steps
            rule.transforms = group.placement.transforms
            rule.shape = group.placement.shape
            specification.rules.append(rule)
            findings.append(
                .init(
                    rule: rule.name, remark: group.placement.remark, isGuess: group.placement.isGuess,
                    tensorCount: group.count))
        }
        try specification.validate()
        return InferredRules(specification: specification, findings: findings, unexplained: unexplained)
    }
}

/// Names that differ in numbers only and of which the same was found.
struct NameGroup {
    var template: String
    var plainTemplate: String
    var placement: InferredPlacement
    var count: Int

    /// Groups names; one whose members disagree falls apart into rules for each.
    static func groups(_ found: [(name: String, placement: InferredPlacement)]) -> [NameGroup] {
        var groups: [ExactString: [(name: String, numbers: [Int], placement: InferredPlacement)]] = [:]
        var order: [ExactString] = []
        for (name, placement) in found {
            let (key, numbers) = split(name)
            if groups[ExactString(key)] == nil { order.append(ExactString(key)) }
            groups[ExactString(key), default: []].append((name, numbers, placement))
        }
        var result: [NameGroup] = []
        for key in order {
            let members = groups[key] ?? []
            guard let model = members.first, members.count > 1,
                members.allSatisfy({ $0.placement == model.placement })
            else {
                result += members.map {
                    let name = $0.name.escapedForTemplate
                    return NameGroup(template: name, plainTemplate: name, placement: $0.placement, count: 1)
                }
                continue
            }
            let ends = model.numbers.indices.map { index in (members.map { $0.numbers[index] }.max() ?? 0) + 1 }
            let names = ends.count == 1 ? ["n"] : ends.indices.map { "n\($0 + 1)" }
            result.append(
                NameGroup(
                    template: fill(key.string, zip(names, ends).map { "{\($0):0..<\($1)}" }),
                    plainTemplate: fill(key.string, names.map { "{\($0)}" }), placement: model.placement,
                    count: members.count))
        }
        return result
    }

    /// The name with a mark in the place of each segment that is a number, and the numbers.
    private static func split(_ name: String) -> (key: String, numbers: [Int]) {
        var numbers: [Int] = []
        let segments = name.split(separator: ".", omittingEmptySubsequences: false).map { segment -> String in
            guard let number = CanonicalNumber.parse(segment.utf8), number < Int.max else {
                return String(segment).escapedForTemplate
            }
            numbers.append(number)
            return "\u{0}"
        }
        return (segments.joined(separator: "."), numbers)
    }

    private static func fill(_ key: String, _ captures: [String]) -> String {
        var rest = captures[...]
        return key.split(separator: ".", omittingEmptySubsequences: false).map { segment in
            segment == "\u{0}" ? rest.popFirst() ?? "" : String(segment)
        }.joined(separator: ".")
    }
}

/// Compares a tensor of two checkpoints a block at a time.
enum TensorEquality {
    private static let blockByteCount = 4 << 20

    static func equal(
        _ one: any CheckpointReader, _ other: any CheckpointReader, _ name: String
    ) throws(CairnError) -> Bool {
        let description = try one.description(of: name), otherDescription = try other.description(of: name)
        guard description.shape == otherDescription.shape, description.scalarType == otherDescription.scalarType else {
            return false
        }
        let first = ReaderView(one, description), second = ReaderView(other, otherDescription)
        for slab in SlabSequence(of: description, byteLimit: blockByteCount) {
            guard try first.bytes(of: slab) == second.bytes(of: slab) else { return false }
        }
        return true
    }
}

/// One tensor of a checkpoint, or none.
struct SingleTensorReader: CheckpointReader {
    let base: any CheckpointReader
    let tensors: [TensorDescription]

    var format: String { base.format }
    var source: String { base.source }
    var values: [NamedValue] { [] }

    init(_ base: any CheckpointReader, _ name: String) {
        self.base = base
        var tensors: [TensorDescription] = []
        if let position = base.tensors.position(of: name) { tensors = [base.tensors[position]] }
        self.tensors = tensors
    }

    func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try base.read(name, region: region, into: &destination)
    }
}
