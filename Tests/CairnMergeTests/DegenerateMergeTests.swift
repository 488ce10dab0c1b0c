import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnMerge
import CairnTensor
import Testing

/// Directions that cancel out, values that are not numbers, tensors without elements: the true value, or a refusal by name.
@Suite struct DegenerateMerges {
    static func inputs(_ tensors: [[Float]], shape: Shape? = nil) throws -> [MergeInput] {
        try tensors.enumerated().map { index, elements in
            var checkpoint = MemoryCheckpoint("input \(index)", isMapped: true)
            checkpoint.add("x", try Tensor(elements, shape ?? [elements.count]))
            return MergeInput(checkpoint)
        }
    }

    static func merge(_ method: MergeMethod, _ tensors: [[Float]]) throws -> [Float] {
        try MergedCheckpoint(inputs(tensors), operation: "test") { _ in method }.floats("x")
    }

    static func expect(_ found: [Float], _ expected: [Double], tolerance: Double = 1e-6) {
        #expect(found.count == expected.count)
        for (one, other) in zip(found, expected) {
            #expect(abs(Double(one) - other) <= tolerance * max(1, abs(other)), "\(found)")
        }
    }

    /// One element each, in opposite directions from the base: the mean length along the longer one, by the formula.
    @Test func multiSlerpOfOppositeScalarsHasTheMeanLength() throws {
        Self.expect(
            try Self.merge(.multiSlerp(weights: [1, 1], hasBase: true), [[2], [2.5], [1.9]]), [2.3])
        for epsilon in [1e-8, 0] {
            let found = try Self.merge(
                .multiSlerp(weights: [1, 1], hasBase: true, epsilon: epsilon), [[2], [2.5], [1.5]])
            // Exactly opposite: the straight line.
            Self.expect(found, [2])
        }
    }

    /// Opposite but for a part: the result has the mean length, across the two.
    @Test(arguments: [1e-1, 1e-3, 1e-5, 1e-7], [false, true])
    func sphericalMeansOfNearlyOppositeDirectionsHaveTheMeanLength(part: Float, isKarcher: Bool) throws {
        let one: [Float] = [3, 0, 0], other: [Float] = [-2, 2 * part, 0]
        let method: MergeMethod =
            isKarcher
            ? .karcher(iterationLimit: 50, tolerance: 1e-9) : .multiSlerp(weights: [1, 1], epsilon: 0)
        let found = try Self.merge(method, [one, other])
        let length = Double(found.reduce(0) { $0 + $1 * $1 }).squareRoot()
        let radius = (3 + 2 * (1 + Double(part * part)).squareRoot()) / 2
        #expect(abs(length - radius) < 1e-5)
        #expect(abs(Double(found[1]) - radius) < max(1e-5, Double(part)) && found[2] == 0)
    }

    /// A fine-tune beside one that moved back along the same way, to seven digits.
    @Test func differencesFromABaseThatCancelAreOfDoublePrecision() throws {
        let base: [Float] = (0..<64).map { 1 + Float($0) / 64 }
        let step: [Float] = (0..<64).map { Float(($0 * 37) % 19) / 1024 - 0.01 }
        let one = zip(base, step).map { $0 + $1 }
        let other = zip(base, step).enumerated().map { $1.0 - $1.1 + ($0 == 5 ? 0x1p-20 : 0) }
        let found = try Self.merge(.multiSlerp(weights: [0.5, 0.5], hasBase: true), [base, one, other])
        // By the formula, in double precision.
        let vectors = [one, other].map { zip($0, base).map { Double($0) - Double($1) } }
        let norms = vectors.map { $0.reduce(0) { $0 + $1 * $1 }.squareRoot() }
        let sum = base.indices.map { 0.5 * (vectors[0][$0] / (norms[0] + 1e-8) + vectors[1][$0] / (norms[1] + 1e-8)) }
        let length = sum.reduce(0) { $0 + $1 * $1 }.squareRoot()
        Self.expect(found, base.indices.map { Double(base[$0]) + (norms[0] + norms[1]) / 2 * sum[$0] / length }, tolerance: 2e-7)
    }

    @Test func directionsOfManyThatCancelAreRefusedByName() throws {
        for method in [MergeMethod.multiSlerp(weights: [2, 1, 1]), .karcher()] {
            let tensors: [[Float]] =
                if case .karcher = method {
                    [[1, 0], [-2, 0], [0, 1], [0, -3]]
                } else {
                    [[1, 2], [-0.7, -1.4], [-3, -6]]
                }
            let error = #expect(throws: CairnError.self) { try Self.merge(method, tensors) }
            #expect(
                error?.description.contains("\"x\"") == true && error?.description.contains("cancel") == true,
                "\(String(describing: error))")
            #expect(error?.description.contains("MergeMethodProblem") == false)
        }
    }

    /// Models that a tensor was frozen in are that tensor, by every method.
    @Test(arguments: [2, 3]) func equalModelsStayWhatTheyAre(count: Int) throws {
        let values: [Float] = [1, -2, 0.125, 3e-5]
        let weights = [Double](repeating: 0.5, count: count)
        let all = [[Float]](repeating: values, count: count + 1)
        for method in [
            MergeMethod.multiSlerp(weights: weights, hasBase: true), .modelStock, .taskArithmetic(weights: weights),
            .ties(weights: weights, density: 0.5), .dare(weights: weights, density: 0.5), .linear(weights: weights + [1]),
            .karcher(), .multiSlerp(weights: weights + [1]),
        ] {
            Self.expect(try Self.merge(method, all), values.map(Double.init))
        }
        // One of them moved: the others have no direction, whatever their weight.
        let moved = try Self.merge(
            .multiSlerp(weights: weights, hasBase: true), [[Float]](repeating: values, count: count) + [values.map { $0 + 0.5 }])
        Self.expect(moved, values.map { Double($0) + 0.5 / Double(count) })
    }

    @Test(arguments: [Float.nan, .infinity, -.infinity]) func whatIsNoNumberIsSeenOrRefused(bad: Float) throws {
        let base: [Float] = [1, 1, 1, 1], good: [Float] = [2, 0, 3, 1.5], spoilt: [Float] = [1.25, bad, 2, 3]
        for (method, tensors) in [
            (MergeMethod.linear(weights: [0, 1]), [spoilt, good]), (.taskArithmetic(weights: [1, 1]), [base, spoilt, good]),
            (.ties(weights: [1, 1], density: 0.5), [base, spoilt, good]),
            (.ties(weights: [1], density: 1), [base, spoilt]), (.ties(weights: [1], density: 1), [spoilt, base]),
            (.breadcrumbs(weights: [1, 1], density: 0.5, outliers: 0.3, takesMajority: true), [base, spoilt, good]),
            (.breadcrumbs(weights: [1], density: 0.75), [base, spoilt]),
            (.dare(weights: [1, 1], density: 0.5, rescaling: .none, takesMajority: true), [base, good, spoilt]),
            (.dare(weights: [1], density: 0.5, rescaling: .inverseDensity, takesMajority: true), [base, spoilt]),
        ] as [(MergeMethod, [[Float]])] {
            let found = try Self.merge(method, tensors)
            #expect(!found[1].isFinite, "\(method) \(found)")
            for index in [0, 2, 3] { #expect(found[index].isFinite, "\(method) \(found)") }
        }
        for (method, tensors) in [
            (MergeMethod.slerp(t: 0.5), [good, spoilt]), (.karcher(), [good, spoilt]), (.modelStock, [base, good, spoilt]),
            (.multiSlerp(weights: [1, 1]), [spoilt, good]), (.multiSlerp(weights: [1, 1], hasBase: true), [spoilt, good, base]),
            (.dare(weights: [1, 1], density: 0.5, takesMajority: true), [base, good, spoilt]),
        ] as [(MergeMethod, [[Float]])] {
            let error = #expect(throws: CairnError.self, "\(method)") { try Self.merge(method, tensors) }
            #expect(error?.code == .unsupported && error?.description.contains("\"x\"") == true)
            #expect(error?.description.contains("input ") == true)
        }
    }

    /// Weights of both signs divide by what is left of them, which single precision would hardly know.
    @Test func weightsThatNearlyCancelAreOfDoublePrecision() throws {
        let tensors: [[Float]] = [[1, 2, 3], [1.5, 2, 0.25]], weights = [1, -0.9999]
        let expected = (0..<3).map { (Double(tensors[0][$0]) - 0.9999 * Double(tensors[1][$0])) / (1 - 0.9999) }
        Self.expect(try Self.merge(.linear(weights: weights), tensors), expected)
        Self.expect(
            try Self.merge(.linear(weights: [1000, -1000], normalizes: false), [[1 + 0x1p-23], [1]]), [1000 * 0x1p-23],
            tolerance: 1e-12)
        // Both take part in the first element, one in the others.
        let ties = MergeMethod.ties(weights: weights, density: 1)
        Self.expect(
            try Self.merge(ties, [[0, 0], [3, 1], [-2, 1]]), [(3 + 0.9999 * 2) / (1 - 0.9999), 1])
        for weights in [[0.1, 0.2, -0.3], [1, -1, 0]] {
            let error = #expect(throws: CairnError.self) {
                try Self.merge(.linear(weights: weights), [[1], [2], [3]])
            }
            #expect(error?.description.contains("add up to zero") == true)
        }
        // What adds up to zero divides nothing.
        Self.expect(
            try Self.merge(
                .ties(weights: [0.1, 0.2, -0.3], density: 1), [[0], [1], [1], [-1]]), [0.6])
    }

    @Test func partsOfTaskVectorsAreParts() throws {
        for method in [
            MergeMethod.ties(weights: [1], density: 1.5), .ties(weights: [1], density: -0.1), .ties(weights: [1], density: .nan),
            .dare(weights: [1], density: 2), .breadcrumbs(weights: [1], density: 0.5, outliers: 1.5),
            .breadcrumbs(weights: [1], density: 0.5, outliers: -0.5),
        ] {
            let error = #expect(throws: CairnError.self, "\(method)") { try Self.merge(method, [[1, 2], [3, 4]]) }
            #expect(error?.code == .invalidArgument && error?.description.contains("from 0 to 1") == true)
        }
        #expect(try Self.merge(.ties(weights: [1], density: 0), [[1, 2], [3, 4]]) == [1, 2])
    }

    @Test func tensorsWithoutElementsOrDimensionsAreMerged() throws {
        let weights = [1.0, 1]
        for method in [
            MergeMethod.linear(weights: [1, 1, 1]), .ties(weights: weights, density: 0.5), .dare(weights: weights, density: 0.5),
            .multiSlerp(weights: weights, hasBase: true), .karcher(), .modelStock,
            .breadcrumbs(weights: weights, density: 0.5),
        ] {
            let empty = try Self.inputs([[], [], []], shape: [0, 3])
            #expect(try MergedCheckpoint(empty, operation: "test") { _ in method }.floats("x").isEmpty, "\(method)")
            let scalars = try Self.inputs([[2], [2], [2]], shape: [])
            Self.expect(try MergedCheckpoint(scalars, operation: "test") { _ in method }.floats("x"), [2])
        }
    }

    /// A first value that is not a number is not a value to beat.
    @Test func aGreedySoupGetsOverAValueThatIsNone() throws {
        let inputs = try Self.inputs([[.nan], [1], [3]])
        let values: [Double] = [.nan, 0.5, 0.75]
        var calls = 0
        let soup = try GreedySoup(of: inputs) { _ in
            defer { calls += 1 }
            return values[calls]
        }
        #expect(soup.members == [0, 1] && soup.value == 0.5)
    }
}
