public import CairnBase
import Synchronization

/// Where checkpoints live: named objects of bytes with ranged reads, positioned writes and one atomic commit.
///
/// Keys are relative paths with "/" between their components ("step-00000400/manifest.json"). A key that is empty,
/// absolute, holds NUL or has an empty component, "." or ".." is refused with `.invalidArgument`.
///
/// The order in which a checkpoint is written (data with ``create(_:byteCount:)`` and
/// ``StorageWriter/finish(byteCount:)``, then its manifest with ``publish(_:as:)``) follows Pillai et al., "All File
/// Systems Are Not Created Equal", OSDI 2014.
public protocol Storage: Sendable {
    /// Opens an object for ranged reads. Throws `.notFound` when there is no such object.
    func open(_ key: String) throws(CairnError) -> any StorageFile

    /// Starts a new object, which appears under its key when ``StorageWriter/finish(byteCount:)`` returns.
    ///
    /// An object that already has that key stays until then and is replaced as a whole: a reader that holds the old one open or
    /// mapped keeps its bytes. `byteCount` is a hint of the final size in bytes: space is reserved where the storage
    /// can do so, and the call throws `.noSpace` when there is too little.
    func create(_ key: String, byteCount: Int?) throws(CairnError) -> any StorageWriter

    /// Writes a small object atomically and durably.
    ///
    /// A reader sees the old object or the whole new one, also after a crash; on return the bytes, the name and the
    /// directories above it are durable. On an error the old object is there, or the new one if the failure came after
    /// the atomic step, never a mix.
    func publish(_ bytes: [UInt8], as key: String) throws(CairnError)

    /// Every object whose key begins with `prefix` (a plain string prefix such as "step-00000400/"), sorted by the
    /// UTF-8 bytes of the keys.
    ///
    /// Includes what crashed writers left behind, so that a collector sees it: ``StorageEntry/isTemporary``.
    func list(_ prefix: String) throws(CairnError) -> [StorageEntry]

    /// Whether calls reach the device from the calling thread: a file system of this machine. Others may start threads.
    var isLocal: Bool { get }

    /// What tells this storage from others that call different objects by the same ``location(of:)``; `nil` where none do.
    var distinction: Distinction? { get }

    /// What to call an object, or the objects that begin with a prefix, in messages: a path where there is one.
    func location(of key: String) -> String

    /// Deletes objects, durably on return and in no particular order. A missing one is not an error.
    ///
    /// Directories that hold nothing any more are removed too. When one object cannot be deleted the others still are,
    /// and the first error is thrown.
    func delete(_ keys: [String]) throws(CairnError)
}

extension Storage {
    public var isLocal: Bool { false }

    public var distinction: Distinction? { nil }

    /// The key itself.
    public func location(of key: String) -> String { key }
}

/// One object as a listing shows it.
public struct StorageEntry: Sendable, Hashable {
    /// The object's name.
    public var key: String
    /// Its size in bytes.
    public var byteCount: Int
    /// When it was last written, in nanoseconds since 1970; 0 if unknown.
    public var modified: Int64

    public init(key: String, byteCount: Int, modified: Int64) {
        self.key = key
        self.byteCount = byteCount
        self.modified = modified
    }

    /// Whether this is an object that was never finished: one being written now, or what a crashed writer left.
    public var isTemporary: Bool { StorageKey.isTemporary(key) }
}

/// An object opened for ranged reads. May be used from several threads at once.
public protocol StorageFile: AnyObject, Sendable {
    /// The key it was opened with.
    var key: String { get }
    /// Its size in bytes when it was opened.
    var byteCount: Int { get }

    /// Fills `destination` with the bytes from `offset` on.
    ///
    /// Throws `.incomplete` when the object ends too early, naming the offset, the expected and the found byte count.
    func read(at offset: Int, into destination: inout MutableRawSpan) throws(CairnError)

    /// The whole object mapped read-only, backed by the page cache, or `nil` where the storage cannot map.
    func map() throws(CairnError) -> MemoryMapping?
}

/// An object being written.
///
/// A writer that failed once stays failed: ``finish(byteCount:)`` then throws that first error, because bytes that an
/// operating system failed to write are gone from its cache and a second attempt would only seem to succeed.
/// A writer that is released without ``finish(byteCount:)`` discards its object.
public protocol StorageWriter: AnyObject, Sendable {
    /// The key the object will have.
    var key: String { get }

    /// How many writes at once bring out what the storage can do.
    ///
    /// More than the machine has processors where a write mostly waits for the device. The number of processors if not
    /// implemented.
    var usefulConcurrency: Int { get }

    /// Writes `bytes` at `offset`. Several threads may write disjoint ranges at once. Gaps read as zeros.
    func write(_ bytes: RawSpan, at offset: Int) throws(CairnError)

    /// Starts moving what was written of a range to the device without waiting: a hint that may do nothing.
    func startWriteback(at offset: Int, byteCount: Int)

    /// Sets the final length in bytes, makes bytes, name and new directories durable, and closes.
    func finish(byteCount: Int) throws(CairnError)

    /// Gives up: closes, and removes what was written as far as possible. Harmless after ``finish(byteCount:)``.
    func discard()
}

extension StorageWriter {
    /// The number of processors.
    public var usefulConcurrency: Int { ThreadPool.processorCount }
}

extension Storage {
    /// Reads a whole object into memory.
    ///
    /// Throws `.notFound` when there is none, and `.malformed` when it is larger than `limit` bytes: what should be
    /// small is not worth exhausting the memory for.
    public func readAll(_ key: String, limit: Int = .max) throws(CairnError) -> [UInt8] {
        let file = try open(key)
        guard file.byteCount <= limit else {
            throw CairnError(
                .malformed, "the file is larger than it can be",
                .init(file: key, expected: "at most \(limit) bytes", found: "\(file.byteCount) bytes"))
        }
        return try file.bytes(in: 0..<file.byteCount)
    }
}

extension StorageFile {
    /// Reads the bytes of `range` into memory. Throws `.incomplete`, before allocating, when the object ends too early.
    public func bytes(in range: Range<Int>) throws(CairnError) -> [UInt8] {
        try StorageKey.validate(offset: range.lowerBound, of: key)
        guard range.upperBound <= byteCount else {
            let found = max(0, byteCount - range.lowerBound)
            throw StorageKey.shortRead(
                of: key, at: range.lowerBound, expected: range.count, found: found, byteCount: byteCount)
        }
        var bytes = [UInt8](repeating: 0, count: range.count)
        var span = bytes.mutableSpan
        var raw = span.mutableBytes
        try read(at: range.lowerBound, into: &raw)
        return bytes
    }
}

extension StorageWriter {
    /// Writes an array of bytes at `offset`. Several threads may write disjoint ranges at once.
    public func write(_ bytes: [UInt8], at offset: Int) throws(CairnError) {
        try write(bytes.span.bytes, at: offset)
    }
}

/// The rules of keys that every storage shares.
package enum StorageKey {
    /// Between an object's key and the random part of the name under which it is written.
    private static let temporaryMark = ".cairn-partial-"

    /// The name under which the object `key` is written before it is complete: it begins with the key, so that listings
    /// by prefix show it.
    package static func temporary(for key: String, token: UInt64) -> String {
        key + temporaryMark + String(token, radix: 36)
    }

    /// Whether `key` names an object that was not finished.
    package static func isTemporary(_ key: String) -> Bool {
        let name = key.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).last ?? key.utf8[...]
        let mark = Array(temporaryMark.utf8)
        guard name.count > mark.count else { return false }
        return name.indices.contains { name[$0...].starts(with: mark) }
    }

    /// Throws `.invalidArgument` unless `key` is a relative path that stays below the root.
    package static func validate(_ key: String) throws(CairnError) {
        if let flaw = flaw(of: key) { throw refusal(of: key, flaw) }
    }

    /// Throws `.invalidArgument` unless keys can begin with `prefix`.
    package static func validate(prefix: String) throws(CairnError) {
        guard let slash = prefix.utf8.lastIndex(of: UInt8(ascii: "/")) else {
            if prefix.utf8.contains(0) { throw refusal(of: prefix, "contains NUL") }
            return
        }
        if prefix.utf8[slash...].contains(0) { throw refusal(of: prefix, "contains NUL") }
        if let flaw = flaw(of: String(prefix[..<slash])) { throw refusal(of: prefix, flaw) }
    }

    /// Whether `key` begins with `prefix`, byte for byte.
    package static func has(_ key: String, prefix: String) -> Bool {
        key.utf8.starts(with: prefix.utf8)
    }

    /// The order of listings: by UTF-8 bytes, as object stores have it.
    package static func precedes(_ left: String, _ right: String) -> Bool {
        left.utf8.lexicographicallyPrecedes(right.utf8)
    }

    /// Throws `.invalidArgument` for an offset or a byte count below zero.
    package static func validate(offset: Int, byteCount: Int = 0, of key: String) throws(CairnError) {
        if offset < 0 { throw CairnError(.invalidArgument, "negative offset", .init(file: key, offset: offset)) }
        if byteCount < 0 {
            throw CairnError(.invalidArgument, "negative byte count", .init(file: key, found: "\(byteCount)"))
        }
    }

    /// The error of a read that met the end of the object too early.
    package static func shortRead(
        of file: String, at offset: Int, expected: Int, found: Int, byteCount: Int
    ) -> CairnError {
        CairnError(
            .incomplete, "the file ends too early: it has \(byteCount) bytes",
            .init(
                file: file, offset: offset, expected: "\(expected) bytes", found: "\(found) bytes",
                advice: "it was cut short or is still being written; use another copy or an older checkpoint"))
    }

    private static func flaw(of key: String) -> String? {
        if key.isEmpty { return "is empty" }
        if key.utf8.first == UInt8(ascii: "/") { return "is an absolute path" }
        for component in key.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false) {
            if component.isEmpty { return "has an empty component" }
            if component.elementsEqual(".".utf8) || component.elementsEqual("..".utf8) {
                return "has the component \".\" or \"..\""
            }
            if component.contains(0) { return "contains NUL" }
        }
        return nil
    }

    private static func refusal(of key: String, _ flaw: String) -> CairnError {
        CairnError(
            .invalidArgument, "the storage key \(flaw)",
            .init(found: key.debugDescription, advice: "use a relative path such as \"step-00000400/manifest.json\""))
    }
}

/// Tells apart storages and disks that call different objects by the same names, as those in memory do: no two are equal. What
/// is known of one must not be believed of another, not even of one that has its address when it is gone.
public struct Distinction: Sendable, Hashable {
    private static let last = Atomic(0)
    private let number = Self.last.add(1, ordering: .relaxed).newValue

    public init() {}
}
