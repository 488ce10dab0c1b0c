public import CairnBase
public import CairnTensor

/// The evolutionary search of LCSC (Liu et al., "Linear Combination of Saved Checkpoints", arXiv 2404.02241) for the
/// coefficients of checkpoints of one trajectory: the best of a population cross and mutate, and a child takes the place of
/// the worst if it is better. Coefficients add up to 1 and may be negative.
///
/// The paper's own settings are not all published; those here are in ``Settings``.
public struct CheckpointEvolution: Sendable, Hashable, SearchStrategy {
    /// What stays the same all along.
    public struct Settings: Sendable, Hashable {
        /// How many sets of coefficients are kept.
        public var populationCount = 20
        /// Parents are drawn among so many of the best.
        public var parentCount = 10
        /// How likely a coefficient is changed.
        public var mutationRate = 0.3
        /// The standard deviation of a change.
        public var mutationStep = 0.05
        /// The decays of moving averages among the first population.
        public var decays = [0.5, 0.7, 0.9, 0.95]
        /// How many children are evaluated at a time.
        public var childCount = 1

        public init() {}
    }

    private struct Member: Sendable, Hashable {
        var point: [Double]
        var value: Double
    }

    package let settings: Settings
    private let count: Int
    private var random: SearchRandom
    /// The best first.
    private var population: [Member] = []
    private var pending: [[Double]] = []
    public private(set) var evaluationCount = 0

    /// - Parameter count: How many checkpoints, oldest first.
    /// - Throws: ``CairnError/Code/invalidArgument`` for settings that make no sense.
    public init(checkpointCount count: Int, seed: UInt64, settings: Settings = Settings()) throws(CairnError) {
        guard count > 0, settings.populationCount >= 2, (1...settings.populationCount).contains(settings.parentCount),
            (0...1).contains(settings.mutationRate), settings.mutationStep >= 0, settings.childCount > 0
        else { throw CairnError(.invalidArgument, "the settings of the search make no sense") }
        self.settings = settings
        self.count = count
        random = SearchRandom(seed: seed)
    }

    public var best: (point: [Double], value: Double)? { population.first.map { ($0.point, $0.value) } }

    public mutating func ask() -> [[Double]] {
        if pending.isEmpty {
            pending = population.isEmpty ? firstPopulation() : (0..<settings.childCount).map { _ in child() }
        }
        return pending
    }

    public mutating func tell(_ values: [Double]) throws(CairnError) {
        guard values.count == pending.count, !values.isEmpty else {
            throw CairnError(
                .invalidArgument, "there are not as many values as candidates",
                .init(expected: "\(pending.count)", found: "\(values.count)"))
        }
        evaluationCount += values.count
        let isFirst = population.isEmpty
        for (point, value) in zip(pending, values) {
            let value = value.isNaN ? Double.infinity : value
            if !isFirst {
                guard let worst = population.last, value < worst.value else { continue }
                population.removeLast()
            }
            // Behind those that are as good, so that the older one stays ahead.
            let position = population.firstIndex { $0.value > value } ?? population.count
            population.insert(Member(point: point, value: value), at: position)
        }
        pending = []
    }

    /// The last checkpoint, the mean, moving averages, and neighbours of those.
    private mutating func firstPopulation() -> [[Double]] {
        var last = [Double](repeating: 0, count: count)
        last[count - 1] = 1
        var points = [last, [Double](repeating: 1 / Double(count), count: count)]
        for decay in settings.decays {
            var point = [Double](repeating: 0, count: count)
            for index in 0..<count {
                for earlier in 0..<index { point[earlier] *= decay }
                point[index] = index == 0 ? 1 : 1 - decay
            }
            points.append(point)
        }
        let known = points.count
        while points.count < settings.populationCount {
            points.append(mutated(points[points.count % known], rate: 1))
        }
        return Array(points.prefix(settings.populationCount))
    }

    private mutating func child() -> [Double] {
        let parents = min(settings.parentCount, population.count)
        let one = population[Int(random.next() % UInt64(parents))].point
        let other = population[Int(random.next() % UInt64(parents))].point
        let crossed = one.indices.map { random.next() & 1 == 0 ? one[$0] : other[$0] }
        return mutated(crossed, rate: settings.mutationRate)
    }

    /// With changed coefficients, the last one such that they add up to 1.
    private mutating func mutated(_ point: [Double], rate: Double) -> [Double] {
        var point = point
        for index in 0..<max(0, count - 1) where random.uniform() < rate {
            point[index] += settings.mutationStep * random.normal()
        }
        point[count - 1] = 1 - point.dropLast().reduce(0, +)
        return point
    }

    // MARK: Storing

    private static let kind = "cairn-lcsc/1"

    public var value: Value {
        .dictionary([
            "kind": .string(Self.kind), "count": .integer(Int64(count)), "random": .unsigned(random.state),
            "points": .list(population.map { Value($0.point) }), "values": Value(population.map(\.value)),
            "pending": .list(pending.map { Value($0) }), "evaluations": .integer(Int64(evaluationCount)),
            "population": .integer(Int64(settings.populationCount)), "parents": .integer(Int64(settings.parentCount)),
            "rate": .double(settings.mutationRate), "step": .double(settings.mutationStep),
            "decays": Value(settings.decays), "children": .integer(Int64(settings.childCount)),
        ])
    }

    public init(_ value: Value) throws(CairnError) {
        let fields = try SearchFields(value, kind: Self.kind)
        var settings = Settings()
        settings.populationCount = try fields.count("population", atLeast: 2)
        settings.parentCount = try fields.count("parents", atLeast: 1)
        settings.mutationRate = try fields.double("rate")
        settings.mutationStep = try fields.double("step")
        settings.decays = try fields.doubles("decays")
        settings.childCount = try fields.count("children", atLeast: 1)
        try self.init(
            checkpointCount: try fields.count("count", atLeast: 1), seed: try fields.unsigned("random"),
            settings: settings)
        let values = try fields.doubles("values"), points = try fields.list("points")
        guard values.count == points.count, values.count <= settings.populationCount else {
            throw SearchFields.error("points")
        }
        for (point, value) in zip(points, values) {
            population.append(Member(point: try coefficients(point, "points"), value: value))
        }
        for candidate in try fields.list("pending") { pending.append(try coefficients(candidate, "pending")) }
        evaluationCount = try fields.count("evaluations")
        func coefficients(_ value: Value, _ name: String) throws(CairnError) -> [Double] {
            let numbers = try SearchFields.doubles(value, name)
            guard numbers.count == count else { throw SearchFields.error(name) }
            return numbers
        }
    }
}
