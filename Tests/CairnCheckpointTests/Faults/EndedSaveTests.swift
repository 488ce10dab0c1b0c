import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTesting
import Testing

/// Storage whose `publish` of a manifest does its work and then fails, as one does whose last `fsync` fails.
private final class LateFailingStorage: Storage {
    private let inner: MemoryStorage

    init(_ inner: MemoryStorage) { self.inner = inner }

    func open(_ key: String) throws(CairnError) -> any StorageFile { try inner.open(key) }
    func create(_ key: String, byteCount: Int?) throws(CairnError) -> any StorageWriter {
        try inner.create(key, byteCount: byteCount)
    }
    func publish(_ bytes: [UInt8], as key: String) throws(CairnError) {
        try inner.publish(bytes, as: key)
        guard key.hasSuffix("manifest.json") else { return }
        throw CairnError(.inputOutput, "failed late", .init(file: key))
    }
    func list(_ prefix: String) throws(CairnError) -> [StorageEntry] { try inner.list(prefix) }
    func delete(_ keys: [String]) throws(CairnError) { try inner.delete(keys) }
}

/// A save that ended badly never takes the files of a checkpoint with it.
@Suite struct EndedSaveTests {
    private let storage = MemoryStorage()
    private var store: CheckpointStore { CheckpointStore(storage: storage, name: "memory") }
    private var lateStore: CheckpointStore { CheckpointStore(storage: LateFailingStorage(storage), name: "memory") }

    @Test func aNewCheckpointWhoseCommitFailsLateIsTakenBack() throws {
        let state = try smallState(1)
        #expect(throws: CairnError.self) { try lateStore.save(state, step: 1, options: repeatableOptions(1)) }
        #expect(try storage.list("").isEmpty)
        try store.save(state, step: 1, options: repeatableOptions(1))
        #expect(try store.load(step: 1) == state)
    }

    @Test func aReplacementWhoseCommitFailsLateStaysWhole() throws {
        let (old, new) = (try smallState(1), try smallState(2))
        try store.save(old, step: 1, options: repeatableOptions(1))
        let replacing = repeatableOptions(2) { $0.replacing = true }
        #expect(throws: CairnError.self) { try lateStore.save(new, step: 1, options: replacing) }
        #expect(try store.load(step: 1) == new)
        try store.save(old, step: 1, options: repeatableOptions(3) { $0.replacing = true })
        #expect(try store.load(step: 1) == old)
        // After a power failure the first manifest might have come back, so its file stayed for the collector.
        _ = try store.prune(RetentionPolicy(), debrisAge: -10)
        #expect(try storage.list("").count == 2)
    }

    @Test func cancellingASaveThatAnotherOvertookLeavesTheOther() throws {
        let (old, new) = (try smallState(1), try smallState(2))
        let slow = try store.beginSave(step: 1, rankCount: 2, options: repeatableOptions(1))
        try writeTwoRanks(of: old, to: slow)
        try saveInTwoRanks(new, step: 1, in: store, repeatableOptions(2))
        slow.cancel()
        #expect(try store.load(step: 1) == new)
        #expect(throws: CairnError.self) { try slow.commit() }
    }

    @Test func oneSaveIDIsNotUsedTwiceForAStep() throws {
        let (old, new) = (try smallState(1), try smallState(2))
        try store.save(old, step: 1, options: repeatableOptions(1))
        let options = repeatableOptions(1) { $0.replacing = true }
        #expect { try store.save(new, step: 1, options: options) } throws: {
            ($0 as? CairnError)?.code == .invalidArgument
        }
        #expect(try store.load(step: 1) == old)
    }

    @Test func aSaveThatIsGivenUpLeavesNoFolder() throws {
        let directory = try TemporaryDirectory()
        let local = CheckpointStore(path: directory.path + "/run")
        let source = try smallState(1)
        try store.save(source, step: 1, options: repeatableOptions(1))
        let writer = try CairnWriter(store: local, step: 1)
        _ = try writer.begin(tensors: store.open(step: 1).tensors, values: [])
        #expect(try names(directory.path + "/run") == ["step-00000001"])
        writer.discard()
        #expect(try names(directory.path + "/run").isEmpty)
        // Another save's file keeps the folder.
        let other = try local.beginSave(step: 1, rankCount: 1, options: repeatableOptions(2))
        try other.write(rank: 0, fragments: [])
        let second = try CairnWriter(store: local, step: 1)
        _ = try second.begin(tensors: store.open(step: 1).tensors, values: [])
        second.discard()
        try other.commit()
        #expect(try local.steps() == [1])
        #expect(throws: CairnError.self) {
            try local.save(
                source, step: 2,
                options: repeatableOptions(3) { options in
                    options.progress = { _ in throw CairnError(.cancelled, "enough") }
                })
        }
        #expect(try names(directory.path + "/run") == ["step-00000001"])
    }

    private func names(_ path: String) throws -> [String] {
        try PosixFileSystem().entries(of: path).map(\.name)
    }
}
