public import CairnBase
import CairnTensor

/// Some of the tensors and values of another checkpoint.
///
/// A tensor that is tied to one that is left out becomes one by itself.
public struct SelectedReader: CheckpointView {
    public let base: any CheckpointReader
    public let tensors: [TensorDescription]
    public let values: [NamedValue]
    private let selects: @Sendable (String) -> Bool

    /// Selects what fits one of the patterns in `include`, or everything if there are none, and none of those in
    /// `exclude`.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for an invalid pattern, ``CairnError/Code/notFound`` for one
    ///   that fits no name of the checkpoint.
    public init(
        _ base: any CheckpointReader, include: [String] = [], exclude: [String] = []
    ) throws(CairnError) {
        let names = base.tensors.map(\.name) + base.values.map(\.name)
        let included = try PatternList(include, applyingTo: names, of: base.source, orRanksOf: base)
        let excluded = try PatternList(exclude, applyingTo: names, of: base.source, orRanksOf: base)
        self.init(base) { name in (included.isEmpty || included.match(name)) && !excluded.match(name) }
    }

    /// Selects tensors and values by their names.
    package init(_ base: any CheckpointReader, where selects: @escaping @Sendable (String) -> Bool) {
        self.base = base
        self.selects = selects
        tensors = base.tensors.filter { selects($0.name) }
            .map { ViewedTensor(description: $0, originalName: $0.name) }
            .retied(below: base.tensors).map(\.description)
        values = base.values.filter { selects($0.name) }
    }

    public var structure: StateNode? {
        let names = Set(tensors.map { ExactString($0.name) })
        let kept = Set(values.map { ExactString($0.name) })
        return base.structure?.selecting(
            tensor: { names.contains(ExactString($0)) }, value: { kept.contains(ExactString($0)) })
    }

    public func rankValues() throws(CairnError) -> [RankValues] { try base.rankValues().filtered(selects) }

    public func rankValues(ofRank rank: Int) throws(CairnError) -> RankValues? {
        guard let own = try base.rankValues(ofRank: rank) else { return nil }
        return [own].filtered(selects).first
    }

    public func baseName(of name: String) throws(CairnError) -> String? { try description(of: name).name }

    /// Verifies all of the base; damage of tensors that are left out is none of the selection's.
    public func verify(
        deep: Bool, progress: @escaping @Sendable (Int) throws -> Void
    ) throws -> VerificationReport {
        var report = try base.verify(deep: deep, progress: progress)
        let stored = try Set(tensors.map { ExactString(try base.description(of: $0.name).tiedTo ?? $0.name) })
        report.damages.removeAll { damage in
            damage.error.context.tensor.map { !stored.contains(ExactString($0)) } ?? false
        }
        return report
    }
}

/// Patterns each of which fits something: one that does not is a mistake in the pattern.
struct PatternList: Sendable {
    private let patterns: [GlobPattern]

    var isEmpty: Bool { patterns.isEmpty }

    /// - Parameter reader: Whose single ranks' values may fit what no name does.
    init(
        _ texts: [String], applyingTo names: [String], of source: String, orRanksOf reader: (any CheckpointReader)? = nil
    ) throws(CairnError) {
        var patterns: [GlobPattern] = []
        var ofRanks: [String]?
        for text in texts {
            let pattern = try GlobPattern(text)
            var fits = names.contains(where: pattern.matches)
            if !fits, let reader {
                if ofRanks == nil { ofRanks = try reader.rankValues().flatMap { $0.values.map(\.name) } }
                fits = ofRanks?.contains(where: pattern.matches) ?? false
            }
            guard fits else {
                throw CairnError(
                    .notFound, "a pattern fits no name of the checkpoint",
                    .init(file: source, found: text.debugDescription, advice: "list the names and correct it"))
            }
            patterns.append(pattern)
        }
        self.patterns = patterns
    }

    /// Whether any of them fits.
    func match(_ name: String) -> Bool { patterns.contains { $0.matches(name) } }
}
