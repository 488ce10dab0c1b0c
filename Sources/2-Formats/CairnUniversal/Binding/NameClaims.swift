import CairnBase
import CairnCheckpoint

/// Which rule a name belongs to.
struct NameClaims {
    struct Claim {
        /// Which compiled rule.
        var rule: Int
        /// Which of its names.
        var index: Int
        /// What the fields stand for, by how they are written.
        var fields: [String: String]
    }

    private struct Pattern {
        var rule: Int
        var index: Int
        var matcher: NameMatcher
        var except: [NameMatcher]
        /// Whether names of moments are not for it.
        var refusesMoments: Bool
    }

    private let patterns: [Pattern]
    private let momentNames: [NameMatcher]

    /// How many names an error lists.
    static let listedCount = 20

    /// The claims on foreign names, of a rank or, with `rank` nil, by those rules that do not depend on it.
    init(foreign specification: CompiledSpecification, rank: Int?, in context: EvaluationContext) throws(CairnError) {
        var patterns: [Pattern] = []
        let here = rank.map { context.at(rank: $0) } ?? context
        for (rule, compiled) in specification.rules.enumerated() {
            let dependsOnRank = (compiled.from + compiled.except).contains { $0.dependsOnRank(specification.axes) }
            guard dependsOnRank == (rank != nil) else { continue }
            do throws(CairnError) {
                var except: [NameMatcher] = []
                for template in compiled.except { except.append(try NameMatcher(template, captures: [], in: here)) }
                for (index, template) in compiled.from.enumerated() {
                    patterns.append(
                        Pattern(
                            rule: rule, index: index, matcher: try NameMatcher(template, captures: [], in: here),
                            except: except, refusesMoments: compiled.moment == nil && compiled.rule.outcome != .drop))
                }
            } catch {
                throw CairnError(error.code, "\(compiled.label): \(error.message)", error.context)
            }
        }
        self.patterns = patterns
        momentNames = try Self.matchers(specification.momentNames.foreign, in: context)
    }

    /// The claims on logical names.
    init(logical specification: CompiledSpecification, in context: EvaluationContext) throws(CairnError) {
        var patterns: [Pattern] = []
        for (rule, compiled) in specification.rules.enumerated() where !compiled.rule.isForGatheringOnly {
            for (index, template) in compiled.to.enumerated() {
                patterns.append(
                    Pattern(
                        rule: rule, index: index,
                        matcher: try NameMatcher(logical: template, specification.axes, in: context), except: [],
                        refusesMoments: compiled.moment == nil))
            }
        }
        self.patterns = patterns
        momentNames = try Self.matchers(specification.momentNames.logical, in: context)
    }

    private static func matchers(
        _ templates: [NameTemplate], in context: EvaluationContext
    ) throws(CairnError) -> [NameMatcher] {
        var matchers: [NameMatcher] = []
        for template in templates { matchers.append(try NameMatcher(template, captures: [], in: context)) }
        return matchers
    }

    /// Every rule that takes the name for its own.
    func claims(on name: String) -> [Claim] {
        var claims: [Claim] = []
        var isMoment: Bool?
        for pattern in patterns {
            guard let texts = pattern.matcher.match(name) else { continue }
            if pattern.refusesMoments {
                let known = isMoment ?? momentNames.contains { $0.match(name) != nil }
                isMoment = known
                if known { continue }
            }
            if pattern.except.contains(where: { $0.match(name) != nil }) { continue }
            claims.append(
                Claim(
                    rule: pattern.rule, index: pattern.index,
                    fields: Dictionary(
                        zip(pattern.matcher.fieldNames, texts), uniquingKeysWith: { first, _ in first })))
        }
        return claims
    }

    /// The error for names that no rule claims; `rank` is one that has the first of them.
    static func unclaimed(
        _ names: some Collection<ExactString>, in source: String, rank: Int? = nil, _ kind: String
    ) -> CairnError {
        let sorted = names.sorted().map(\.string)
        let listed = sorted.prefix(listedCount).joined(separator: ", ")
        let more = sorted.count > listedCount ? ", …" : ""
        return CairnError(
            .mismatch, "no rule claims \(sorted.count) \(kind) \(sorted.count == 1 ? "tensor" : "tensors")",
            .init(
                file: source, tensor: sorted.first, rank: rank, found: listed + more,
                advice: "add a rule, or drop them by one"))
    }

    /// The error for a name that several rules claim.
    static func contested(_ name: String, _ rules: [String], in source: String, rank: Int? = nil) -> CairnError {
        CairnError(
            .mismatch, "two rules claim one tensor: " + rules.prefix(4).joined(separator: " and "),
            .init(
                file: source, tensor: name, rank: rank,
                advice: "narrow one of the patterns, or exclude the name by `except`"))
    }
}

extension NameMatcher {
    /// Matches logical names: arithmetic that depends on captures or coordinates stands for any number.
    init(logical template: NameTemplate, _ axes: Set<String>, in context: EvaluationContext) throws(CairnError) {
        try self.init(
            template.replacingExpressions { tree in
                let isConstant = tree.names.allSatisfy { context.parameters[$0] != nil }
                return isConstant ? nil : (.number(0), .number(Int.max))
            }, captures: [], in: context)
    }
}

extension NameTemplate {
    /// The same with some expressions made captures of numbers in a range.
    func replacingExpressions(_ range: (Arithmetic) -> (Arithmetic, Arithmetic)?) -> NameTemplate {
        with(
            pieces: pieces.map { piece in
                guard case .expression(let tree, let text) = piece, let (lower, upper) = range(tree) else {
                    return piece
                }
                return .capture(text, .range(lower, upper))
            })
    }
}
