import CairnTrain
import Testing

@Suite struct ScheduleTests {
    @Test func warmUpRisesInAStraightLineFromTheFirstStep() {
        let schedule = LearningRateSchedule(peak: 2, warmupSteps: 4)
        #expect((0..<6).map { schedule.rate(step: $0) } == [0.5, 1, 1.5, 2, 2, 2])
    }

    @Test func theCosineEndsAtTheFloorAndStaysThere() {
        let schedule = LearningRateSchedule(peak: 1, warmupSteps: 10, floor: 0.1, shape: .cosine(steps: 110))
        #expect(schedule.rate(step: 10) == 1)
        #expect(abs(schedule.rate(step: 60) - 0.55) < 1e-12)
        #expect(abs(schedule.rate(step: 110) - 0.1) < 1e-12)
        #expect(abs(schedule.rate(step: 1000) - 0.1) < 1e-12)
    }

    @Test(arguments: [(LearningRateSchedule.Decay.linear, 0.55), (.inverse, 1 / 5.5)])
    func warmupStableDecayHoldsThePeakAndFallsToTheFloor(decay: LearningRateSchedule.Decay, half: Double) {
        let schedule = LearningRateSchedule(
            peak: 1, warmupSteps: 5, floor: 0.1,
            shape: .warmupStableDecay(stableUntil: 50, decaySteps: 20, decay: decay))
        #expect(schedule.rate(step: 5) == 1)
        #expect(schedule.rate(step: 50) == 1)
        #expect(abs(schedule.rate(step: 60) - half) < 1e-12)
        #expect(abs(schedule.rate(step: 70) - 0.1) < 1e-12)
        #expect(abs(schedule.rate(step: 90) - 0.1) < 1e-12)
    }
}
