import CairnBase
import CairnCheckpoint
import CairnDigest
import CairnInterop
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

@Suite struct DeepSpeedTests {
    /// Compares what a checkpoint stores with the truth. Under ZeRO 3 the 16-bit weights are not in every form of it.
    private func check(_ path: String, _ name: String, storesWeights: Bool) throws {
        let reader = try DeepSpeedReader(path: Fixture.path("deepspeed/" + path))
        let digest = try CheckpointDigest(of: reader, bufferByteCount: 512)
        let found = Dictionary(uniqueKeysWithValues: digest.tensors.map { ($0.name, $0) })
        var count = 0
        for element in try Fixture.truth("deepspeed/" + name).array("tensors") {
            let truth = try element.asObject()
            let fqn = try truth.string("fqn")
            if fqn.hasSuffix(".param"), !storesWeights { continue }
            count += 1
            let tensor = try #require(found[fqn], "\(path) \(fqn)")
            #expect(try tensor.sha256 == truth.string("sha256"), "\(path) \(fqn)")
            #expect(try tensor.scalarType.rawValue == truth.string("dtype"), "\(path) \(fqn)")
            #expect(try tensor.shape.extents == truth.array("shape").map { try $0.asInteger() }, "\(path) \(fqn)")
        }
        // Beside the parameters there are weights under second names, which the truth does not list.
        let tied = reader.tensors.filter { $0.tiedTo != nil }
        #expect(found.count == count + tied.count, "\(path)")
        for tensor in tied { #expect(found[tensor.name]?.sha256 == found[tensor.tiedTo!]?.sha256, "\(tensor.name)") }
        #expect(try reader.verify(deep: true) { _ in }.isValid)
    }

    @Test(arguments: ["pp2_dp1_z1_bf16", "z0_w2_fp32", "z2_w4_bf16", "z3_w2_bf16"])
    func partitionsMakeUpTheParametersOfTheEngine(name: String) throws {
        try check(name + "/checkpoint", name, storesWeights: true)
        try check(name + "/checkpoint/global_step2", name, storesWeights: !name.hasPrefix("z3"))
    }

    @Test(arguments: ["pp2_dp1_z1_bf16", "z3_w2_bf16"])
    func universalCheckpointsHoldTheSame(name: String) throws {
        // The universal checkpoint has no 16-bit weights of a pipeline's layers.
        try check(name + "/universal", name, storesWeights: false)
        try check(name, name, storesWeights: false)
    }

    /// A head that is the embedding: DeepSpeed lists it, stores it once, and gives it to every user of the weights.
    @Test(arguments: ["z0_w2_fp32", "z2_w4_bf16", "z3_w2_bf16"]) func secondNamesAreTensors(name: String) throws {
        for path in [name + "/checkpoint", name == "z3_w2_bf16" ? name + "/universal" : name + "/checkpoint/global_step2"] {
            let reader = try DeepSpeedReader(path: Fixture.path("deepspeed/" + path))
            let head = try reader.description(of: "lm_head.weight.fp32")
            #expect(head.tiedTo == "wte.weight.fp32")
            #expect(try reader.tensor("lm_head.weight.fp32") == reader.tensor("wte.weight.fp32"))
            // What the optimizer keeps belongs to the parameter.
            #expect(reader.tensors.contains { $0.name == "wte.weight.exp_avg" })
            #expect(!reader.tensors.contains { $0.name == "lm_head.weight.exp_avg" })
            // Alone it is a tensor by itself.
            let alone = try SelectedReader(reader, include: ["lm_head.weight.fp32"])
            #expect(alone.tensors.map(\.tiedTo) == [nil])
            #expect(try alone.tensor("lm_head.weight.fp32") == reader.tensor("wte.weight.fp32"))
        }
    }

    /// What DeepSpeed's own converter gives: every parameter in single precision, second names and buffers under their names.
    @Test(arguments: ["pp2_dp1_z1_bf16", "z0_w2_fp32", "z2_w4_bf16", "z3_w2_bf16"])
    func weightsAreThoseOfTheModule(name: String) throws {
        let reader = try DeepSpeedReader(path: Fixture.path("deepspeed/\(name)/checkpoint"))
        let weights = try ModuleWeights(reader)
        #expect(weights.values.isEmpty)
        var expected: Set<String> = []
        for tensor in reader.tensors {
            for state in [".fp32", ".param", ".buffer"] where tensor.name.hasSuffix(state) {
                expected.insert(String(tensor.name.dropLast(state.count)))
            }
        }
        #expect(Set(weights.tensors.map(\.name)) == expected)
        for tensor in weights.tensors {
            let original = [".fp32", ".param", ".buffer"].map { tensor.name + $0 }
                .first { name in reader.tensors.contains { $0.name == name } }
            #expect(try weights.tensor(tensor.name) == reader.tensor(#require(original)), "\(tensor.name)")
        }
        guard !name.hasPrefix("pp") else { return }
        #expect(try weights.description(of: "lm_head.weight").tiedTo == "wte.weight")
        // In a file and back the tie is there.
        let storage = MemoryStorage()
        _ = try copyCheckpoint(from: weights, to: DistributedCheckpointWriter(storage: storage))
        let written = try DistributedCheckpointReader(storage: storage, prefix: "", source: "memory")
        #expect(written.tensors.map(\.name) == weights.tensors.map(\.name))
        #expect(try written.tensor("lm_head.weight") == weights.tensor("wte.weight"))
    }

    @Test func whatHasNoneOfDeepSpeedsNamesHasNoModuleWeights() throws {
        let reader = try TorchReader(path: Fixture.path("torch/state_dict/model_bf16_tied.pt"))
        #expect(refusal { _ = try ModuleWeights(reader) }?.code == .unsupported)
    }

    @Test func aLostRankIsNoticed() throws {
        let storage = LocalStorage(root: Fixture.path("deepspeed/z2_w4_bf16/checkpoint/global_step2"))
        for lost in [0, 2, 3] {
            let memory = MemoryStorage()
            for entry in try storage.list("") where !entry.key.contains("pp_rank_\(lost)_") {
                try memory.publish(storage.readAll(entry.key), as: entry.key)
            }
            let error = refusal { _ = try DeepSpeedReader(storage: memory, prefix: "", source: "memory") }
            #expect(error?.code == .incomplete, "\(lost)")
        }
    }

    @Test func everyRegionOfAPartitionedParameterIsThatOfTheWhole() throws {
        let reader = try DeepSpeedReader(path: Fixture.path("deepspeed/z3_w2_bf16/checkpoint"))
        let whole = try reader.tensor("h.1.mlp.w1.fp32")
        let region = try Region(offsets: [1, 3, 5], shape: [2, 20, 50])
        let part = try Tensor(.f32, region.shape) { try reader.read("h.1.mlp.w1.fp32", region: region, into: &$0) }
        #expect(try part == whole.copy(of: region))
    }

    /// Converts to a universal checkpoint in memory; what could not be carried over goes to `notes`.
    private func universal(of reader: any CheckpointReader, notes: inout [String]) throws -> DeepSpeedReader {
        let storage = MemoryStorage()
        notes = try copyCheckpoint(from: reader, to: DeepSpeedUniversalWriter(storage: storage))
        let tag = String(decoding: try storage.readAll("latest_universal"), as: UTF8.self)
        return try DeepSpeedReader(storage: storage, prefix: tag + "/", source: "memory")
    }

    @Test(arguments: ["pp2_dp1_z1_bf16", "z0_w2_fp32", "z2_w4_bf16", "z3_w2_bf16"])
    func aUniversalCheckpointHoldsAllOfItsSource(name: String) throws {
        let path = Fixture.path("deepspeed/\(name)/checkpoint" + (name == "z3_w2_bf16" ? "/global_step2" : ""))
        let source = try DeepSpeedReader(path: path)
        var notes: [String] = []
        let written = try universal(of: source, notes: &notes)
        #expect(notes.isEmpty)
        #expect(try CheckpointDigest(of: written).json() == CheckpointDigest(of: source).json())
        #expect(try written.verify(deep: true) { _ in }.isValid)
        // And once more.
        let again = try universal(of: written, notes: &notes)
        #expect(try CheckpointDigest(of: again).json() == CheckpointDigest(of: source).json())
    }

    @Test func anInterruptedConversionIsNoCheckpointAndIsStartedOver() throws {
        let source = try DeepSpeedReader(path: Fixture.path("deepspeed/z2_w4_bf16/checkpoint"))
        let storage = MemoryStorage()
        try storage.publish([1], as: "global_step2_universal/zero/wte.weight/fp32.pt")
        #expect(throws: CairnError.self) {
            try DeepSpeedReader(storage: storage, prefix: "global_step2_universal/", source: "memory")
        }
        let notes = try copyCheckpoint(from: source, to: DeepSpeedUniversalWriter(storage: storage))
        #expect(notes.contains { $0.contains("interrupted") })
        // What is whole is not replaced without being asked for.
        let error = refusal { _ = try copyCheckpoint(from: source, to: DeepSpeedUniversalWriter(storage: storage)) }
        #expect(error?.code == .alreadyExists)
        _ = try copyCheckpoint(from: source, to: DeepSpeedUniversalWriter(storage: storage, replaces: true))
    }

    @Test func namesThatLeadOutOfTheDirectoryAreRefused() throws {
        for name in ["../../escaped", "/absolute", "a/../../b"] {
            let tensor = TensorDescription(name: name + ".fp32", scalarType: .f32, shape: try Shape(checking: [1]))
            let storage = MemoryStorage()
            #expect(throws: CairnError.self) {
                _ = try DeepSpeedUniversalWriter(storage: storage).begin(tensors: [tensor], values: [])
            }
            #expect(try storage.list("").isEmpty)
        }
    }
}
