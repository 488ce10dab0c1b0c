import CairnBase
import CairnStorage
import Synchronization

/// A storage that records what is read of which file.
final class RecordingStorage: Storage {
    private let base: any Storage
    private let log = Mutex<[(key: String, range: Range<Int>)]>([])

    init(_ base: any Storage) { self.base = base }

    /// Everything since ``forget()``.
    var reads: [(key: String, range: Range<Int>)] { log.withLock { $0 } }

    var readByteCount: Int { reads.reduce(0) { $0 + $1.range.count } }

    func forget() { log.withLock { $0 = [] } }

    fileprivate func record(_ key: String, _ range: Range<Int>) { log.withLock { $0.append((key, range)) } }

    func open(_ key: String) throws(CairnError) -> any StorageFile {
        RecordingFile(base: try base.open(key), storage: self)
    }
    func create(_ key: String, byteCount: Int?) throws(CairnError) -> any StorageWriter {
        try base.create(key, byteCount: byteCount)
    }
    func publish(_ bytes: [UInt8], as key: String) throws(CairnError) { try base.publish(bytes, as: key) }
    func list(_ prefix: String) throws(CairnError) -> [StorageEntry] { try base.list(prefix) }
    func delete(_ keys: [String]) throws(CairnError) { try base.delete(keys) }
}

private final class RecordingFile: StorageFile {
    let base: any StorageFile
    let storage: RecordingStorage

    init(base: any StorageFile, storage: RecordingStorage) {
        self.base = base
        self.storage = storage
    }

    var key: String { base.key }
    var byteCount: Int { base.byteCount }
    func read(at offset: Int, into destination: inout MutableRawSpan) throws(CairnError) {
        storage.record(key, offset..<offset + destination.byteCount)
        try base.read(at: offset, into: &destination)
    }
    func map() throws(CairnError) -> MemoryMapping? { try base.map() }
}
