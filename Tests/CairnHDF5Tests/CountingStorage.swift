import CairnBase
import CairnStorage
import Synchronization

/// Another storage whose reads are counted.
final class CountingStorage: Storage {
    private let storage: any Storage
    private let count = Mutex(0)

    init(_ storage: any Storage) { self.storage = storage }

    /// How many bytes were read.
    var byteCount: Int { count.withLock { $0 } }

    func reset() { count.withLock { $0 = 0 } }

    func open(_ key: String) throws(CairnError) -> any StorageFile {
        File(try storage.open(key)) { [self] bytes in count.withLock { $0 += bytes } }
    }

    func create(_ key: String, byteCount: Int?) throws(CairnError) -> any StorageWriter {
        try storage.create(key, byteCount: byteCount)
    }

    func publish(_ bytes: [UInt8], as key: String) throws(CairnError) { try storage.publish(bytes, as: key) }

    func list(_ prefix: String) throws(CairnError) -> [StorageEntry] { try storage.list(prefix) }

    func delete(_ keys: [String]) throws(CairnError) { try storage.delete(keys) }

    private final class File: StorageFile {
        private let file: any StorageFile
        private let note: @Sendable (Int) -> Void

        init(_ file: any StorageFile, note: @escaping @Sendable (Int) -> Void) {
            self.file = file
            self.note = note
        }

        var key: String { file.key }
        var byteCount: Int { file.byteCount }

        func read(at offset: Int, into destination: inout MutableRawSpan) throws(CairnError) {
            note(destination.byteCount)
            try file.read(at: offset, into: &destination)
        }

        func map() throws(CairnError) -> MemoryMapping? { nil }
    }
}
