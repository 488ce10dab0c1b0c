import CairnBase
import CairnStorage

/// A storage with some objects, beside which there are large ones: the same bytes over and over.
final class RepeatedStorage: Storage {
    private let objects: MemoryStorage
    private let others: Set<String>
    private let bytes: [UInt8]
    private let byteCount: Int

    /// - Parameters:
    ///   - others: The names of the large objects.
    ///   - bytes: What they repeat.
    ///   - byteCount: Their size.
    init(_ objects: MemoryStorage, others: Set<String>, repeating bytes: [UInt8], byteCount: Int) {
        self.objects = objects
        self.others = others
        self.bytes = bytes
        self.byteCount = byteCount
    }

    func open(_ key: String) throws(CairnError) -> any StorageFile {
        others.contains(key)
            ? RepeatedFile(key: key, bytes: bytes, byteCount: byteCount) : try objects.open(key)
    }

    func create(_ key: String, byteCount: Int?) throws(CairnError) -> any StorageWriter {
        try objects.create(key, byteCount: byteCount)
    }

    func publish(_ bytes: [UInt8], as key: String) throws(CairnError) { try objects.publish(bytes, as: key) }

    func list(_ prefix: String) throws(CairnError) -> [StorageEntry] {
        let large = others.filter { $0.hasPrefix(prefix) }
            .map { StorageEntry(key: $0, byteCount: byteCount, modified: 0) }
        return (try objects.list(prefix) + large).sorted { StorageKey.precedes($0.key, $1.key) }
    }

    func delete(_ keys: [String]) throws(CairnError) { try objects.delete(keys) }
}

private final class RepeatedFile: StorageFile {
    let key: String
    let byteCount: Int
    private let bytes: [UInt8]

    init(key: String, bytes: [UInt8], byteCount: Int) {
        self.key = key
        self.bytes = bytes
        self.byteCount = byteCount
    }

    func read(at offset: Int, into destination: inout MutableRawSpan) throws(CairnError) {
        guard offset >= 0, offset <= byteCount, destination.byteCount <= byteCount - offset else {
            throw CairnError(.incomplete, "the file ends too early", .init(file: key, offset: offset))
        }
        destination.withUnsafeMutableBytes { target in
            for index in target.indices { target[index] = bytes[(offset + index) % bytes.count] }
        }
    }

    func map() throws(CairnError) -> MemoryMapping? { nil }
}
