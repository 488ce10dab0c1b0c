public import CairnBase
public import CairnTensor

/// What a search may look at: values of candidates on data that the result is *not* reported on.
public struct SearchSplit {
    /// The objectives of a merged checkpoint, by name; less is better.
    package var evaluate: (MergedCheckpoint) throws -> [String: Double]

    public init(_ evaluate: @escaping (MergedCheckpoint) throws -> [String: Double]) { self.evaluate = evaluate }
}

/// What a result is reported on, which no search has seen.
public struct ReportSplit {
    /// The same objectives on other data.
    package var evaluate: (MergedCheckpoint) throws -> [String: Double]

    public init(_ evaluate: @escaping (MergedCheckpoint) throws -> [String: Double]) { self.evaluate = evaluate }
}

/// A search for the coefficients of a merge, with everything that it has evaluated.
///
/// The search goes by the weighted sum of the objectives. ``value`` holds all of it: stored with a checkpoint, it continues
/// bit by bit as if it had never stopped.
public struct MergeSearch<Strategy: SearchStrategy>: Sendable {
    /// A point that was evaluated.
    public struct Trial: Sendable, Hashable {
        public var point: [Double]
        /// Parallel to ``MergeSearch/objectives``.
        public var values: [Double]
    }

    public let space: CoefficientSpace
    public private(set) var strategy: Strategy
    /// The names of the objectives.
    public let objectives: [String]
    /// What each objective counts.
    public let weights: [Double]
    public private(set) var trials: [Trial] = []

    /// - Parameter weights: What each objective counts; `nil` for all the same.
    /// - Throws: ``CairnError/Code/invalidArgument`` for no objective, or another number of weights.
    public init(
        _ space: CoefficientSpace, strategy: Strategy, objectives: [String] = ["loss"], weights: [Double]? = nil
    ) throws(CairnError) {
        let weights = weights ?? objectives.map { _ in 1 / Double(objectives.count) }
        guard !objectives.isEmpty, weights.count == objectives.count else {
            throw CairnError(.invalidArgument, "a search needs objectives, and a weight for each")
        }
        self.space = space
        self.strategy = strategy
        self.objectives = objectives
        self.weights = weights
    }

    /// Evaluates one generation of candidates.
    ///
    /// - Throws: ``CairnError/Code/notFound`` when an objective is not evaluated; what evaluating throws, the search then
    ///   being as it was before.
    public mutating func advance(on split: SearchSplit) throws {
        var next = self
        var values: [Double] = []
        for point in next.strategy.ask() {
            let trial = Trial(point: point, values: try ordered(split.evaluate(space.merged(point))))
            next.trials.append(trial)
            values.append(zip(weights, trial.values).reduce(0) { $0 + $1.0 * $1.1 })
        }
        try next.strategy.tell(values)
        self = next
    }

    private func ordered(_ values: [String: Double]) throws(CairnError) -> [Double] {
        var ordered: [Double] = []
        for name in objectives {
            guard let value = values[name] else {
                throw CairnError(.notFound, "an objective was not evaluated", .init(found: name))
            }
            ordered.append(value)
        }
        return ordered
    }

    /// The best point so far as a checkpoint, computed as it is read; `nil` before the first generation.
    public func bestMerge() throws(CairnError) -> MergedCheckpoint? {
        guard let best = strategy.best else { return nil }
        return try space.merged(best.point)
    }

    /// The trials that no other trial is better than in one objective and as good in all others, in the order of the first
    /// objective.
    public var paretoFront: [Trial] { ParetoFront.of(trials, values: \.values) }

    /// The objectives of the best point on data that the search has not seen.
    ///
    /// - Throws: ``CairnError/Code/notFound`` before the first generation.
    public func report(on split: ReportSplit) throws -> [String: Double] {
        guard let merged = try bestMerge() else {
            throw CairnError(.notFound, "the search has evaluated nothing yet")
        }
        return try split.evaluate(merged)
    }

    /// The objectives of a trial of the front on data that the search has not seen.
    public func report(_ trial: Trial, on split: ReportSplit) throws -> [String: Double] {
        try split.evaluate(space.merged(trial.point))
    }

    // MARK: Storing

    private static var kind: String { "cairn-merge-search/1" }

    /// The whole state but for the checkpoints that are merged.
    public var value: Value {
        .dictionary([
            "kind": .string(Self.kind), "strategy": strategy.value,
            "objectives": .list(objectives.map { .string($0) }), "weights": Value(weights),
            "points": .list(trials.map { Value($0.point) }), "values": .list(trials.map { Value($0.values) }),
        ])
    }

    /// A search that was stored, over the same checkpoints.
    ///
    /// - Throws: ``CairnError/Code/malformed`` for what is not a state of a search.
    public init(_ value: Value, over space: CoefficientSpace) throws(CairnError) {
        let fields = try SearchFields(value, kind: Self.kind)
        var objectives: [String] = []
        for field in try fields.list("objectives") {
            guard case .string(let name) = field else { throw SearchFields.error("objectives") }
            objectives.append(name)
        }
        try self.init(
            space, strategy: Strategy(fields["strategy"]), objectives: objectives, weights: fields.doubles("weights"))
        let points = try fields.list("points"), values = try fields.list("values")
        guard points.count == values.count else { throw SearchFields.error("points") }
        for (point, own) in zip(points, values) {
            let trial = Trial(
                point: try SearchFields.doubles(point, "points"), values: try SearchFields.doubles(own, "values"))
            guard trial.point.count == space.dimension, trial.values.count == objectives.count else {
                throw SearchFields.error("points")
            }
            trials.append(trial)
        }
    }
}

/// What nothing else is better than.
package enum ParetoFront {
    /// The elements that no other one dominates, that is, is better in one value and as good in all. Less is better. The first
    /// of equal elements is taken; an element with a value that is not a number is not.
    package static func of<Element>(_ elements: [Element], values: (Element) -> [Double]) -> [Element] {
        let all = elements.map { ($0, values($0)) }.filter { !$0.1.contains(where: \.isNaN) }
        let front = all.enumerated().filter { index, one in
            !all.enumerated().contains { other, candidate in
                guard other != index, zip(candidate.1, one.1).allSatisfy({ $0 <= $1 }) else { return false }
                return candidate.1 != one.1 || other < index
            }
        }
        return front.map(\.element).sorted { $0.1.lexicographicallyPrecedes($1.1) }.map(\.0)
    }
}
