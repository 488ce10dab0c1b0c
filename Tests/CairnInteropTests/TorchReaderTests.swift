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

    private func refusal(_ body: () throws -> Void) -> CairnError? {
        do {
            try body()
            return nil
        } catch {
            return error as? CairnError
        }
    }

    @Test(arguments: ["dtypes", "state_dict", "train_full", "views"])
    func filesThatTorchWroteHoldWhatItSays(folder: String) throws {
        for file in try Fixture.truth("torch/" + folder).object("files").members {
            let reader = try reader(folder + "/" + file.key)
            try Fixture.check(
                CheckpointDigest(of: reader, bufferByteCount: 512), against: file.value.asObject(), file.key)
        }
    }

    @Test(arguments: ["scripted.pt", "traced.pt", "rezipped_deflate.pt"])
    func otherContainersAreReadToo(file: String) throws {
        let truth = try Fixture.truth("torch/other_containers").object("files").object(file)
        try Fixture.check(CheckpointDigest(of: reader("other_containers/" + file)), against: truth, file)
    }

    @Test func whatIsNotUnderstoodIsShownAndSaid() throws {
        let reader = try reader("train_full/ckpt.pt")
        #expect(reader.omissions.count == 1)
        #expect(reader.omissions.first?.contains("argparse.Namespace") == true)
    }

    @Test(arguments: [
        ("whole_module.pt", "torch.nn.modules.container.Sequential"), ("evil_global.pt", "posix.getcwd"),
        ("truncated.pt", "no end record"), ("missing_storage.pt", "archive/data/0"),
        ("short_storage.pt", "4000 bytes"), ("exported.pt2", "torch.export"),
    ])
    func damagedAndHostileFilesAreRefused(file: String, reason: String) throws {
        let error = try #require(refusal { _ = try reader("other_containers/" + file) })
        #expect(error.context.file != nil)
        #expect(error.description.contains(reason), "\(error)")
    }

    @Test(arguments: [("sparse_coo.pt", "s"), ("sparse_csr.pt", "s"), ("quant.pt", "q"), ("meta.pt", "m")])
    func tensorsThatCannotBeDeliveredAreRefusedByName(file: String, key: String) throws {
        let error = try #require(refusal { _ = try reader("exotic/" + file) })
        #expect(error.code == .unsupported)
        #expect(error.context.tensor == key)
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
