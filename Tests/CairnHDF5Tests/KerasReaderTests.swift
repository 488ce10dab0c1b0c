import CairnBase
import CairnCheckpoint
import CairnDigest
import CairnHDF5
import CairnInterop
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

@Suite struct KerasReaderTests {
    private func open(_ file: String) throws -> any CheckpointReader {
        file.hasSuffix(".h5")
            ? try HDF5Reader(path: Fixture.path(file)) : try KerasReader(path: Fixture.path(file))
    }

    @Test func filesOfKerasHoldWhatItSays() throws {
        for (file, truth) in try Fixture.truth("keras") {
            try Fixture.check(CheckpointDigest(of: open(file), bufferByteCount: 1024), truth, file)
        }
    }

    @Test func theModelsDescriptionIsAValue() throws {
        let values = try open("keras/model_f32.keras").values
        let texts = values.filter { $0.name.hasSuffix(".json") }
        #expect(texts.map(\.name) == ["config.json", "metadata.json"])
        for text in texts {
            guard case .string(let json) = text.value else {
                Issue.record("\(text.name) is not text")
                continue
            }
            #expect((try? JSONValue(parsing: json)) != nil)
        }
        let names = try Fixture.leaves(CheckpointDigest(of: open("keras/model_bf16.h5")))
        #expect(names["optimizer_weights/weight_names/0"] == .string("adam_w/iteration"))
    }

    @Test func aMissingShardIsNamed() throws {
        let storage = MemoryStorage()
        for number in [0, 1, 2, 3, 5, 6] {
            let name = "sharded_0000\(number).weights.h5"
            try storage.publish(Fixture.bytes("keras/" + name), as: name)
        }
        try storage.publish(Fixture.bytes("keras/sharded.weights.json"), as: "sharded.weights.json")
        let error = refusal { _ = try KerasReader(storage: storage, file: "sharded.weights.json") }
        #expect(error?.code == .incomplete)
        #expect(error?.context.expected == "sharded_00004.weights.h5")
    }

    @Test func aShardOfAnotherSaveIsNoticed() throws {
        let storage = MemoryStorage()
        for number in 0...6 {
            // One of another save has the name of the fifth.
            let name = "sharded_0000\(number).weights.h5"
            try storage.publish(Fixture.bytes("keras/sharded_0000\(number == 4 ? 0 : number).weights.h5"), as: name)
        }
        try storage.publish(Fixture.bytes("keras/sharded.weights.json"), as: "sharded.weights.json")
        let error = refusal { _ = try KerasReader(storage: storage, file: "sharded.weights.json") }
        #expect(error?.code == .incomplete)
    }

    @Test func anIndexThatPromisesMoreIsRefused() throws {
        let storage = MemoryStorage()
        try storage.publish(Fixture.bytes("keras/model_bf16.weights.h5"), as: "x_0.weights.h5")
        let index = #"{"weight_map": {"/layers/elsewhere/vars": ["x_0.weights.h5"]}}"#
        try storage.publish(Array(index.utf8), as: "x.weights.json")
        let error = refusal { _ = try KerasReader(storage: storage, file: "x.weights.json") }
        #expect(error?.code == .incomplete)
        #expect(error?.context.expected == "layers/elsewhere/vars in x_0.weights.h5")
    }

    @Test(arguments: ["int8.keras", "int4.weights.h5"])
    func quantisedLayersAreNamed(file: String) throws {
        let path = Repository.fixture("reports/34-keras") + "/" + file
        let reader: any CheckpointReader = file.hasSuffix(".keras") ? try KerasReader(path: path) : try HDF5Reader(path: path)
        #expect(reader.skippedEntries.contains { $0.contains("vars/0") && $0.contains("quantised layers") })
        // A model of plain layers has none.
        #expect(try KerasReader(path: Fixture.path("keras/model_f32.keras")).skippedEntries.isEmpty)
    }

    @Test(arguments: [
        #"{"weight_map": {"a": "../x.h5"}}"#, #"{"weight_map": {"a": 5}}"#, #"{"weight_map": {}}"#, "{}", "[",
    ])
    func anIndexThatIsNoneIsRefused(text: String) throws {
        let storage = MemoryStorage()
        try storage.publish(Array(text.utf8), as: "x.weights.json")
        #expect(refusal { _ = try KerasReader(storage: storage, file: "x.weights.json") }?.code == .malformed)
    }

    @Test func aChangedByteOfTheArchiveIsFound() throws {
        var bytes = try Fixture.bytes("keras/model_f32.keras")
        bytes[bytes.count / 2] ^= 1
        let storage = MemoryStorage()
        try storage.publish(bytes, as: "m.keras")
        let reader = try KerasReader(storage: storage, file: "m.keras")
        let damages = try reader.verify(deep: true) { _ in }.damages
        #expect(damages.contains { $0.error.code == .corrupted && $0.error.description.contains("model.weights.h5") })
    }
}
