import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnMerge
import CairnTensor
import CairnTesting
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Each method beside its formula, written out naively.
@Suite struct MergeMethods {
    /// Inputs with tensors of many shapes, one larger than a chunk.
    struct Sample {
        let inputs: [MergeInput]
        let names: [String]
        let seed: UInt64

        init(seed: UInt64, count: Int, type: ScalarType = .f32) throws {
            self.seed = seed
            var random = RandomTensors(seed: seed)
            let shapes = [Shape([17, 1000])] + (0..<6).map { _ in random.shape() }
            var inputs: [MergeInput] = []
            for index in 0..<count {
                var checkpoint = MemoryCheckpoint("input \(index)", isMapped: true)
                for (number, shape) in shapes.enumerated() {
                    checkpoint.add("tensor.\(number)", try random.tensor(shape, type))
                }
                inputs.append(MergeInput(checkpoint))
            }
            self.inputs = inputs
            names = shapes.indices.map { "tensor.\($0)" }
        }

        func merged(_ method: MergeMethod, _ options: MergeOptions = Self.smallChunks) throws -> MergedCheckpoint {
            try MergedCheckpoint(inputs, operation: "test", options: options) { _ in method }
        }

        static var smallChunks: MergeOptions {
            var options = MergeOptions()
            options.chunkByteCount = 32 << 10
            return options
        }

        func elements(_ name: String) throws -> [[Double]] { try inputs.map { try $0.reader.doubles(name) } }

        /// The largest difference from a formula, relative to the largest magnitude.
        func deviation(_ method: MergeMethod, _ formula: ([[Double]]) -> [Double]) throws -> Double {
            let merged = try merged(method)
            var worst = 0.0
            for name in names {
                let expected = formula(try elements(name)), found = try merged.doubles(name)
                let scale = max(1, expected.map(abs).max() ?? 1)
                for (one, other) in zip(expected, found) {
                    worst = max(worst, (one - other).magnitude.isNaN ? .infinity : abs(one - other) / scale)
                }
                #expect(found.count == expected.count)
            }
            return worst
        }
    }

    @Test(arguments: 1...4 as ClosedRange<UInt64>) func linear(seed: UInt64) throws {
        let sample = try Sample(seed: seed, count: 3)
        let weights = [0.5, 2, -0.25]
        let deviation = try sample.deviation(.linear(weights: weights)) { inputs in
            inputs[0].indices.map { i in (0..<3).reduce(0) { $0 + weights[$1] * inputs[$1][i] } / 2.25 }
        }
        #expect(deviation < 1e-6, "seed \(seed)")
        let plain = try sample.deviation(.linear(weights: weights, normalizes: false)) { inputs in
            inputs[0].indices.map { i in (0..<3).reduce(0) { $0 + weights[$1] * inputs[$1][i] } }
        }
        #expect(plain < 1e-6, "seed \(seed)")
    }

    private static func dot(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }
    private static func norm(_ a: [Double]) -> Double { dot(a, a).squareRoot() }

    @Test(arguments: [0, 0.3, 1, 1.5]) func slerpFollowsTheArc(t: Double) throws {
        let sample = try Sample(seed: 5, count: 2)
        let deviation = try sample.deviation(.slerp(t: t)) { inputs in
            let (a, b) = (inputs[0], inputs[1])
            let (na, nb) = (Self.norm(a) > 1e-8 ? Self.norm(a) : 1, Self.norm(b) > 1e-8 ? Self.norm(b) : 1)
            let cosine = Self.dot(a, b) / na / nb
            if abs(cosine) > 0.9995 { return zip(a, b).map { (1 - t) * $0 + t * $1 } }
            let angle = acos(cosine)
            let (p, q) = (
                sin((1 - t) * angle) / sin(angle),
                sin(t * angle) / sin(angle)
            )
            return zip(a, b).map { p * $0 + q * $1 }
        }
        #expect(deviation < 1e-6)
    }

    @Test func slerpOfParallelTensorsIsStraight() throws {
        var first = MemoryCheckpoint("a", isMapped: true), second = MemoryCheckpoint("b", isMapped: true)
        first.add("x", try Tensor([1, 2, 3] as [Float], [3]))
        second.add("x", try Tensor([2, 4, 6] as [Float], [3]))
        let merged = try MergedCheckpoint([MergeInput(first), MergeInput(second)], operation: "slerp") { _ in .slerp(t: 0.5) }
        #expect(try merged.floats("x") == [1.5, 3, 4.5])
        #expect(try merged.coefficients(of: "x") == [0.5, 0.5])
    }

    @Test(arguments: [false, true]) func multiSlerpIsTheMeanInTheTangentSpace(hasBase: Bool) throws {
        let sample = try Sample(seed: 6, count: 4)
        let weights = hasBase ? [0.2, 0.5, 0.3] : [0.2, 0.5, 0.3, 0.7]
        let deviation = try sample.deviation(.multiSlerp(weights: weights, hasBase: hasBase)) { inputs in
            let base = hasBase ? inputs[0] : inputs[0].map { _ in 0 }
            let vectors = (hasBase ? Array(inputs[1...]) : inputs).map { zip($0, base).map { $0 - $1 } }
            let sum = weights.reduce(0, +), shares = weights.map { $0 / sum }
            let units = vectors.map { v in v.map { $0 / (Self.norm(v) + 1e-8) } }
            func combine(_ vectors: [[Double]]) -> [Double] {
                base.indices.map { i in zip(shares, vectors).reduce(0) { $0 + $1.0 * $1.1[i] } }
            }
            let straight = combine(units)
            let mean = straight.map { $0 / Self.norm(straight) }
            let tangent = combine(
                units.map { u in
                    let d = Self.dot(u, mean)
                    return zip(u, mean).map { $0 - d * $1 }
                })
            let angle = Self.norm(tangent) + 1e-8
            let radius = zip(shares, vectors).reduce(0) { $0 + $1.0 * Self.norm($1.1) }
            return base.indices.map { i in
                base[i] + radius * (mean[i] * cos(angle) + tangent[i] * sin(angle) / angle)
            }
        }
        #expect(deviation < 1e-5)
    }

    @Test func karcherMeanHasNoTangentLeft() throws {
        let sample = try Sample(seed: 7, count: 3)
        let merged = try sample.merged(.karcher(iterationLimit: 100, tolerance: 1e-9))
        for name in sample.names.prefix(1) {
            let mean = try merged.doubles(name), length = Self.norm(mean)
            let unit = mean.map { $0 / length }
            var tangent = unit.map { _ in 0.0 }
            for input in try sample.elements(name) {
                let other = input.map { $0 / Self.norm(input) }
                let angle = acos(Self.dot(unit, other))
                for i in unit.indices {
                    tangent[i] += angle / sin(angle) * (other[i] - cos(angle) * unit[i])
                }
            }
            #expect(Self.norm(tangent) < 1e-5)
        }
    }

    @Test func modelStockGoesAsFarAsTheAnglesSay() throws {
        let sample = try Sample(seed: 8, count: 4)
        let deviation = try sample.deviation(.modelStock) { inputs in
            let base = inputs[0]
            let vectors = inputs[1...].map { zip($0, base).map { $0 - $1 } }
            var cosines: [Double] = []
            for i in 0..<3 {
                for j in 0..<i {
                    let product = max(Self.norm(vectors[i]) * Self.norm(vectors[j]), 1e-6)
                    cosines.append(min(1, max(-1, Self.dot(vectors[i], vectors[j]) / product)))
                }
            }
            let cosine = cosines.reduce(0, +) / 3
            let ratio = abs(1 + 2 * cosine) < 1e-6 ? 0 : 3 * cosine / (1 + 2 * cosine)
            return base.indices.map { i in
                ratio * (inputs[1][i] + inputs[2][i] + inputs[3][i]) / 3 + (1 - ratio) * base[i]
            }
        }
        #expect(deviation < 1e-4)
    }

    @Test func taskArithmetic() throws {
        let sample = try Sample(seed: 9, count: 3)
        let deviation = try sample.deviation(.taskArithmetic(weights: [0.3, 0.8], lambda: 0.5)) { inputs in
            inputs[0].indices.map { i in
                inputs[0][i] + 0.5 * (0.3 * (inputs[1][i] - inputs[0][i]) + 0.8 * (inputs[2][i] - inputs[0][i]))
            }
        }
        #expect(deviation < 1e-6)
    }

    /// The trimmed task vectors of single precision: as mergekit and as the issue of exact ties has them.
    private static func trimmed(
        _ vector: [Float], _ keeps: (_ ascendingRank: Int, _ descendingRank: Int) -> Bool
    ) -> [Float] {
        let ascending = vector.indices.sorted { (vector[$0].magnitude, $0) < (vector[$1].magnitude, $1) }
        let descending = vector.indices.sorted { (-vector[$0].magnitude, $0) < (-vector[$1].magnitude, $1) }
        var ranks = vector.map { _ in (0, 0) }
        for (rank, index) in ascending.enumerated() { ranks[index].0 = rank }
        for (rank, index) in descending.enumerated() { ranks[index].1 = rank }
        return vector.indices.map { keeps(ranks[$0].0, ranks[$0].1) ? vector[$0] : 0 }
    }

    /// In single precision, in the order of operations that the kernel has.
    private static func ties(
        _ inputs: [[Float]], _ weights: [Float], _ vectors: [[Float]], lambda: Float, normalizes: Bool
    ) -> [Float] {
        inputs[0].indices.map { i in
            let weighted = zip(vectors, weights).map { $0[i] * $1 }
            let isPositive = weighted.reduce(0, +) >= 0
            var (sum, divisor) = (Float(0), Float(0))
            for (value, weight) in zip(weighted, weights) where isPositive ? value > 0 : value < 0 {
                sum += value
                divisor += weight
            }
            if normalizes { sum /= divisor == 0 ? 1 : divisor }
            return inputs[0][i] + (lambda == 1 ? sum : sum * lambda)
        }
    }

    /// With as many vectors as are counted side by side, and with more.
    @Test(
        arguments: [(0.2, 1, 3), (0.5, 0.7, 8), (0.0, 1, 3), (1, 1, 3), (0.00001, 1, 3), (0.3, 1, 19)] as [(Double, Double, Int)],
        [ScalarType.f32, .bf16])
    func tiesKeepsExactlyTheLargest(parameters: (density: Double, lambda: Double, vectorCount: Int), type: ScalarType) throws {
        let seed: UInt64 = 30
        let sample = try Sample(seed: seed, count: 1 + parameters.vectorCount, type: type)
        var options = Sample.smallChunks
        options.outputType = .f32
        let weights = (0..<parameters.vectorCount).map { [1, 0.5, 0.25][$0 % 3] }
        let merged = try sample.merged(.ties(weights: weights, density: parameters.density, lambda: parameters.lambda), options)
        for name in sample.names {
            let inputs = try sample.elements(name).map { $0.map { Float($0) } }
            let kept = max(1, Int(parameters.density * Double(inputs[0].count)))
            let vectors = inputs[1...].map { input -> [Float] in
                let vector = zip(input, inputs[0]).map { $0 - $1 }
                if parameters.density >= 1 { return vector }
                return Self.trimmed(vector) { parameters.density > 0 && $1 < kept }
            }
            let expected = Self.ties(
                inputs, weights.map { Float($0) }, vectors, lambda: Float(parameters.lambda), normalizes: true)
            #expect(try merged.floats(name).elementsEqual(expected), "seed \(seed), \(name)")
        }
    }

    @Test(arguments: [(0.9, 0.01), (0.5, 0.2), (0.3, 0.9), (0.0, 0.1), (0.99, 0.5)] as [(Double, Double)], [2, 7])
    func breadcrumbsLeavesBothEndsOut(parameters: (density: Double, outliers: Double), vectorCount: Int) throws {
        let (density, outliers) = parameters
        let sample = try Sample(seed: 31, count: 1 + vectorCount, type: .bf16)
        let weights = [Double](repeating: 1, count: vectorCount)
        var options = Sample.smallChunks
        options.outputType = .f32
        let method = MergeMethod.breadcrumbs(
            weights: weights, density: density, outliers: outliers, takesMajority: true)
        let merged = try sample.merged(method, options)
        for name in sample.names {
            let inputs = try sample.elements(name).map { $0.map { Float($0) } }
            let count = inputs[0].count
            let kept = Int(density * Double(count)), below = max(0, count - kept - Int(outliers * Double(count)))
            let vectors = inputs[1...].map { input in
                Self.trimmed(zip(input, inputs[0]).map { $0 - $1 }) { rank, _ in rank >= below && rank < below + kept }
            }
            let expected = Self.ties(inputs, weights.map { Float($0) }, vectors, lambda: 1, normalizes: false)
            #expect(try merged.floats(name).elementsEqual(expected), "\(name)")
        }
    }

    @Test(arguments: [TaskVectorMethod.Rescaling.sumOfMagnitudes, .inverseDensity, .none], [false, true])
    func dareKeepsARandomPartAndItsSum(rescaling: TaskVectorMethod.Rescaling, majority: Bool) throws {
        let sample = try Sample(seed: 32, count: 2)
        let merged = try sample.merged(
            .dare(weights: [1], density: 0.3, rescaling: rescaling, takesMajority: majority))
        let name = "tensor.0"
        let inputs = try sample.elements(name)
        let vector = zip(inputs[1], inputs[0]).map { $0 - $1 }
        let found = zip(try merged.doubles(name), inputs[0]).map { $0 - $1 }
        let kept = zip(found, vector).filter { abs($0.0) > 1e-9 }
        let part = Double(kept.count) / Double(vector.count { $0 != 0 })
        #expect(abs(part - 0.3) < 0.01)
        let ratios = kept.filter { abs($0.1) > 0.1 }.map { $0.0 / $0.1 }
        switch rescaling {
        case .none: #expect(ratios.allSatisfy { abs($0 - 1) < 1e-4 })
        case .inverseDensity: #expect(ratios.allSatisfy { abs($0 - 1 / 0.3) < 1e-4 })
        case .sumOfMagnitudes:
            let sums = (found.reduce(0) { $0 + abs($1) }, vector.reduce(0) { $0 + abs($1) })
            #expect(abs(sums.0 / sums.1 - 1) < 1e-4)
        }
    }

    @Test func dareDependsOnNamesAndSeedAlone() throws {
        let sample = try Sample(seed: 33, count: 3)
        func result(_ change: (inout MergeOptions) -> Void, _ inputs: [MergeInput]) throws -> [[Float]] {
            var options = Sample.smallChunks
            change(&options)
            let merged = try MergedCheckpoint(inputs, operation: "dare", options: options) { _ in
                .dare(weights: [0.5, 0.5], density: 0.5, takesMajority: true)
            }
            return try sample.names.reversed().map { try merged.floats($0) }
        }
        let plain = try result({ _ in }, sample.inputs)
        #expect(try result({ $0.concurrency = 1 }, sample.inputs) == plain)
        #expect(try result({ $0.mapped = true }, sample.inputs) == plain)
        // Other tensors beside them change nothing.
        var fewer: [MergeInput] = []
        for input in sample.inputs { fewer.append(MergeInput(try SelectedReader(input.reader, include: ["tensor.0"]))) }
        let one = try MergedCheckpoint(fewer, operation: "dare", options: Sample.smallChunks) { _ in
            .dare(weights: [0.5, 0.5], density: 0.5, takesMajority: true)
        }
        #expect(try one.floats("tensor.0") == plain[plain.count - 1])
        #expect(try result({ $0.seed = 1 }, sample.inputs) != plain)
    }

    @Test func lowRankUpdatesAreAdded() throws {
        var random = RandomTensors(seed: 40)
        var base = MemoryCheckpoint("base", isMapped: true), adapter = MemoryCheckpoint("adapter", isMapped: true)
        base.add("w", try random.tensor([30, 20]))
        base.add("t", try random.tensor([20, 30]))
        base.add("other", try random.tensor([5], .bf16))
        adapter.add("a", try random.tensor([4, 20]))
        adapter.add("b", try random.tensor([30, 4]))
        func update(_ isTransposed: Bool) -> LowRankUpdate {
            LowRankUpdate(
                down: .init(input: 1, name: "a"), up: .init(input: 1, name: "b"), scale: 0.5, isTransposed: isTransposed)
        }
        let recipes = [
            TensorRecipe(name: "w", operands: [.init(input: 0, name: "w")], method: .updates, updates: [.product(update(false))]),
            TensorRecipe(name: "t", operands: [.init(input: 0, name: "t")], method: .updates, updates: [.product(update(true))]),
            TensorRecipe(name: "other", operands: [.init(input: 0, name: "other")], method: .passthrough()),
        ]
        let merged = try MergedCheckpoint(
            [MergeInput(base), MergeInput(adapter)], recipes: recipes, lineage: Lineage(operation: "lora"))
        let (a, b) = (try adapter.doubles("a"), try adapter.doubles("b"))
        for (name, rows, columns) in [("w", 30, 20), ("t", 20, 30)] {
            let old = try base.doubles(name), new = try merged.doubles(name)
            for row in 0..<rows {
                for column in 0..<columns {
                    let (output, input) = name == "w" ? (row, column) : (column, row)
                    let product = (0..<4).reduce(0) { $0 + b[output * 4 + $1] * a[$1 * 20 + input] }
                    #expect(abs(new[row * columns + column] - old[row * columns + column] - 0.5 * product) < 1e-4)
                }
            }
        }
        #expect(try merged.tensor("other") == base.tensor("other"))
    }
}
