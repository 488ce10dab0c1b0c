import CairnBase
import CairnCheckpoint
import CairnLayout
import CairnReshard
import CairnStorage
import CairnTensor
import Testing

/// What cannot be loaded or written under a layout, and what the error names.
@Suite struct RefusedReshardTests {
    private let store = CheckpointStore(storage: MemoryStorage(), name: "run")

    private func reader() throws -> CairnReader {
        var state = TrainingState()
        state.set(try Tensor(zeros: .f32, [4, 4]), for: "w")
        try store.save(state, step: 1)
        return try store.open(step: 1)
    }

    private func placed(
        _ regions: [[Region]], name: String = "w", shape: Shape = [4, 4]
    ) throws -> PlacedTensor {
        let mesh = try DeviceMesh(["rank": regions.count])
        return PlacedTensor(name: name, scalarType: .f32, shape: shape, layout: try Layout(mesh, explicit: regions))
    }

    private func error(_ body: () throws -> Void) -> CairnError? {
        do {
            try body()
            return nil
        } catch { return error as? CairnError }
    }

    private func rows(_ range: Range<Int>) throws -> Region {
        try Region(offsets: [range.lowerBound, 0], shape: [range.count, 4])
    }

    @Test func shardsThatOverlapOrLeaveAHoleAreNotWritten() throws {
        let reader = try reader()
        let overlapping = try placed([[rows(0..<3)], [rows(2..<4)]])
        let overlap = error { _ = try Resharder(reading: reader, tensors: [overlapping]) }
        #expect(overlap?.context.tensor == "w", "\(String(describing: overlap))")
        let missing = try placed([[rows(0..<1)], [rows(2..<4)]])
        let hole = error { _ = try Resharder(reading: reader, tensors: [missing]) }
        #expect(hole?.code == .incomplete && hole?.context.tensor == "w", "\(String(describing: hole))")
    }

    @Test func aRankThatTheMeshLacksIsNamed() throws {
        let reader = try reader()
        let tensor = try placed([[rows(0..<4)], []])
        let failure = error { _ = try ReadPlan(reading: reader, rank: 2, tensors: [tensor]) }
        #expect(failure?.context.rank == 2 && failure?.context.tensor == "w")
        #expect(failure?.context.expected == "0..<2")
    }

    @Test func meshesOfDifferentSizesAreRefused() throws {
        let reader = try reader()
        let two = try placed([[rows(0..<4)], []])
        let three = try placed([[], [], []], name: "v", shape: [0, 4])
        let failure = error { _ = try Resharder(reading: reader, tensors: [two, three]) }
        #expect(failure?.code == .invalidArgument && failure?.context.tensor == "w", "\(String(describing: failure))")
    }

    @Test func aTensorThatTheCheckpointLacksOrHasInAnotherShapeIsNamed() throws {
        let reader = try reader()
        let missing = try placed([[rows(0..<4)]], name: "v")
        let absent = error { _ = try ReadPlan(reading: reader, rank: 0, tensors: [missing]) }
        #expect(absent?.code == .notFound && absent?.context.tensor == "v" && absent?.context.file == "run@1")
        let wide = try placed([[Region(whole: [4, 5])]], shape: [4, 5])
        let wrong = error { _ = try ReadPlan(reading: reader, rank: 0, tensors: [wide]) }
        #expect(wrong?.code == .mismatch && wrong?.context.tensor == "w")
        #expect(wrong?.context.expected == "[4, 5]" && wrong?.context.found == "[4, 4]")
    }
}
