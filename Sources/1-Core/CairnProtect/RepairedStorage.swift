public import CairnBase
import CairnCheckpoint
public import CairnStorage
import Synchronization

/// Another storage as it was protected: files that are lost, cut off or damaged read as they were, block by block, and nothing is
/// written. So any reader loads from a damaged checkpoint.
///
/// ```swift
/// let store = CheckpointStore(storage: RepairedStorage(LocalStorage(root: "runs/kjv")), name: "runs/kjv")
/// let state = try store.load(step: 400)
/// ```
///
/// Every block of a protected file is checked when it is read; what cannot be rebuilt is an error of that read. Files that are not
/// protected are read as they are. Which files are protected is found out once for each folder.
public final class RepairedStorage: Storage {
    private let storage: any Storage
    private let onRepair: @Sendable (_ location: String) -> Void
    private let folders = Mutex<[String: [ProtectedSet]]>([:])
    private let reported = Mutex<Set<String>>([])

    private struct ProtectedSet: Sendable {
        let blocks: ProtectedBlocks
        /// Whether nothing is known to be beyond repair, by the lengths of the files.
        let isListed: Bool
    }

    public var isLocal: Bool { storage.isLocal }
    /// What is known against the damaged files is not known against these.
    public let distinction: Distinction? = Distinction()

    /// - Parameter onRepair: Called once for each file of which something is not as it was protected, when that is first met.
    public init(_ storage: any Storage, onRepair: @escaping @Sendable (_ location: String) -> Void = { _ in }) {
        self.storage = storage
        self.onRepair = onRepair
    }

    public func location(of key: String) -> String { storage.location(of: key) }

    public func open(_ key: String) throws(CairnError) -> any StorageFile {
        try StorageKey.validate(key)
        for folder in Self.folders(above: key) {
            for blocks in try protected(folder).map(\.blocks) {
                let name = String(key.dropFirst(folder.count))
                guard let file = blocks.layout.files.firstIndex(where: { ExactString($0.name) == ExactString(name) }) else {
                    continue
                }
                let found = blocks.files[file]?.byteCount
                if found != blocks.layout.files[file].byteCount { report(key) }
                return RepairedFile(key: key, file: file, blocks: blocks) { [self] in report(key) }
            }
        }
        return try storage.open(key)
    }

    public func list(_ prefix: String) throws(CairnError) -> [StorageEntry] {
        try StorageKey.validate(prefix: prefix)
        let folder = prefix.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(prefix[...$0]) } ?? ""
        var entries: [String: StorageEntry] = [:]
        for entry in try storage.list(folder) { entries[entry.key] = entry }
        // Parity of a folder may be above or below the one that is listed.
        var protecting = Set(Self.folders(above: folder + "x"))
        for key in entries.keys where Protection.isParity(key) {
            protecting.insert(String(key.dropLast(Self.name(key).count)))
        }
        for place in protecting {
            for set in try protected(place) where set.isListed {
                let blocks = set.blocks
                let time = (0..<blocks.index.parityCount).compactMap { entries[blocks.key(ofParity: $0)]?.modified }.max() ?? 0
                for file in blocks.layout.files {
                    let key = place + file.name
                    entries[key] = StorageEntry(
                        key: key, byteCount: file.byteCount, modified: entries[key]?.modified ?? time)
                }
            }
        }
        return entries.values.filter { StorageKey.has($0.key, prefix: prefix) }
            .sorted { StorageKey.precedes($0.key, $1.key) }
    }

    /// Throws ``CairnError/Code/accessDenied``: nothing is written.
    public func create(_ key: String, byteCount: Int?) throws(CairnError) -> any StorageWriter { throw readOnly(key) }

    /// Throws ``CairnError/Code/accessDenied``: nothing is written.
    public func publish(_ bytes: [UInt8], as key: String) throws(CairnError) { throw readOnly(key) }

    /// Throws ``CairnError/Code/accessDenied``: nothing is deleted.
    public func delete(_ keys: [String]) throws(CairnError) { throw readOnly(keys.first ?? "") }

    private func readOnly(_ key: String) -> CairnError {
        CairnError(
            .accessDenied, "a storage that repairs what it reads does not write",
            .init(file: location(of: key), advice: "write to the storage behind it"))
    }

    private func report(_ key: String) {
        if reported.withLock({ $0.insert(key).inserted }) { onRepair(location(of: key)) }
    }

    private func protected(_ folder: String) throws(CairnError) -> [ProtectedSet] {
        if let known = folders.withLock({ $0[folder] }) { return known }
        var found: [ProtectedSet] = []
        let sets = try Protection.current(in: storage, folder: folder, storage.list(folder).map(\.key))
        // Of several saves without a manifest it is not known which is meant.
        let isUnclear = sets.count { $0.saveDigits != nil } > 1
        for one in sets where !isUnclear || one.saveDigits == nil {
            let blocks = try one.open()
            found.append(ProtectedSet(blocks: blocks, isListed: try ProtectionScan(measuring: blocks).report.isRepairable))
        }
        let made = found
        return folders.withLock { folders in
            if let known = folders[folder] { return known }
            folders[folder] = made
            return made
        }
    }

    /// Where parity of a file may be: its folder and those above.
    private static func folders(above key: String) -> [String] {
        var folders: [String] = []
        var rest = key[...]
        while let slash = rest.lastIndex(of: "/") {
            folders.append(String(rest[...slash]))
            rest = rest[..<slash]
        }
        return folders + [""]
    }

    private static func name(_ key: String) -> String {
        key.lastIndex(of: "/").map { String(key[key.index(after: $0)...]) } ?? key
    }
}

/// A protected file as it was.
private final class RepairedFile: StorageFile {
    let key: String
    private let file: Int
    private let blocks: ProtectedBlocks
    private let onRepair: @Sendable () -> Void
    /// What was read last: readers of headers ask for a few bytes after the other.
    private let last = Mutex<(segment: StripeLayout.Segment, bytes: [UInt8])?>(nil)

    init(key: String, file: Int, blocks: ProtectedBlocks, onRepair: @escaping @Sendable () -> Void) {
        self.key = key
        self.file = file
        self.blocks = blocks
        self.onRepair = onRepair
    }

    var byteCount: Int { blocks.layout.files[file].byteCount }

    func read(at offset: Int, into destination: inout MutableRawSpan) throws(CairnError) {
        try StorageKey.validate(offset: offset, of: key)
        let count = destination.byteCount
        let available = max(0, byteCount - offset)
        guard count <= available else {
            throw StorageKey.shortRead(of: key, at: offset, expected: count, found: available, byteCount: byteCount)
        }
        guard count > 0 else { return }
        for segment in blocks.layout.segments(ofFile: file, in: offset..<offset + count) {
            let range = segment.offset..<segment.offset + segment.blockRange.count
            let wanted = range.clamped(to: offset..<offset + count)
            var part = destination.part(wanted.lowerBound - offset..<wanted.upperBound - offset)
            if wanted == range {
                if try blocks.read(segment, into: &part) { continue }
                try copy(try rebuilt(segment), 0..<range.count, to: &part)
            } else {
                let begin = wanted.lowerBound - range.lowerBound
                try copy(try whole(segment), begin..<begin + wanted.count, to: &part)
            }
        }
    }

    func map() throws(CairnError) -> MemoryMapping? { nil }

    private func copy(_ bytes: [UInt8], _ range: Range<Int>, to destination: inout MutableRawSpan) throws(CairnError) {
        bytes.withUnsafeBytes { source in
            destination.withUnsafeMutableBytes { $0.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[range])) }
        }
    }

    /// A segment of which a part is wanted.
    private func whole(_ segment: StripeLayout.Segment) throws(CairnError) -> [UInt8] {
        if let last = last.withLock({ $0 }), last.segment == segment { return last.bytes }
        var bytes = [UInt8](repeating: 0, count: segment.blockRange.count)
        var span = bytes.mutableSpan
        var raw = span.mutableBytes
        if try !blocks.read(segment, into: &raw) { return try rebuilt(segment) }
        let found = bytes
        last.withLock { $0 = (segment, found) }
        return found
    }

    private func rebuilt(_ segment: StripeLayout.Segment) throws(CairnError) -> [UInt8] {
        if let last = last.withLock({ $0 }), last.segment == segment { return last.bytes }
        onRepair()
        let buffer = blocks.makeBuffer()
        do throws(CairnError) {
            try blocks.rebuild([segment.column], ofStripe: segment.stripe, in: buffer)
        } catch {
            throw CairnError(
                error.code, error.message,
                .init(
                    file: key, offset: segment.offset, expected: error.context.expected, found: error.context.found,
                    advice: error.context.advice))
        }
        let bytes = buffer.read(row: segment.column, segment.blockRange) { span in span.withUnsafeBytes { Array($0) } }
        last.withLock { $0 = (segment, bytes) }
        return bytes
    }
}
