import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnMerge
import CairnTensor
import CairnTesting
import Testing

@Suite struct Searches {
    @Test(arguments: [1, 2, 5, 10]) func theEvolutionStrategyFindsTheLeastOfKnownFunctions(dimension: Int) throws {
        func ellipsoid(_ x: [Double]) -> Double {
            x.enumerated().reduce(0) { sum, entry in
                let scale = dimension > 1 ? Double(entry.offset) / Double(dimension - 1) : 0
                return sum + (1 + 999 * scale) * (entry.element - 1) * (entry.element - 1)
            }
        }
        func rosenbrock(_ x: [Double]) -> Double {
            (0..<max(0, dimension - 1)).reduce(0) { sum, i in
                let (a, b) = (x[i + 1] - x[i] * x[i], 1 - x[i])
                return sum + 100 * a * a + b * b
            }
        }
        for function in [ellipsoid, rosenbrock] {
            var search = try EvolutionStrategy(start: [Double](repeating: 0, count: dimension), step: 0.5, seed: 3)
            while search.stopReason == nil, search.evaluationCount < 20_000 {
                let candidates = search.ask()
                try search.tell(candidates.map(function))
            }
            let best = try #require(search.best)
            #expect(best.value < 1e-9, "\(dimension) \(String(describing: search.stopReason))")
        }
    }

    /// The published defaults for nine dimensions.
    @Test func theDefaultsAreThoseOfTheTutorial() throws {
        var search = try EvolutionStrategy(start: [Double](repeating: 0, count: 9), step: 1, seed: 1)
        #expect(search.ask().count == 10)
        #expect(search.ask() == search.ask())
        #expect(throws: CairnError.self) { try search.tell([1]) }
    }

    @Test func aValueThatIsNoNumberIsTheWorst() throws {
        var search = try EvolutionStrategy(start: [3, 3], step: 0.3, seed: 5)
        for _ in 0..<150 {
            let candidates = search.ask()
            try search.tell(candidates.map { $0[0] < 1 ? .nan : ($0[0] - 1) * ($0[0] - 1) + $0[1] * $0[1] })
        }
        let best = try #require(search.best)
        #expect(best.point[0] >= 1 && best.value < 1e-6)
    }

    static func inputs() throws -> [MergeInput] {
        var random = RandomTensors(seed: 60)
        return try (0..<4).map { index in
            var checkpoint = MemoryCheckpoint("c\(index)", isMapped: true)
            checkpoint.add("layers.0.w", try random.tensor([5]))
            checkpoint.add("layers.1.w", try random.tensor([5]))
            return MergeInput(checkpoint)
        }
    }

    /// The squared distance of a merge from a target that is a combination of the inputs.
    static func distance(_ merged: MergedCheckpoint, _ coefficients: [[Double]]) throws -> Double {
        let inputs = try inputs()
        var sum = 0.0
        for (layer, own) in coefficients.enumerated() {
            let name = "layers.\(layer).w"
            let parts = try inputs.map { try $0.reader.doubles(name) }
            for (index, value) in try merged.doubles(name).enumerated() {
                let target = own.indices.reduce(0) { $0 + own[$1] * parts[$1][index] }
                sum += (value - target) * (value - target)
            }
        }
        return sum
    }

    private static let target = [[0.1, -0.2, 0.5, 0.6], [0.7, 0.3, 0.2, -0.2]]

    @Test func coefficientsByLayerAreFound() throws {
        let space = try CoefficientSpace(Self.inputs(), grouping: .layers)
        #expect(space.groups == ["layers.0", "layers.1"] && space.dimension == 6)
        var search = try MergeSearch(
            space, strategy: EvolutionStrategy(start: space.uniformPoint, step: 0.2, seed: 1))
        let split = SearchSplit { ["loss": try Self.distance($0, Self.target)] }
        for _ in 0..<150 { try search.advance(on: split) }
        let best = try #require(search.strategy.best)
        for (found, expected) in zip(try space.coefficients(of: best.point).joined(), Self.target.joined()) {
            #expect(abs(found - expected) < 1e-3)
        }
        let report = try search.report(on: ReportSplit { ["loss": try Self.distance($0, Self.target)] })
        let loss = try #require(report["loss"])
        #expect(loss < 1e-5)
        // The best point as a checkpoint tells its coefficients.
        #expect(try #require(try search.bestMerge()).lineage.operation == "search")
    }

    @Test func theEvolutionOfCheckpointsBeatsItsFirstPopulation() throws {
        let space = try CoefficientSpace(Self.inputs())
        let target = [[0.1, -0.2, 0.5, 0.6], [0.1, -0.2, 0.5, 0.6]]
        // The last coefficient follows, so the strategy's whole sets are cut.
        var strategy = try CheckpointEvolution(checkpointCount: 4, seed: 2)
        var first: Double?
        for _ in 0..<800 {
            let values = try strategy.ask().map { try Self.distance(space.merged(Array($0.dropLast())), target) }
            try strategy.tell(values)
            first = first ?? strategy.best?.value
            let best = try #require(strategy.best)
            #expect(abs(best.point.reduce(0, +) - 1) < 1e-9)
        }
        let best = try #require(strategy.best), before = try #require(first)
        #expect(best.value < 0.02 * before)
    }

    /// Wherever a search is stored and read again, it continues bit by bit.
    @Test func storedSearchesGoOnExactly() throws {
        let space = try CoefficientSpace(Self.inputs())
        let split = SearchSplit { merged in
            ["a": try Self.distance(merged, Self.target), "b": try merged.doubles("layers.0.w")[0]]
        }
        func run<Strategy: SearchStrategy & Equatable>(_ strategy: Strategy, _ stops: Bool) throws -> (
            Strategy, [[Double]], Value
        ) {
            var search = try MergeSearch(space, strategy: strategy, objectives: ["a", "b"], weights: [1, 0.1])
            for generation in 0..<12 {
                if stops, generation % 3 == 1 {
                    // Through a checkpoint on a disk, candidates asked for and not told.
                    var strategy = search.strategy
                    _ = strategy.ask()
                    var state = TrainingState()
                    state.set(search.value, for: "search")
                    let directory = try TemporaryDirectory()
                    let store = CheckpointStore(path: directory.path)
                    try store.save(state, step: 1)
                    search = try MergeSearch(store.load(step: 1).value("search"), over: space)
                }
                try search.advance(on: split)
            }
            return (search.strategy, search.trials.map(\.values), search.value)
        }
        let plain = try run(EvolutionStrategy(start: space.uniformPoint, step: 0.1, seed: 4), false)
        let stopped = try run(EvolutionStrategy(start: space.uniformPoint, step: 0.1, seed: 4), true)
        #expect(plain.0 == stopped.0 && plain.1 == stopped.1 && plain.2 == stopped.2)
        for (one, other) in [(false, true)].map({ ($0.0, $0.1) }) {
            var settings = CheckpointEvolution.Settings()
            settings.childCount = 3
            let four = try CoefficientSpace(Self.inputs(), constraint: .none)
            func evolve(_ stops: Bool) throws -> CheckpointEvolution {
                var strategy = try CheckpointEvolution(checkpointCount: 4, seed: 9, settings: settings)
                for generation in 0..<20 {
                    let candidates = strategy.ask()
                    if stops, generation % 4 == 2 { strategy = try CheckpointEvolution(strategy.value) }
                    #expect(strategy.ask() == candidates)
                    try strategy.tell(candidates.map { try Self.distance(four.merged($0), Self.target) })
                }
                return strategy
            }
            #expect(try evolve(one) == evolve(other))
        }
        #expect(throws: CairnError.self) { try EvolutionStrategy(.dictionary(["kind": "cairn-cma-es/1"])) }
        #expect(throws: CairnError.self) { try CheckpointEvolution(plain.0.value) }
    }

    @Test func theFrontHasWhatNothingElseIsBetterThan() throws {
        let space = try CoefficientSpace(Self.inputs(), constraint: .none)
        var search = try MergeSearch(
            space, strategy: EvolutionStrategy(start: space.uniformPoint, step: 0.5, seed: 8), objectives: ["x", "y"])
        let split = SearchSplit { merged in
            let values = try merged.doubles("layers.0.w")
            return ["x": abs(values[0]), "y": abs(values[0] - 1) + abs(values[1])]
        }
        for _ in 0..<10 { try search.advance(on: split) }
        let front = search.paretoFront
        #expect(front.count > 1)
        for trial in search.trials {
            #expect(front.contains { zip($0.values, trial.values).allSatisfy { $0 <= $1 } })
        }
        for (one, next) in zip(front, front.dropFirst()) {
            #expect(one.values[0] < next.values[0] && one.values[1] > next.values[1])
        }
    }

    @Test func greedySoupsTakeWhatHelps() throws {
        let inputs = try Self.inputs()
        let target = [[0, 0.5, 0, 0.5], [0, 0.5, 0, 0.5]] as [[Double]]
        let soup = try GreedySoup(of: [inputs[1], inputs[0], inputs[3], inputs[2]]) { try Self.distance($0, target) }
        #expect(soup.members.first == 0 && soup.members.contains(2))
        #expect(soup.decisions.map(\.candidate) == [0, 1, 2, 3])
        #expect(soup.decisions.filter(\.isTaken).map(\.candidate) == soup.members)
        #expect(soup.value == soup.decisions.filter(\.isTaken).map(\.value).min())
        #expect(soup.merged.lineage.parents.count == soup.members.count)
    }
}
