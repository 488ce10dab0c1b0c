import CairnTrain
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Prints tokens a second; run with CAIRN_THROUGHPUT set.
@Suite(.enabled(if: getenv("CAIRN_THROUGHPUT") != nil), .serialized) struct ThroughputTests {
    private static func processorSeconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }

    @Test(arguments: [(128, 4, 4, 30), (256, 6, 8, 8)])
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
        let before = Self.processorSeconds()
        for _ in 0..<steps {
            try times.append(ContinuousClock().measure { _ = try trainer.step() })
        }
        let median = times.sorted()[steps / 2] / .seconds(1)
        // Of all threads; unlike the time on the wall it bears other work on the machine.
        let processor = (Self.processorSeconds() - before) / Double(steps)
        print("width \(width), \(layers) layers: \(Int(16 * 128 / median)) tokens/s,", terminator: " ")
        print("\(median * 1e3) ms a step, \(processor * 1e3) ms of processor time")
    }
}
