import CairnBase
import CairnCheckpoint
import CairnDigest
import CairnInterop
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

@Suite struct TorchReaderTests {
    private func reader(_ name: String) throws -> TorchReader { try TorchReader(path: Fixture.path("torch/" + name)) }

    @Test(arguments: ["dtypes", "state_dict", "train_full", "views", "variants"])
    func filesThatTorchWroteHoldWhatItSays(folder: String) throws {
        for file in try Fixture.truth("torch/" + folder).object("files").members {
            let reader = try reader(folder + "/" + file.key)
            try Fixture.check(
                CheckpointDigest(of: reader, bufferByteCount: 512), against: file.value.asObject(), file.key)
        }
    }

    @Test(arguments: ["scripted.pt", "traced.pt", "rezipped_deflate.pt", "exported.pt2"])
    func otherContainersAreReadToo(file: String) throws {
        let truth = try Fixture.truth("torch/other_containers").object("files").object(file)
        try Fixture.check(CheckpointDigest(of: reader("other_containers/" + file)), against: truth, file)
    }

    @Test func whatIsNotUnderstoodIsShownAndSaid() throws {
        let reader = try reader("train_full/ckpt.pt")
        #expect(reader.skippedEntries.count == 1)
        #expect(reader.skippedEntries.first?.contains("argparse.Namespace") == true)
    }

    @Test(arguments: [
        ("evil_global.pt", "posix.getcwd"),
        ("truncated.pt", "no end record"), ("missing_storage.pt", "archive/data/0"),
        ("short_storage.pt", "4000 bytes"),
    ])
    func damagedAndHostileFilesAreRefused(file: String, reason: String) throws {
        let error = try #require(refusal { _ = try reader("other_containers/" + file) })
        #expect(error.context.file != nil)
        #expect(error.description.contains(reason), "\(error)")
    }

    @Test func aModuleThatWasSavedWholeIsItsState() throws {
        let reader = try reader("other_containers/whole_module.pt")
        #expect(reader.tensors.map(\.name).allSatisfy { $0.hasSuffix(".weight") || $0.hasSuffix(".bias") })
        #expect(!reader.tensors.isEmpty)
        #expect(reader.skippedEntries.first?.contains("torch.nn.modules.container.Sequential") == true)
        #expect(reader.skippedTensorCount == 0)
    }

    @Test(arguments: [
        ("sparse_coo.pt", ["s.indices", "s.values"]), ("sparse_csr.pt", ["s.col_indices", "s.crow_indices", "s.values"]),
        ("quant.pt", ["q.int_repr"]), ("meta.pt", ["x"]),
    ])
    func tensorsThatAreMadeOfOthersAreDescribed(file: String, names: [String]) throws {
        let reader = try reader("exotic/" + file)
        #expect(reader.tensors.map(\.name) == names)
        let value = try #require(reader.values.first)
        guard case .dictionary(let members) = value.value else {
            Issue.record("\(value) describes nothing")
            return
        }
        if file == "quant.pt" {
            #expect(members["qscheme"] == "torch.per_tensor_affine")
        } else {
            #expect(members["shape"] != nil)
        }
    }

    @Test func pretrainedWeightsOfTheOldFormatAreRead() throws {
        let reader = try TorchReader(path: Fixture.path("weights/lpips/alex.pth"))
        let truth = try Fixture.truth("weights/lpips").object("files").object("alex.pth")
        try Fixture.check(CheckpointDigest(of: reader), against: truth, "alex.pth")
    }

    @Test(arguments: [
        ("trainers/lightning_ckpt", "last.ckpt", [] as [Value]),
        ("trainers/trainer_llama", "out/checkpoint-3/optimizer.pt", ["optimizer"]),
        ("trainers/trainer_llama", "out/checkpoint-3/scheduler.pt", ["scheduler"]),
        ("trainers/accelerate_state", "state/optimizer.bin", ["optimizer"]),
        ("trainers/accelerate_state", "state/scheduler.bin", ["scheduler"]),
        ("peft/lora", "adapter_bin/adapter_model.bin", []),
    ])
    func filesOfTrainersHoldWhatTheyWereTold(folder: String, file: String, part: [Value]) throws {
        let reader = try TorchReader(path: Fixture.path(folder + "/" + file))
        try Fixture.check(
            CheckpointDigest(of: reader), against: Fixture.truth(folder), file, part: part, isAll: false)
    }

    @Test(arguments: [
        "trainers/accelerate_state/state/random_states_0.pkl", "trainers/trainer_llama/out/checkpoint-3/rng_state.pth",
    ])
    func statesOfGeneratorsAreTensorsAndValues(file: String) throws {
        let reader = try TorchReader(path: Fixture.path(file))
        #expect(reader.tensors.contains { $0.scalarType == .u8 && $0.shape.elementCount == 5056 })
        #expect(reader.skippedEntries.isEmpty)
    }

    @Test func aSettingsObjectIsNoState() throws {
        let file = "trainers/trainer_llama/out/checkpoint-3/training_args.bin"
        let error = try #require(refusal { _ = try TorchReader(path: Fixture.path(file)) })
        #expect(error.description.contains("TrainingArguments"))
    }

    @Test func aFileOfTheOldFormatThatWasCutShortIsNoticed() throws {
        let bytes = try Fixture.bytes("torch/variants/legacy_p2.pt")
        for length in [bytes.count - 1, bytes.count - 40, 3000, 200, 40] {
            let memory = MemoryStorage()
            try memory.publish(Array(bytes[..<length]), as: "file.pt")
            let error = try #require(refusal { _ = try TorchReader(storage: memory, file: "file.pt") })
            #expect(error.code == .incomplete, "\(length): \(error)")
        }
    }

    @Test func otherOldFormatsAreRefusedByName() throws {
        var tar = [UInt8](repeating: 0, count: 1024)
        tar.replaceSubrange(0..<8, with: Array("sys_info".utf8))
        tar.replaceSubrange(257..<262, with: Array("ustar".utf8))
        let memory = MemoryStorage()
        try memory.publish(tar, as: "old.pt")
        let error = try #require(refusal { _ = try TorchReader(storage: memory, file: "old.pt") })
        #expect(error.code == .unsupported)
        #expect(error.description.contains("tar"))
    }

    @Test func aSubclassThatWrapsOtherTensorsIsRefusedByName() throws {
        var pickle = PickleWriter()
        try pickle.dictionary { pickle throws(CairnError) in
            try pickle.string("layer.weight")
            pickle.global("torch._utils", "_rebuild_wrapper_subclass")
            pickle.mark()
            pickle.global("torchao.dtypes", "Float8Tensor")
            pickle.global("torch", "float32")
            pickle.tuple()
            pickle.reduce()
        }
        let memory = MemoryStorage()
        let file = try memory.create("file.pt", byteCount: nil)
        let zip = ZipWriter(file)
        try zip.add("archive/data.pkl", pickle.finish())
        try file.finish(byteCount: zip.finish())
        let error = try #require(refusal { _ = try TorchReader(storage: memory, file: "file.pt") })
        #expect(error.code == .unsupported)
        #expect(error.context.tensor == "layer.weight")
        #expect(error.description.contains("Float8Tensor"))
    }

    @Test func mutatedFilesOfTheOldFormatNeverCrash() throws {
        let seed = UInt64.random(in: .min ... .max)
        var generator = SeededGenerator(seed: seed)
        let bytes = try Fixture.bytes("torch/variants/legacy_p2.pt")
        for _ in 0..<500 {
            var changed = bytes
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                changed[Int.random(in: 0..<changed.count, using: &generator)] = .random(in: 0...255, using: &generator)
            }
            let memory = MemoryStorage()
            try memory.publish(changed, as: "file.pt")
            do {
                let reader = try TorchReader(storage: memory, file: "file.pt")
                for tensor in reader.tensors where tensor.byteCount < 1 << 20 { _ = try? reader.tensor(tensor.name) }
            } catch {
                #expect(error.context.file != nil, "seed \(seed): \(error)")
            }
        }
    }

    @Test func aFlippedBitIsNoticedWhenTheStorageIsRead() throws {
        let reader = try reader("other_containers/bitflip_data.pt")
        let name = try #require(reader.tensors.first?.name)
        let whole = refusal { _ = try reader.tensor(name) }
        #expect(whole?.code == .corrupted)
        // In pieces too: the one that completes the storage finds out.
        let second = try self.reader("other_containers/bitflip_data.pt")
        #expect(refusal { _ = try CheckpointDigest(of: second, bufferByteCount: 64) }?.code == .corrupted)
        let report = try reader.verify(deep: true) { _ in }
        #expect(report.damages.map(\.error.code) == [.corrupted])
        #expect(try reader.verify(deep: false) { _ in }.isValid)
        #expect(try self.reader("train_full/ckpt.pt").verify(deep: true) { _ in }.isValid)
    }

    @Test func tensorsThatAreTheSameViewAreTied() throws {
        let tied = try reader("state_dict/model_bf16_tied.pt").tensors.filter { $0.tiedTo != nil }
        #expect(tied.map(\.name) == ["lm_head.weight"])
        #expect(tied.map(\.tiedTo) == ["wte.weight"])
        // The same storage is not enough.
        let views = try reader("views/views.pt")
        #expect(views.tensors.filter { $0.tiedTo != nil }.map(\.name) == ["same_b"])
    }

    @Test func everyRegionOfAViewIsThatOfTheWhole() throws {
        let seed = UInt64.random(in: .min ... .max)
        var generator = SeededGenerator(seed: seed)
        for file in ["views/views.pt", "dtypes/dtypes.pt"] {
            let reader = try reader(file)
            for description in reader.tensors where description.shape.elementCount > 0 {
                let whole = try reader.tensor(description.name)
                for _ in 0..<4 {
                    let offsets = description.shape.extents.map { Int.random(in: 0..<$0, using: &generator) }
                    let extents = zip(description.shape.extents, offsets).map { extent, offset in
                        Int.random(in: 1...(extent - offset), using: &generator)
                    }
                    let region = try Region(offsets: offsets, shape: Shape(extents))
                    // Packed elements cannot be cut anywhere.
                    guard !description.scalarType.isPacked else { continue }
                    let part = try Tensor(description.scalarType, region.shape) {
                        try reader.read(description.name, region: region, into: &$0)
                    }
                    #expect(try part == whole.copy(of: region), "\(description.name) \(region), seed \(seed)")
                }
            }
        }
    }

    @Test func aStateSurvivesTheWayIntoAStore() throws {
        let reader = try reader("train_full/ckpt.pt")
        let before = try CheckpointDigest(of: reader)
        let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
        try store.save(TrainingState(reading: reader), step: 1)
        let after = try CheckpointDigest(of: store.open(step: 1))
        #expect(after.tensors == before.tensors)
        #expect(after.objects == before.objects)
    }

    @Test func typesThatSafetensorsLacksAreRefusedWhenWritten() throws {
        let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
        let error = refusal { try store.save(TrainingState(reading: reader("dtypes/dtypes.pt")), step: 1) }
        #expect(error?.code == .unsupported)
        #expect(error?.context.tensor?.hasPrefix("C") == true)
    }
}
