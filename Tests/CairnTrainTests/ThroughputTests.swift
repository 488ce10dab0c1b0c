import CairnCommunication
import CairnLayout
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
        let model = Self.model(text, layers: layers, heads: heads, width: width)
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

    private static func model(
        _ text: TextDataset, layers: Int, heads: Int, width: Int
    ) -> TransformerConfiguration {
        var model = TransformerConfiguration(
            vocabularySize: text.tokenizer.vocabularySize, context: 128, layers: layers, heads: heads, width: width)
        model.positions = .learned
        model.norm = .layer
        return model
    }

    @Test(arguments: ["dp=1", "dp=2", "tp=2", "pp=2", "dp=2,tp=2"])
    func tokensASecondOfRanks(mesh: String) throws {
        let text = try TextDataset(text: Fixture.bytes("kjv.txt"), context: 128)
        let parallel = ParallelConfiguration(mesh: try DeviceMesh(parsing: mesh), zero: true)
        let before = Self.processorSeconds()
        let steps = 20
        let medians = try ThreadCommunicator.run(ranks: parallel.mesh.rankCount) { communicator in
            let trainer = try ParallelTrainer(
                transformer: Self.model(text, layers: 4, heads: 4, width: 128), text: text, optimizer: .adamW(),
                schedule: LearningRateSchedule(peak: 1e-3), parallel: parallel, communicator: communicator)
            var times: [Duration] = []
            for _ in 0..<steps {
                try times.append(ContinuousClock().measure { _ = try trainer.step() })
            }
            return times.sorted()[steps / 2] / .seconds(1)
        }
        let processor = (Self.processorSeconds() - before) / Double(steps)
        print("\(mesh): \(Int(16 * 128 / medians[0])) tokens/s, \(processor * 1e3) ms of processor time a step")
    }
}
