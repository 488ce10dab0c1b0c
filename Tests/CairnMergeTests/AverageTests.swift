import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnMerge
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

@Suite struct Averages {
    @Test func stepsAreThoseThatWereAskedFor() throws {
        let stored = [0, 100, 200, 300, 350, 400]
        #expect(try StoredAverage(last: 3).steps(of: stored) == [300, 350, 400])
        #expect(try StoredAverage(last: 3, spacing: 100).steps(of: stored) == [200, 300, 400])
        #expect(try StoredAverage(spacing: 200).steps(of: stored) == [0, 200, 400])
        #expect(try StoredAverage(start: 100, end: 350).steps(of: stored) == [100, 200, 300, 350])
        #expect(try StoredAverage(spacing: 100, start: 150).steps(of: stored) == [200, 300, 400])
        #expect(throws: CairnError.self) { try StoredAverage(last: 2, spacing: 25).steps(of: stored) }
        #expect(throws: CairnError.self) { try StoredAverage(last: 7).steps(of: stored) }
        #expect(throws: CairnError.self) { try StoredAverage(start: 500).steps(of: stored) }
        #expect(throws: CairnError.self) { try StoredAverage(last: 0).steps(of: stored) }
    }

    @Test func exponentialWeightsAreThoseOfAMovingAverage() throws {
        let weights = try StoredAverage(weighting: .exponential(decay: 0.9)).weights(count: 5)
        var average = 0.0
        for (index, value) in [3, 1, 4, 1, 5].enumerated() {
            average = index == 0 ? Double(value) : 0.9 * average + 0.1 * Double(value)
        }
        #expect(abs(zip(weights, [3, 1, 4, 1, 5]).reduce(0) { $0 + $1.0 * $1.1 } - average) < 1e-12)
        #expect(throws: CairnError.self) { try StoredAverage(weighting: .exponential(decay: 1.5)).weights(count: 2) }
    }

    private static func state(_ seed: UInt64, _ type: ScalarType) throws -> TrainingState {
        var random = RandomTensors(seed: seed)
        var state = TrainingState()
        for index in 0..<4 { state.set(try random.tensor([33, 70], type), for: "model.\(index)") }
        state.set(Tensor([1, 2, 3] as [Int64]), for: "counter")
        state.tie("model.tied", to: "model.0")
        state.set(.integer(Int64(seed)), for: "step")
        return state
    }

    /// Whatever the inputs are stored in, their average is the same.
    @Test func shardedAndCompressedInputsGiveTheSame() throws {
        let directory = try TemporaryDirectory()
        let plain = CheckpointStore(path: directory.path("plain"))
        let packed = CheckpointStore(path: directory.path("packed")), sharded = CheckpointStore(path: directory.path("sharded"))
        var files: [MergeInput] = []
        for step in 1...3 {
            let state = try Self.state(UInt64(step), .bf16)
            try plain.save(state, step: step)
            var options = SaveOptions()
            options.compression = .zstd(level: 1)
            options.chunkByteCount = 4096
            try packed.save(state, step: step, options: options)
            try Self.saveSharded(state, to: sharded, step: step)
            let path = directory.path("files-\(step)")
            _ = try copyCheckpoint(from: plain.open(step: step), to: SafeTensorsWriter(path: path, maximumShardByteCount: 9000))
            files.append(MergeInput(try SafeTensorsReader(path: path)))
        }
        let expected = try MergedCheckpoint(StoredAverage(), of: plain)
        #expect(expected.values == [NamedValue(name: "step", value: .integer(3))])
        let newest = directory.path("plain") + "@3"
        #expect(expected.notes.contains("the inputs have different values; those of \(newest) are taken: step"))
        for other in [
            try MergedCheckpoint(StoredAverage(), of: packed), try MergedCheckpoint(StoredAverage(), of: sharded),
            try MergedCheckpoint(averaging: files),
        ] {
            #expect(other.tensors == expected.tensors)
            for tensor in expected.tensors { #expect(try other.tensor(tensor.name) == expected.tensor(tensor.name)) }
        }
        // Rounded once from a sum in single precision: half a unit in the last place from the exact mean, and what that sum
        // itself rounds.
        let inputs = try (1...3).map { try plain.open(step: $0).doubles("model.1") }
        for (index, found) in try expected.doubles("model.1").enumerated() {
            let exact = (inputs[0][index] + inputs[1][index] + inputs[2][index]) / 3
            #expect(abs(found - exact) <= abs(exact) * 0x1.001p-8 + 1e-6)
        }
    }

    private static func saveSharded(_ state: TrainingState, to store: CheckpointStore, step: Int) throws {
        let session = try store.beginSave(step: step, rankCount: 2)
        try session.setGlobal(values: state.values, ties: state.ties)
        for rank in 0..<2 {
            var fragments: [TensorFragment] = []
            for (name, tensor) in state.tensors {
                let rows = tensor.shape[0], cut = rows / 2
                let range = rank == 0 ? 0..<cut : cut..<rows
                let shape = Shape([range.count] + tensor.shape.extents.dropFirst())
                let region = try Region(
                    offsets: [range.lowerBound] + tensor.shape.extents.dropFirst().map { _ in 0 }, shape: shape)
                var local = try Tensor(zeros: tensor.scalarType, shape)
                var bytes = local.mutableBytes
                try RegionCopy.copy(
                    tensor.scalarType, from: tensor.bytes, of: tensor.shape, region: region, into: &bytes, of: shape,
                    region: Region(whole: shape))
                fragments.append(try TensorFragment(name: name, globalShape: tensor.shape, region: region, tensor: local))
            }
            try session.write(rank: rank, fragments: fragments)
        }
        try session.commit()
    }

    @Test func tensorsWithoutAnAverageFollowThePolicy() throws {
        var first = MemoryCheckpoint("first", isMapped: true), second = MemoryCheckpoint("second", isMapped: true)
        first.add("n", Tensor([1, 2] as [Int64]))
        second.add("n", Tensor([1, 3] as [Int64]))
        first.add("c", try Tensor(zeros: .c64, [2]))
        second.add("c", try Tensor(zeros: .c64, [2]))
        let inputs = [MergeInput(first), MergeInput(second)]
        func merged(_ policy: MergeOptions.OtherTensors) throws -> MergedCheckpoint {
            var options = MergeOptions()
            options.otherTensors = policy
            return try MergedCheckpoint(averaging: inputs, options: options)
        }
        let error = #expect(throws: CairnError.self) { try merged(.equal).tensor("n") }
        #expect(error?.description.contains("\"n\"") == true && error?.code == .mismatch)
        #expect(try merged(.equal).tensor("c") == first.tensor("c"))
        #expect(try merged(.first).tensor("n") == first.tensor("n"))
        #expect(try merged(.last).tensor("n") == second.tensor("n"))
    }

    @Test func sumsAreAsPreciseAsAskedFor() throws {
        var inputs: [MergeInput] = []
        for value in [1e8, 1, -1e8] as [Double] {
            var checkpoint = MemoryCheckpoint("x", isMapped: true)
            checkpoint.add("x", Tensor([value]))
            inputs.append(MergeInput(try CastReader(checkpoint, to: .f32)))
        }
        var options = MergeOptions()
        options.outputType = .f64
        func sum() throws -> [Double] {
            try MergedCheckpoint(inputs, operation: "sum", options: options) { _ in
                .linear(weights: [1, 1, 1], normalizes: false)
            }.doubles("x")
        }
        #expect(try sum() == [0])
        options.accumulation = .double
        #expect(try sum() == [1])
    }

    /// Any region of a merge is the same part of the whole, for methods that count elements too.
    @Test func regionsArePartsOfTheWhole() throws {
        let seed: UInt64 = 70
        var random = RandomTensors(seed: seed)
        var inputs: [MergeInput] = []
        for index in 0..<3 {
            var checkpoint = MemoryCheckpoint("\(index)", isMapped: true)
            checkpoint.add("x", try random.tensor([9, 14, 6]))
            inputs.append(MergeInput(checkpoint))
        }
        for method in [
            MergeMethod.linear(weights: [1, 2, 3]), .ties(weights: [1, 1], density: 0.3),
            .dare(weights: [1, 1], density: 0.4), .slerp(t: 0.2),
        ] {
            let used = if case .slerp = method { Array(inputs[..<2]) } else { inputs }
            let merged = try MergedCheckpoint(used, operation: "test") { _ in method }
            let whole = try merged.tensor("x")
            for _ in 0..<10 {
                let extents = whole.shape.extents.map { Int.random(in: 1...$0, using: &random.generator) }
                let offsets = zip(whole.shape.extents, extents).map { Int.random(in: 0...$0 - $1, using: &random.generator) }
                let region = try Region(offsets: offsets, shape: Shape(extents))
                let part = try Tensor(.f32, region.shape) { try merged.read("x", region: region, into: &$0) }
                let expected = try Tensor(.f32, region.shape) { destination in
                    try RegionCopy.copy(
                        .f32, from: whole.bytes, of: whole.shape, region: region, into: &destination, of: region.shape,
                        region: Region(whole: region.shape))
                }
                #expect(part == expected, "seed \(seed), \(region)")
            }
        }
    }

    @Test func anInterruptionStopsAMergeAndLeavesNothing() throws {
        let directory = try TemporaryDirectory()
        var random = RandomTensors(seed: 71)
        var checkpoint = MemoryCheckpoint("x", isMapped: true)
        for index in 0..<5 { checkpoint.add("x\(index)", try random.tensor([100, 300])) }
        let calls = Monitor(0)
        var options = MergeOptions()
        options.interruption = {
            if calls.change({
                $0 += 1; return $0
            }) > 4 {
                throw CairnError(.cancelled, "as asked for")
            }
        }
        let input = MergeInput(checkpoint)
        let merged = try MergedCheckpoint([input, input], operation: "slerp", options: options) { _ in .slerp(t: 0.5) }
        let error = #expect(throws: CairnError.self) {
            try copyCheckpoint(from: merged, to: SafeTensorsWriter(path: directory.path("out.safetensors")))
        }
        #expect(error?.code == .cancelled)
        #expect(throws: CairnError.self) { try SafeTensorsReader(path: directory.path("out.safetensors")) }
    }
}
