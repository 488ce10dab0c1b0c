import CTrainKernels
import CairnTensor
import CairnTrain
import Testing

/// Each update against the published formula in double precision.
@Suite struct OptimizerTests {
    private static let count = 1003
    private static func numbers(_ key: UInt64, positive: Bool = false) -> [Float] {
        var random = PhiloxGenerator(key: key)
        return (0..<count).map { _ in positive ? Float(random.uniform()) : Float(random.normal()) }
    }

    @Test(arguments: [true, false])
    func adamWFollowsItsFormulaInPlaceAndOutOfPlace(inPlace: Bool) {
        let weight = Self.numbers(1), gradient = Self.numbers(2), first = Self.numbers(3)
        let second = Self.numbers(4, positive: true)
        let step = cairn_adamw_step(
            gradient_scale: 0.5, learning_rate: 0.01, weight_decay: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-8,
            correction1: 0.271, correction2_root: 0.1723)
        var w = weight, m = first, v = second
        if inPlace {
            w.withUnsafeMutableBufferPointer { w in
                m.withUnsafeMutableBufferPointer { m in
                    v.withUnsafeMutableBufferPointer { v in
                        cairn_adamw(
                            Self.count, step, gradient, w.baseAddress, w.baseAddress, m.baseAddress, m.baseAddress,
                            v.baseAddress, v.baseAddress)
                    }
                }
            }
        } else {
            cairn_adamw(Self.count, step, gradient, weight, &w, first, &m, second, &v)
        }
        for index in 0..<Self.count {
            let g = Double(gradient[index]) * 0.5
            let m1 = 0.9 * Double(first[index]) + 0.1 * g
            let v1 = 0.99 * Double(second[index]) + 0.01 * g * g
            let expected =
                Double(weight[index]) * (1 - 0.001) - 0.01 / 0.271 * m1 / (v1.squareRoot() / 0.1723 + 1e-8)
            #expect(abs(Double(w[index]) - expected) < 1e-6 * (1 + abs(expected)))
            #expect(abs(Double(m[index]) - m1) < 1e-6)
            #expect(abs(Double(v[index]) - v1) < 1e-6)
        }
    }

    @Test(arguments: [true, false])
    func gradientDescentFollowsItsFormula(nesterov: Bool) {
        let weight = Self.numbers(1), gradient = Self.numbers(2), momentum = Self.numbers(3)
        var w = weight, m = momentum
        let step = cairn_sgd_step(
            gradient_scale: 2, learning_rate: 0.1, weight_decay: 0.01, momentum: 0.9, nesterov: nesterov ? 1 : 0)
        cairn_sgd(Self.count, step, gradient, weight, &w, momentum, &m)
        for index in 0..<Self.count {
            let g = 2 * Double(gradient[index]) + 0.01 * Double(weight[index])
            let m1 = 0.9 * Double(momentum[index]) + g
            let expected = Double(weight[index]) - 0.1 * (nesterov ? g + 0.9 * m1 : m1)
            #expect(abs(Double(w[index]) - expected) < 1e-5)
        }
    }

    /// Jordan's coefficients do not converge to 1 but stay around it.
    @Test(arguments: [(24, 40), (40, 24), (32, 32), (1, 7)])
    func orthogonalisedMatricesHaveSingularValuesNearOne(rows: Int, columns: Int) {
        var random = PhiloxGenerator(key: 6)
        let matrix = (0..<rows * columns).map { _ in Float(random.normal()) }
        let result = Orthogonalization.orthogonalize(matrix, rows: rows, columns: columns)
        // Through the shorter side every direction keeps its length up to those values.
        let small = min(rows, columns), large = max(rows, columns)
        for _ in 0..<10 {
            let direction = (0..<small).map { _ in random.normal() }
            let length = direction.reduce(0) { $0 + $1 * $1 }.squareRoot()
            var squares = 0.0
            for other in 0..<large {
                var sum = 0.0
                for index in 0..<small {
                    let element = rows <= columns ? result[index * columns + other] : result[other * columns + index]
                    sum += Double(element) * direction[index]
                }
                squares += sum * sum
            }
            let stretch = squares.squareRoot() / length
            #expect((0.4...1.3).contains(stretch), "\(stretch)")
        }
        // It turns the matrix as little as possible: the inner product with it is large.
        let inner = zip(matrix, result).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
        #expect(inner > 0)
    }

    @Test func muonSplitsFusedProjectionsAndLeavesTablesToAdamW() throws {
        let state = try TrainingCase(model: .tied, optimizer: .muon()).makeTrainer().state()
        let names = Set(state.tensors.map(\.name))
        #expect(names.contains("optimizer.momentum.model.layers.0.attention.qkv.weight"))
        #expect(names.contains("optimizer.exp_avg.model.embedding.weight"))
        #expect(names.contains("optimizer.exp_avg_sq.model.layers.1.attention_norm.weight"))
        #expect(!names.contains("optimizer.exp_avg.model.layers.0.attention.qkv.weight"))
    }

    @Test(arguments: TrainingCase.optimizers)
    func everyOptimizerLowersTheLoss(_ optimizer: OptimizerConfiguration) throws {
        let run = TrainingCase(
            model: .tied, optimizer: optimizer, schedule: LearningRateSchedule(peak: 0.02, warmupSteps: 5))
        let trainer = try run.makeTrainer()
        try trainer.train(steps: 60)
        let first = try #require(trainer.lossHistory.first)
        let last = trainer.lossHistory.suffix(5).reduce(0, +) / 5
        #expect(last < first - 0.5, "\(first) to \(last)")
    }

    @Test func roundedWeightsFollowTheirMasters() throws {
        let trainer = try TrainingCase(model: .transformer, precision: .bfloat16WithMaster).makeTrainer()
        try trainer.train(steps: 20)
        let tensors = trainer.state().tensorsByName
        for (name, weight) in trainer.parameters {
            let master = try #require(tensors["optimizer.master.\(name)"])
            #expect(weight.scalarType == .bf16)
            #expect(try master.converted(to: .bf16) == weight, "\(name)")
        }
        #expect(try #require(trainer.lossHistory.last) < trainer.lossHistory[0] - 0.3)
    }

    @Test func clippingBoundsTheUpdateAndReportsTheNormBefore() throws {
        var run = TrainingCase(model: .perceptron, optimizer: .sgd(momentum: 0))
        run.schedule = LearningRateSchedule(peak: 1)
        let trainer = try run.makeTrainer()
        let before = trainer.parameters
        let report = try trainer.step()
        var squares = 0.0
        for ((_, old), (_, new)) in zip(before, trainer.parameters) {
            for (first, second) in try zip(old.elements(as: Float.self), new.elements(as: Float.self)) {
                squares += Double(second - first) * Double(second - first)
            }
        }
        #expect(report.gradientNorm > 1)
        #expect(abs(squares.squareRoot() - 1) < 1e-3)
    }
}
