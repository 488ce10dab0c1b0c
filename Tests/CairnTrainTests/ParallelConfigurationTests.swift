import CairnBase
import CairnCommunication
import CairnTrain
import Testing

@Suite struct ParallelConfigurationTests {
    @Test(arguments: PipelineSchedule.allCases)
    func everyMicroBatchGoesForwardThenBackward(_ schedule: PipelineSchedule) {
        for stageCount in 1...5 {
            for stage in 0..<stageCount {
                for microBatches in 1...7 {
                    let passes = schedule.passes(stage: stage, of: stageCount, microBatches: microBatches)
                    let slots = schedule.slotCount(stage: stage, of: stageCount, microBatches: microBatches)
                    #expect(passes.filter { !$0.isBackward }.map(\.microBatch) == Array(0..<microBatches))
                    #expect(passes.filter(\.isBackward).map(\.microBatch) == Array(0..<microBatches))
                    var underWay: Set<Int> = []
                    for pass in passes {
                        if pass.isBackward {
                            #expect(underWay.remove(pass.microBatch) != nil)
                        } else {
                            // Its buffers are free.
                            #expect(!underWay.contains { $0 % slots == pass.microBatch % slots })
                            underWay.insert(pass.microBatch)
                        }
                    }
                }
            }
        }
    }

    @Test(
        arguments: [
            ("sp=2", nil, "sp"), ("tp=5", nil, "sharded"), ("pp=5", nil, "stages"), ("pp=2", [4, 0], "stages"),
            ("pp=2", [2, 3], "stages"), ("ep=2", nil, "experts"),
        ] as [(String, [Int]?, String)])
    func whatCannotBeShardedIsRefused(mesh: String, stageLayers: [Int]?, word: String) throws {
        let run = ParallelCase(mesh: mesh, stageLayers: stageLayers)
        let error = #expect(throws: CairnError.self) { try run.run { $0.stepCount } }
        #expect(error?.code == .invalidArgument)
        #expect(error?.message.contains(word) == true, "\(String(describing: error))")
    }

    @Test func aMeshOfAnotherSizeThanTheGroupIsRefused() throws {
        let error = #expect(throws: CairnError.self) {
            try ThreadCommunicator.run(ranks: 2) { try ParallelCase(mesh: "dp=3").makeTrainer($0).stepCount }
        }
        #expect(error?.code == .invalidArgument)
    }

    @Test func balancedPartsCoverTheRangeAndDifferByOne() {
        #expect((0..<3).map { TransformerPart.balanced(4, part: $0, of: 3) } == [0..<2, 2..<3, 3..<4])
        for count in 0..<20 {
            for parts in 1..<7 {
                let ranges = (0..<parts).map { TransformerPart.balanced(count, part: $0, of: parts) }
                #expect(ranges.flatMap(\.self) == Array(0..<count))
                #expect(ranges.map(\.count) == ranges.map(\.count).sorted(by: >))
                #expect((ranges.first?.count ?? 0) - (ranges.last?.count ?? 0) <= 1)
            }
        }
    }
}
