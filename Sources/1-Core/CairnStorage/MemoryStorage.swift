public import CairnBase

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Objects in memory: for tests, and as the fastest tier of a snapshot. Nothing survives the process.
public final class MemoryStorage: Storage {
    public let distinction: Distinction? = Distinction()
    private let objects = Monitor<[String: MemoryObject]>([:])

    /// An empty storage.
    public init() {}

    public func open(_ key: String) throws(CairnError) -> any StorageFile {
        try StorageKey.validate(key)
        guard let object = objects.read({ $0[key] }) else {
            throw CairnError(.notFound, "no such object", .init(file: key))
        }
        return MemoryFile(key: key, object: object)
    }

    public func create(_ key: String, byteCount: Int?) throws(CairnError) -> any StorageWriter {
        try StorageKey.validate(key)
        try StorageKey.validate(offset: 0, byteCount: byteCount ?? 0, of: key)
        return MemoryWriter(key: key) { [self] bytes in store(bytes, as: key) }
    }

    public func publish(_ bytes: [UInt8], as key: String) throws(CairnError) {
        try StorageKey.validate(key)
        store(bytes, as: key)
    }

    public func list(_ prefix: String) throws(CairnError) -> [StorageEntry] {
        try StorageKey.validate(prefix: prefix)
        return objects.read { objects in
            objects.compactMap { key, object in
                guard StorageKey.has(key, prefix: prefix) else { return nil }
                return StorageEntry(key: key, byteCount: object.bytes.count, modified: object.modified)
            }
        }.sorted { StorageKey.precedes($0.key, $1.key) }
    }

    public func delete(_ keys: [String]) throws(CairnError) {
        for key in keys { try StorageKey.validate(key) }
        objects.change { objects in
            for key in keys { objects[key] = nil }
        }
    }

    private func store(_ bytes: [UInt8], as key: String) {
        let object = MemoryObject(bytes: bytes, modified: currentTime())
        objects.change { $0[key] = object }
    }

    private func currentTime() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}

/// A finished object.
private final class MemoryObject: Sendable {
    let bytes: [UInt8]
    let modified: Int64

    init(bytes: [UInt8], modified: Int64) {
        self.bytes = bytes
        self.modified = modified
    }
}

private final class MemoryFile: StorageFile {
    let key: String
    private let object: MemoryObject

    init(key: String, object: MemoryObject) {
        self.key = key
        self.object = object
    }

    var byteCount: Int { object.bytes.count }

    func read(at offset: Int, into destination: inout MutableRawSpan) throws(CairnError) {
        try StorageKey.validate(offset: offset, of: key)
        let count = destination.byteCount
        let available = max(0, byteCount - offset)
        guard count <= available else {
            throw StorageKey.shortRead(
                of: key, at: offset, expected: count, found: available, byteCount: byteCount)
        }
        guard count > 0 else { return }
        destination.withUnsafeMutableBytes { target in
            object.bytes.withUnsafeBytes { source in
                target.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[offset..<offset + count]))
            }
        }
    }

    func map() throws(CairnError) -> MemoryMapping? { nil }
}

private final class MemoryWriter: StorageWriter {
    let key: String
    private let store: @Sendable ([UInt8]) -> Void
    private struct Buffer {
        var bytes: [UInt8] = []
        /// Until finished or discarded.
        var isOpen = true
    }

    private let buffer = Monitor(Buffer())

    init(key: String, store: @escaping @Sendable ([UInt8]) -> Void) {
        self.key = key
        self.store = store
    }

    func write(_ bytes: RawSpan, at offset: Int) throws(CairnError) {
        try StorageKey.validate(offset: offset, of: key)
        guard let end = offset.adding(checked: bytes.byteCount) else {
            throw CairnError(.invalidArgument, "the range ends beyond any file", .init(file: key, offset: offset))
        }
        guard bytes.byteCount > 0 else { return }
        let isOpen = bytes.withUnsafeBytes { source in
            buffer.change { buffer in
                if buffer.isOpen { MemoryWriter.copy(source, at: offset, end: end, into: &buffer.bytes) }
                return buffer.isOpen
            }
        }
        if !isOpen { throw closed() }
    }

    func startWriteback(at offset: Int, byteCount: Int) {}

    func finish(byteCount: Int) throws(CairnError) {
        try StorageKey.validate(offset: 0, byteCount: byteCount, of: key)
        guard var bytes = close() else { throw closed() }
        if bytes.count > byteCount {
            bytes.removeLast(bytes.count - byteCount)
        } else {
            bytes.append(contentsOf: repeatElement(0, count: byteCount - bytes.count))
        }
        store(bytes)
    }

    func discard() {
        _ = close()
    }

    /// Takes the bytes; `nil` when that was done before.
    private func close() -> [UInt8]? {
        buffer.change { buffer in
            guard buffer.isOpen else { return nil }
            defer { buffer = Buffer(isOpen: false) }
            return buffer.bytes
        }
    }

    private static func copy(_ source: UnsafeRawBufferPointer, at offset: Int, end: Int, into buffer: inout [UInt8]) {
        if buffer.count < end { buffer.append(contentsOf: repeatElement(0, count: end - buffer.count)) }
        buffer.withUnsafeMutableBytes { target in
            UnsafeMutableRawBufferPointer(rebasing: target[offset..<end]).copyMemory(from: source)
        }
    }

    private func closed() -> CairnError {
        CairnError(.invalidArgument, "the writer was finished or discarded before", .init(file: key))
    }
}
