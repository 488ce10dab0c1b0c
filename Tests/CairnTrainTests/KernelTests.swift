import CTrainKernels
import CairnTrain
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

@Suite struct KernelTests {
    @Test func exponentialsAreWithinTwoUnitsInTheLastPlace() {
        let x = (0..<200_000).map { Float($0) / 200_000 * 174 - 87 }
        var y = [Float](repeating: 0, count: x.count)
        cairn_exp(x.count, x, &y)
        let worst = zip(x, y).map { abs(Double($1) / exp(Double($0)) - 1) }.max() ?? 1
        #expect(worst < 2.4e-7)
    }

    @Test func causalSoftmaxRowsAddUpToOneAndSeeNothingAhead() {
        var random = PhiloxGenerator(key: 1)
        var scores = (0..<40 * 100).map { _ in Float(random.normal()) * 20 }
        let original = scores
        cairn_causal_softmax(40, 100, 100, 60, 0.3, &scores)
        for row in 0..<40 {
            let seen = 61 + row
            let exact = original[row * 100..<row * 100 + seen].map { exp(Double($0) * 0.3) }
            let sum = exact.reduce(0, +)
            for column in 0..<100 {
                let expected = column < seen ? exact[column] / sum : 0
                #expect(abs(Double(scores[row * 100 + column]) - expected) < 2e-6)
            }
        }
    }

    @Test func crossEntropyOfLargeLogitsIsFinite() {
        var logits: [Float] = [1000, 0, -1000, 1000, 0, -1000]
        var correct: Int64 = 0
        let loss = cairn_cross_entropy(2, 3, [0, 2], 1, &logits, &correct)
        #expect(correct == 1)
        #expect(abs(loss - 2000) < 1e-3)
        #expect(logits.allSatisfy { $0.isFinite })
    }
}
