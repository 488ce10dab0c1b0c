import CairnTrain
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Prints tokens a second; run with CAIRN_THROUGHPUT set.
@Suite(.enabled(if: getenv("CAIRN_THROUGHPUT") != nil), .serialized) struct ThroughputTests {
    @Test(arguments: [(128, 4, 4, 60), (256, 6, 8, 15)])
    func tokensASecond(width: Int, layers: Int, heads: Int, steps: Int) throws {
        let text = try TextDataset(text: Fixture.bytes("kjv.txt"), context: 128)
        var model = TransformerConfiguration(
            vocabularySize: text.tokenizer.vocabularySize, context: 128, layers: layers, heads: heads, width: width)
        model.positions = .learned
        model.norm = .layer
        let trainer = try Trainer(
            transformer: model, text: text, optimizer: .adamW(), schedule: LearningRateSchedule(peak: 1e-3))
        try trainer.train(steps: 5)
        var times: [Duration] = []
        for _ in 0..<steps {
            try times.append(ContinuousClock().measure { _ = try trainer.step() })
        }
        let median = times.sorted()[steps / 2] / .seconds(1)
        print("cairn d=\(width) l=\(layers): \(median * 1e3) ms/step, \(Int(16 * 128 / median)) tokens/s")
    }
}
