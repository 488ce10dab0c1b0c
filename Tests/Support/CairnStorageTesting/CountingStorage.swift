package import CairnBase
package import CairnStorage
import Synchronization

/// Another storage whose reads are counted. Its files are never mapped.
package final class CountingStorage: Storage {
    /// What was read.
    package struct Reads: Sendable, Equatable {
        /// How many calls there were.
        package var count = 0
        /// How many bytes they read.
        package var byteCount = 0
    }

    private let storage: any Storage
    private let counted = Mutex(Reads())

    package init(_ storage: any Storage) { self.storage = storage }

    /// What was read since the last ``reset()``.
    package var reads: Reads { counted.withLock { $0 } }

    package var isLocal: Bool { storage.isLocal }

    package var distinction: Distinction? { storage.distinction }

    package func reset() { counted.withLock { $0 = Reads() } }

    package func open(_ key: String) throws(CairnError) -> any StorageFile {
        File(try storage.open(key)) { [self] bytes in
            counted.withLock {
                $0.count += 1
                $0.byteCount += bytes
            }
        }
    }

    package func create(_ key: String, byteCount: Int?) throws(CairnError) -> any StorageWriter {
        try storage.create(key, byteCount: byteCount)
    }

    package func publish(_ bytes: [UInt8], as key: String) throws(CairnError) { try storage.publish(bytes, as: key) }

    package func list(_ prefix: String) throws(CairnError) -> [StorageEntry] { try storage.list(prefix) }

    package func delete(_ keys: [String]) throws(CairnError) { try storage.delete(keys) }

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
