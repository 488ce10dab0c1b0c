import Cairn
import CairnSnapshot
import CairnTesting
import CairnTrainCommands
import Testing

/// When a run saves.
@Suite struct SaveTimingTests {
    private static func timelines(stall: Double, total: Double) -> [SnapshotTimeline] {
        (1...3).map { step in
            var timeline = SnapshotTimeline()
            timeline.step = step
            timeline.retain = stall
            timeline.total = total
            return timeline
        }
    }

    @Test func aNumberOfStepsIsKeptWhateverASaveCosts() {
        var timing = SaveTiming(.steps(7), from: 3, to: 25)
        let told = timing.follow(Self.timelines(stall: 1, total: 1), slowdown: 0, timeToRestart: 1, stepTime: 1)
        #expect(told == nil)
        #expect((4...25).filter { timing.isDue(after: $0) } == [7, 14, 21, 25])
    }

    /// √(2 · 0.5 s · 10,000 s) is 100 s, which Daly's estimate is close to; a step takes 2 s.
    @Test func theAdvisedIntervalCountsFromTheLastSave() throws {
        var timing = SaveTiming(.advised(meanTimeBetweenFailures: 10_000), from: 100, to: 1000)
        let first = SaveTiming.firstInterval
        #expect((101...100 + first).filter { timing.isDue(after: $0) } == [100 + first])
        timing.noteSave(of: 100 + first)
        let told = timing.follow(Self.timelines(stall: 0.5, total: 3), slowdown: 0, timeToRestart: 10, stepTime: 2)
        let advice = try #require(told)
        #expect((49...51).contains(advice.steps))
        #expect(!timing.isDue(after: 100 + first + advice.steps - 1))
        #expect(timing.isDue(after: 100 + first + advice.steps))
        // Steps that a snapshot slows down are part of what it costs.
        let toldAgain = timing.follow(
            Self.timelines(stall: 0.5, total: 3), slowdown: 1.5, timeToRestart: 10, stepTime: 2)
        let other = try #require(toldAgain)
        #expect((98...102).contains(other.steps))
    }

    @Test func aSmallChangeOfTheAdviceIsFollowedSilently() {
        var timing = SaveTiming(.advised(meanTimeBetweenFailures: 10_000), from: 0, to: 1000)
        let first = timing.follow(Self.timelines(stall: 0.5, total: 3), slowdown: 0, timeToRestart: 1, stepTime: 2)
        let second = timing.follow(Self.timelines(stall: 0.6, total: 3), slowdown: 0, timeToRestart: 1, stepTime: 2)
        #expect(first != nil)
        #expect(second == nil)
        #expect((54...56).contains(timing.advice?.steps ?? 0))
    }

    @Test(arguments: [[], ["--mesh", "dp=2", "--zero"]])
    func aRunFollowsTheAdvisor(layout: [String]) throws {
        let folder = try TemporaryDirectory()
        let arguments = [
            "run", "--steps", "1000000", "--width", "16", "--batch", "4", "--context", "16", "--layers", "1", "--heads", "2",
            "--text", Repository.fixture("data/kjv.txt"), "--keep-last", "100", "--out", folder.path,
            "--save-every", "auto", "--mtbf", "1s",
        ]
        let store = CheckpointStore(path: folder.path)
        let child = try Child(arguments + layout)
        // The first save tells what saves cost; with a failure a second, the next ones come as soon as that allows.
        try waitUntil("a third checkpoint, or the end of the process") { try child.hasEnded || store.steps().count > 2 }
        #expect(child.terminate())
        #expect(child.wait() == 0)
        #expect(try store.steps().first == SaveTiming.firstInterval)
    }
}
