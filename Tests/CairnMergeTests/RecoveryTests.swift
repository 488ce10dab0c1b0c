import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnMerge
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// Lost layers, and what takes their place.
@Suite struct Recovery {
    /// How a framework names a parameter of a layer and what its optimizer keeps of it.
    struct Naming: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var parameter: String
        var first: String
        var second: String
        var step: String?
        var values: [NamedValue] = []

        func name(_ template: String, _ layer: Int, _ part: String) -> String {
            template.split(separator: "#", omittingEmptySubsequences: false).joined(separator: "\(layer)")
                .split(separator: "%", omittingEmptySubsequences: false).joined(separator: part)
        }
    }

    static let namings = [
        Naming(
            testDescription: "Cairn's trainer", parameter: "model.layers.#.%", first: "optimizer.exp_avg.model.layers.#.%",
            second: "optimizer.exp_avg_sq.model.layers.#.%",
            values: [
                NamedValue(
                    name: "optimizer",
                    value: ["kind": "adamw", "convention": "moment-average", "step": .integer(8), "beta2": .double(0.95)])
            ]),
        Naming(
            testDescription: "PyTorch with a model's group", parameter: "model.model.layers.#.%",
            first: "optimizer.state.model.layers.#.%.exp_avg", second: "optimizer.state.model.layers.#.%.exp_avg_sq",
            step: "optimizer.state.model.layers.#.%.step",
            values: [
                NamedValue(
                    name: "optimizer",
                    value: ["param_groups": [["lr": .double(1e-3), "betas": [.double(0.9), .double(0.95)]]]])
            ]),
        Naming(
            testDescription: "GPT-2", parameter: "h.#.%", first: "optim.state.h.#.%.exp_avg",
            second: "optim.state.h.#.%.exp_avg_sq", step: "optim.state.h.#.%.step",
            values: [NamedValue(name: "optim.param_groups.0.betas", value: [.double(0.9), .double(0.95)])]),
        Naming(
            testDescription: "Megatron", parameter: "decoder.layers.#.%", first: "optimizer.state.exp_avg.decoder.layers.#.%",
            second: "optimizer.state.exp_avg_sq.decoder.layers.#.%",
            values: [
                NamedValue(name: "optimizer.param_groups.0.betas", value: [.double(0.9), .double(0.95)]),
                NamedValue(name: "optimizer.param_groups.0.step", value: .integer(8)),
            ]),
        Naming(
            testDescription: "DeepSpeed", parameter: "layers.#.%.fp32", first: "layers.#.%.exp_avg",
            second: "layers.#.%.exp_avg_sq", step: "layers.#.%.step",
            values: [NamedValue(name: "optimizer", value: ["betas": [.double(0.9), .double(0.95)]])]),
    ]

    /// Six layers of a matrix and a vector with moments after eight steps, and an embedding outside.
    static func checkpoint(
        _ naming: Naming = namings[0], layers: Int = 6, hasMoments: Bool = true, type: ScalarType = .f32, seed: UInt64 = 1
    ) throws -> MemoryCheckpoint {
        var random = RandomTensors(seed: seed), checkpoint = MemoryCheckpoint()
        for layer in 0..<layers {
            for (part, shape) in [("w", [24, 17] as Shape), ("norm", [17])] {
                checkpoint.add(naming.name(naming.parameter, layer, part), try random.tensor(shape, type))
                guard hasMoments else { continue }
                checkpoint.add(naming.name(naming.first, layer, part), try random.tensor(shape))
                let squares = random.floats(shape.elementCount).map { $0 * $0 * Float(layer + 1) }
                checkpoint.add(naming.name(naming.second, layer, part), try Tensor(squares, shape))
                if let step = naming.step { checkpoint.add(naming.name(step, layer, part), try Tensor([8] as [Float], [])) }
            }
        }
        checkpoint.add("embedding.weight", try random.tensor([30, 17], type))
        if hasMoments { checkpoint.values = naming.values }
        return checkpoint
    }

    private static func recovered(
        _ base: any CheckpointReader, _ pattern: String, _ recovery: LossRecovery, _ options: RecoveryOptions = RecoveryOptions()
    ) throws -> RecoveredCheckpoint {
        try RecoveredCheckpoint(base, lost: LostTensors([pattern], of: base), from: recovery, options: options)
    }

    /// What a merge makes of two tensors, whatever they are called.
    private static func mean(_ first: Tensor, _ second: Tensor, weights: [Double]) throws -> Tensor {
        let inputs = [MemoryCheckpoint(["x": first]), MemoryCheckpoint(["x": second])].map { MergeInput($0) }
        return try MergedCheckpoint(averaging: inputs, weights: weights).tensor("x")
    }

    @Test(arguments: namings)
    func equalNeighboursGiveWhatALinearMergeGivesAndNothingElseChanges(_ naming: Naming) throws {
        let base = try Self.checkpoint(naming)
        let pattern = naming.name(naming.parameter, 0, "*").split(separator: "0", maxSplits: 1).joined(separator: "{2..3}")
        let result = try Self.recovered(base, pattern, .neighbours(.equal))
        var lost: Set<String> = []
        for layer in 2...3 {
            for part in ["w", "norm"] {
                let name = naming.name(naming.parameter, layer, part)
                let neighbours = try [1, 4].map { try base.tensor(naming.name(naming.parameter, $0, part)) }
                #expect(try result.tensor(name) == Self.mean(neighbours[0], neighbours[1], weights: [1, 1]), "\(name)")
                let moments = [naming.first, naming.second] + (naming.step.map { [$0] } ?? [])
                for moment in moments.map({ naming.name($0, layer, part) }) {
                    let old = try base.tensor(moment)
                    #expect(try result.tensor(moment) == Tensor(zeros: old.scalarType, old.shape), "\(moment)")
                    lost.insert(moment)
                }
                lost.insert(name)
            }
        }
        #expect(result.tensors == base.tensors)
        for tensor in base.tensors where !lost.contains(tensor.name) {
            #expect(try result.tensor(tensor.name) == base.tensor(tensor.name), "\(tensor.name)")
        }
        let approximate = (2...3).flatMap { layer in ["norm", "w"].map { naming.name(naming.parameter, layer, $0) } }
        #expect(result.approximate.sorted() == approximate.sorted())
        guard case .dictionary(let origins)? = result.lineage.details["approximate"] else {
            Issue.record("the lineage does not say what is approximate")
            return
        }
        #expect(Set(origins.keys) == Set(approximate))
        #expect(result.lineage.operation == "recovery" && result.lineage.details["weights"] == "equal")
    }

    @Test(arguments: namings, [NeighbourWeights.gradientNorms, .squaredNorms])
    func weightsAreTheNormsThatSecondMomentsTell(_ naming: Naming, _ kind: NeighbourWeights) throws {
        let base = try Self.checkpoint(naming)
        let pattern = naming.name(naming.parameter, 2, "*")
        let result = try Self.recovered(base, pattern, .neighbours(kind))
        var correction = 1.0
        for _ in 0..<8 { correction *= 0.95 }
        let weights = try [1, 3].map { layer in
            let sums = try ["w", "norm"].map { try base.doubles(naming.name(naming.second, layer, $0)).reduce(0, +) }
            let square = (sums[0] + sums[1]) / (1 - correction)
            return kind == .gradientNorms ? square.squareRoot() + 1e-4 : square
        }
        #expect(weights[1] > 1.2 * weights[0], "the case tells the neighbours apart")
        let sides = try [1, 3].map { try base.doubles(naming.name(naming.parameter, $0, "w")) }
        let found = try result.doubles(naming.name(naming.parameter, 2, "w"))
        for index in found.indices {
            let expected = (weights[0] * sides[0][index] + weights[1] * sides[1][index]) / (weights[0] + weights[1])
            #expect(abs(found[index] - expected) <= 1e-6 * (1 + abs(expected)))
        }
        #expect(result.notes.isEmpty || naming.testDescription == "Megatron", "\(result.notes)")
    }

    @Test func theEndsAreCopiesOfTheirOnlyNeighbour() throws {
        let base = try Self.checkpoint()
        let first = try Self.recovered(base, "model.layers.{0..1}.*", .neighbours())
        for layer in 0...1 { #expect(try first.tensor("model.layers.\(layer).w") == base.tensor("model.layers.2.w")) }
        let last = try Self.recovered(base, "model.layers.5.**", .neighbours())
        #expect(try last.tensor("model.layers.5.w") == base.tensor("model.layers.4.w"))
        let copied = try Self.recovered(base, "model.layers.3.*", .copy(layer: 0))
        #expect(try copied.tensor("model.layers.3.norm") == base.tensor("model.layers.0.norm"))
    }

    @Test func theTrainersOptimizerNotesWhereItBeginsAnewAndAnotherIsWarnedOf() throws {
        let result = try Self.recovered(try Self.checkpoint(), "model.layers.2.*", .neighbours())
        guard case .dictionary(let optimizer)? = result.values.first?.value,
            case .dictionary(let restarts)? = optimizer["restarts"]
        else {
            Issue.record("the optimizer's value has no restarts")
            return
        }
        #expect(Set(restarts.keys) == ["model.layers.2.w", "model.layers.2.norm"])
        #expect(restarts["model.layers.2.w"] == ["step": .integer(8), "rate_factor": .double(1)])
        let other = try Self.recovered(try Self.checkpoint(Self.namings[3]), "decoder.layers.2.*", .neighbours())
        #expect(other.notes.contains { $0.contains("counts steps for all parameters together") })
        #expect(other.values == Self.namings[3].values.sorted { $0.name < $1.name })
        // A count that stands among the values is set to zero there.
        var counted = try Self.checkpoint(Self.namings[3])
        counted.values = [
            NamedValue(name: "optimizer.state.decoder.layers.2.w.step", value: .integer(8)),
            NamedValue(name: "optimizer.state.decoder.layers.3.w.step", value: .integer(8)),
        ]
        let zeroed = try Self.recovered(counted, "decoder.layers.2.*", .neighbours(.equal))
        #expect(zeroed.values.map(\.value) == [.integer(0), .integer(8)])
    }

    @Test func whatTheCheckpointDoesNotSayOfAdamIsSaid() throws {
        var base = try Self.checkpoint()
        base.values = []
        let uncorrected = try Self.recovered(base, "model.layers.2.*", .neighbours())
        #expect(uncorrected.notes.contains { $0.contains("how many steps") })
        base.values = [NamedValue(name: "optimizer", value: ["step": .integer(8)])]
        let guessed = try Self.recovered(base, "model.layers.2.*", .neighbours())
        #expect(guessed.notes.contains { $0.contains("0.999 is taken") })
        let given = try Self.recovered(base, "model.layers.2.*", .neighbours(), RecoveryOptions(beta2: 0.95))
        #expect(!given.notes.contains { $0.contains("beta") })
        base.values = [
            NamedValue(
                name: "optimizer", value: ["step": .integer(8), "a": ["beta2": .double(0.9)], "b": ["beta2": .double(0.99)]])
        ]
        let error = #expect(throws: CairnError.self) { try Self.recovered(base, "model.layers.2.*", .neighbours()) }
        #expect(error?.code == .invalidArgument && error?.description.contains("--beta2") == true)
    }

    @Test func randomNumbersHaveTheNeighboursSpreadAndFollowFromTheSeed() throws {
        let base = try Self.checkpoint(type: .bf16)
        func drawn(_ seed: UInt64) throws -> RecoveredCheckpoint {
            try Self.recovered(base, "model.layers.2.*", .initial, RecoveryOptions(seed: seed))
        }
        let (first, again, other) = (try drawn(3), try drawn(3), try drawn(4))
        let name = "model.layers.2.w"
        let numbers = try first.doubles(name)
        #expect(try first.tensor(name) == again.tensor(name) && first.tensor(name) != other.tensor(name))
        func deviation(_ numbers: [Double]) -> Double {
            let mean = numbers.reduce(0, +) / Double(numbers.count)
            return (numbers.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(numbers.count)).squareRoot()
        }
        let around = try [1, 3].map { deviation(try base.doubles("model.layers.\($0).w")) }
        // 408 numbers: their deviation is off by 1/√816 of itself on average.
        #expect(abs(deviation(numbers) / ((around[0] + around[1]) / 2) - 1) < 0.15)
        #expect(abs(numbers.reduce(0, +)) / Double(numbers.count) < 0.3 * around[0])
        // Any region has the numbers of the whole.
        let region = try Region(offsets: [3, 5], shape: [7, 9])
        let part = try first.tensor(name, region: region).converted(to: .f64).elements(as: Double.self)
        for row in 0..<7 { for column in 0..<9 { #expect(part[row * 9 + column] == numbers[(row + 3) * 17 + column + 5]) } }
        #expect(try first.tensor("model.layers.2.norm") == base.tensor("model.layers.1.norm"), "vectors are copies")
    }

    @Test func anOlderCheckpointGivesEverythingUnderItsNames() throws {
        let base = try Self.checkpoint(), older = try Self.checkpoint(seed: 2)
        let result = try Self.recovered(base, "{embedding.*,model.layers.2.*}", .older(older))
        for name in ["embedding.weight", "model.layers.2.w", "optimizer.exp_avg.model.layers.2.w"] {
            #expect(try result.tensor(name) == older.tensor(name), "\(name)")
        }
        #expect(try result.tensor("model.layers.3.w") == base.tensor("model.layers.3.w"))
        #expect(result.lineage.parents.count == 2)
        // Without moments these start from zero.
        let bare = try Self.recovered(base, "model.layers.2.*", .older(Self.checkpoint(hasMoments: false)))
        let moment = try bare.tensor("optimizer.exp_avg.model.layers.2.w")
        #expect(try moment == Tensor(zeros: .f32, [24, 17]))
    }

    @Test func aRoundedWeightFollowsFromItsMasterCopyAndTheOtherWayRound() throws {
        var base = try Self.checkpoint(type: .bf16)
        var random = RandomTensors(seed: 9)
        for layer in 0..<6 { base.add("optimizer.master.model.layers.\(layer).w", try random.tensor([24, 17])) }
        let invented = try Self.recovered(base, "model.layers.2.*", .neighbours(.equal))
        let master = try invented.tensor("optimizer.master.model.layers.2.w")
        let around = try [1, 3].map { try base.tensor("optimizer.master.model.layers.\($0).w") }
        #expect(try master == Self.mean(around[0], around[1], weights: [1, 1]))
        #expect(try invented.tensor("model.layers.2.w") == master.converted(to: .bf16))
        // Lost alone, the master copy is what its weight says, and nothing is made up; moments stay.
        let exact = try Self.recovered(base, "optimizer.master.model.layers.2.w", .neighbours())
        let weight = try base.tensor("model.layers.2.w")
        #expect(try exact.tensor("optimizer.master.model.layers.2.w") == weight.converted(to: .f32))
        #expect(exact.approximate.isEmpty && exact.lineage.details["restored"] != nil)
        let kept = try exact.tensor("optimizer.exp_avg.model.layers.2.w")
        #expect(try kept == base.tensor("optimizer.exp_avg.model.layers.2.w"))
    }

    @Test func lostMomentsAloneStartFromZeroWithTheOthersOfTheirParameter() throws {
        let base = try Self.checkpoint()
        let result = try Self.recovered(base, "optimizer.exp_avg.model.layers.2.w", .neighbours())
        for moment in ["exp_avg", "exp_avg_sq"] {
            #expect(try result.tensor("optimizer.\(moment).model.layers.2.w") == Tensor(zeros: .f32, [24, 17]))
        }
        #expect(try result.tensor("model.layers.2.w") == base.tensor("model.layers.2.w"))
        #expect(result.approximate.isEmpty)
    }

    @Test func layersThatAreNotListedAtAllAreMadeUpToo() throws {
        let whole = try Self.checkpoint()
        let gaps = try MemoryCheckpoint(reading: SelectedReader(whole, exclude: ["*layers.{2..3}.*"]))
        let result = try Self.recovered(gaps, "model.layers.{2..3}.*", .neighbours(.equal))
        let names = Set(result.tensors.map(\.name))
        #expect(names.contains("model.layers.2.w") && names.contains("model.layers.3.norm"))
        #expect(
            try result.tensor("model.layers.2.w")
                == Self.recovered(whole, "model.layers.{2..3}.*", .neighbours(.equal)).tensor("model.layers.2.w"))
    }

    @Test func integersOfALayerHaveToAgree() throws {
        var base = try Self.checkpoint()
        for layer in 0..<6 { base.add("model.layers.\(layer).ids", Tensor([1, Int64(layer / 4)] as [Int64])) }
        let same = try Self.recovered(base, "model.layers.2.*", .neighbours())
        #expect(try same.tensor("model.layers.2.ids").elements(as: Int64.self) == [1, 0])
        let different = try Self.recovered(base, "model.layers.3.*", .neighbours())
        #expect(throws: CairnError.self) { try different.tensor("model.layers.3.ids") }
    }

    @Test func whatCannotBeMadeUpIsRefusedWithAdvice() throws {
        let base = try Self.checkpoint()
        func refusal(
            _ pattern: String, _ recovery: LossRecovery, of reader: (any CheckpointReader)? = nil
        ) -> CairnError? {
            do {
                _ = try Self.recovered(reader ?? base, pattern, recovery)
                return nil
            } catch {
                return error as? CairnError
            }
        }
        let outside = refusal("embedding.*", .neighbours())
        #expect(outside?.code == .unsupported && outside?.description.contains("older:STEP") == true)
        #expect(refusal("embedding.*", .initial)?.code == .unsupported)
        #expect(refusal("nothing.*", .neighbours())?.code == .notFound)
        #expect(refusal("model.layers.*", .neighbours())?.code == .incomplete)
        #expect(refusal("model.layers.2.*", .copy(layer: 9))?.code == .invalidArgument)
        #expect(refusal("model.layers.{2..3}.*", .copy(layer: 3))?.code == .invalidArgument)
        let weightless = refusal("model.layers.2.*", .neighbours(), of: try Self.checkpoint(hasMoments: false))
        #expect(weightless?.code == .incomplete && weightless?.description.contains("--weights equal") == true)
        var odd = base
        odd.add("model.layers.3.w", try Tensor(zeros: .f32, [2, 2]))
        #expect(refusal("model.layers.2.*", .neighbours(), of: odd)?.code == .mismatch)
        #expect(refusal("model.layers.2.*", .older(odd), of: odd) == nil)
        #expect(refusal("model.layers.3.*", .older(odd))?.code == .mismatch)
        #expect(refusal("model.layers.3.*", .older(MemoryCheckpoint()))?.code == .incomplete)
        var numbered = base
        numbered.add("optimizer.state.0.exp_avg", try Tensor(zeros: .f32, [2]))
        #expect(refusal("optimizer.state.0.*", .neighbours(), of: numbered)?.code == .unsupported)
        var broken = base
        broken.add("optimizer.exp_avg_sq.model.layers.1.w", try Tensor([Float](repeating: .nan, count: 408), [24, 17]))
        #expect(refusal("model.layers.2.*", .neighbours(), of: broken)?.code == .unsupported)
        #expect(throws: CairnError.self) { try LostTensors(["{3..1}"], of: base) }
    }

    @Test func aCheckpointWithoutARanksFileTellsWhatIsLost() throws {
        let storage = MemoryStorage(), store = CheckpointStore(storage: storage, name: "run")
        let base = try Self.checkpoint()
        // Three ranks have two layers each.
        let session = try store.beginSave(step: 7, rankCount: 3)
        try session.setGlobal(values: base.values, ties: [])
        for rank in 0..<3 {
            var fragments: [TensorFragment] = []
            for tensor in base.tensors {
                let layer = tensor.name.split(separator: ".").compactMap { Int($0) }.first ?? 0
                guard layer / 2 == rank else { continue }
                fragments.append(
                    try TensorFragment(
                        name: tensor.name, globalShape: tensor.shape, region: Region(whole: tensor.shape),
                        tensor: base.tensor(tensor.name)))
            }
            try session.write(rank: rank, fragments: fragments)
        }
        try session.commit()
        let key = try #require(try storage.list("step-").map(\.key).first { $0.contains("rank-00001") })
        try storage.delete([key])
        let reader = try store.open(step: 7)
        let lost = try LostTensors(unreadableIn: reader, deep: true)
        #expect(lost.names == base.tensors.map(\.name).filter { $0.contains("layers.2.") || $0.contains("layers.3.") })
        #expect(lost.extents.allSatisfy { !$0.isPartial })
        let result = try RecoveredCheckpoint(reader, lost: lost, from: .neighbours(.equal))
        let expected = try Self.recovered(base, "model.layers.{2..3}.*", .neighbours(.equal))
        for tensor in base.tensors { #expect(try result.tensor(tensor.name) == expected.tensor(tensor.name), "\(tensor.name)") }
        #expect(try result.rankValues().isEmpty)
        #expect(result.notes.contains { $0.contains("rank 1") })
        // It loads and is saved as a checkpoint is.
        try store.save(TrainingState(reading: result), step: 8, options: SaveOptions(lineage: result.lineage))
        #expect(try store.open(step: 8).manifest.lineage == result.lineage)
    }
}
