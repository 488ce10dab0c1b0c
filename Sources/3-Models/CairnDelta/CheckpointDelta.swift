public import CairnBase
public import CairnCheckpoint
import CairnDigest
public import CairnStorage
import CairnTensor

/// A file that makes one checkpoint of another: the elements that differ, and digests of what it applies to and of what comes
/// out.
///
/// It is a safetensors file with two tensors of bytes, `changes` and `contents`. Docs/Format.md specifies both.
///
/// ```swift
/// try CheckpointDelta.write(from: before, to: after, path: "step-2.delta")
/// let patched = try CheckpointDelta(path: "step-2.delta").applied(to: before)      // reads as `after`
/// ```
public final class CheckpointDelta: Sendable {
    /// How much of the result is in the delta.
    public struct Summary: Sendable, Hashable {
        /// Tensors that are the base's.
        public var equalTensorCount = 0
        /// Tensors of which some elements are the base's.
        public var changedTensorCount = 0
        /// Tensors that are all in the delta: the base has none of the name, type and shape.
        public var newTensorCount = 0
        /// Tensors of the base of which nothing is taken.
        public var removedTensorCount = 0
        /// Values that are new or differ.
        public var setValueCount = 0
        /// Values of the base that the result lacks.
        public var removedValueCount = 0
        /// How many bytes the tensors of the result have.
        public var resultByteCount = 0
        /// How many bytes of changes the delta stores.
        public var storedByteCount = 0
    }

    /// The key in the file's metadata that says what it is.
    package static let metadataKey = "cairn.delta"
    package static let version = "1"
    static let changesName = "changes"
    static let contentsName = "contents"
    /// How many times as long as its compressed bytes the list of tensors may be, beyond a small one.
    static let greatestRatio = 1024
    static let greatestContentsByteCount = 1 << 30

    /// Where it was read from, for messages.
    public let source: String
    package let contents: DeltaContents
    private let file: any StorageFile
    private let changesStart: Int
    private let changesByteCount: Int

    /// Opens a delta and reads what it is of, but not the changes.
    ///
    /// - Throws: ``CairnError/Code/notFound``, ``CairnError/Code/unsupported`` for a file that is no delta or one of a later
    ///   version, ``CairnError/Code/malformed`` and ``CairnError/Code/incomplete`` for a damaged one.
    public init(storage: any Storage, file key: String) throws(CairnError) {
        file = try storage.open(key)
        source = storage.location(of: key)
        let header: SafeTensorsHeader
        do throws(CairnError) {
            header = try SafeTensorsHeader.read(from: file)
        } catch {
            var error = error
            error.context.file = source
            throw error
        }
        guard let version = header.metadata(Self.metadataKey) else {
            throw CairnError(
                .unsupported, "this is not a delta",
                .init(file: source, advice: "name a file that `cairn delta` wrote"))
        }
        guard version == Self.version else {
            throw CairnError(
                .unsupported, "the delta is of another version",
                .init(file: source, expected: Self.version, found: version, advice: "read it with a newer version"))
        }
        let source = self.source
        func place(_ name: String) throws(CairnError) -> Range<Int> {
            guard let entry = header.entries.first(where: { $0.name == name }), entry.scalarType == .u8 else {
                throw CairnError(.malformed, "the delta has no \"\(name)\"", .init(file: source))
            }
            return entry.byteRange.lowerBound + header.dataStart..<entry.byteRange.upperBound + header.dataStart
        }
        let changes = try place(Self.changesName)
        changesStart = changes.lowerBound
        changesByteCount = changes.count
        let packed = try file.bytes(in: place(Self.contentsName))
        contents = try DeltaContents(
            parsing: Self.unpack(packed, file: source), changesByteCount: changes.count, file: source)
    }

    /// Opens the delta at a path.
    ///
    /// - Throws: As ``init(storage:file:)``.
    public convenience init(path: String) throws(CairnError) {
        let (storage, key) = try LocalStorage.locate(path)
        try self.init(storage: storage, file: key)
    }

    /// The checkpoint that comes of a base and this delta. Nothing but the changes that a read needs is read, when it is.
    ///
    /// - Throws: ``CairnError/Code/mismatch``, naming the tensor or value, when the base is not what the delta applies to as far
    ///   as names, types, shapes and values tell, and, of a base that is made by another delta, digests. What elements tell is
    ///   found out when all of a tensor is read: by ``PatchedReader/write(to:progress:)`` and by verifying.
    public func applied(to base: any CheckpointReader) throws(CairnError) -> PatchedReader {
        try PatchedReader(base, self)
    }

    /// What is in it, in numbers.
    public var summary: Summary {
        var summary = Summary()
        for entry in contents.tensors {
            switch entry.change {
            case .equal: summary.equalTensorCount += 1
            case .changed: summary.changedTensorCount += 1
            case .new: summary.newTensorCount += 1
            case .tied: continue
            }
            summary.resultByteCount = summary.resultByteCount.adding(clamped: entry.description.byteCount)
        }
        summary.removedTensorCount = contents.removed.count
        summary.setValueCount = contents.setValues.count
        summary.removedValueCount = contents.removedValues.count
        summary.storedByteCount = changesByteCount
        return summary
    }
}

extension CheckpointDelta {
    /// The table of a tensor's chunks.
    func table(of entry: DeltaContents.Entry) throws(CairnError) -> ChunkTable {
        let end = entry.bytes.upperBound - entry.chunkCount * ChunkTable.entryByteCount
        let bytes = try file.bytes(in: changesStart + end..<changesStart + entry.bytes.upperBound)
        do throws(CairnError) {
            return try ChunkTable(
                bytes, of: TensorExtent(byteCount: entry.description.byteCount, entry.description.scalarType),
                changes: entry.bytes.lowerBound, end)
        } catch {
            throw error.adding(.init(file: source, tensor: entry.description.name))
        }
    }

    /// The stored changes of a chunk, compared with their checksum.
    func changes(_ chunk: ChunkTable.Chunk, of tensor: String) throws(CairnError) -> [UInt8] {
        let begin = changesStart + chunk.stored.lowerBound
        let bytes = try file.bytes(in: begin..<changesStart + chunk.stored.upperBound)
        let found = CRC32C.checksum(bytes.span.bytes)
        guard found == chunk.checksum else {
            throw CairnError(
                .corrupted, "the delta's changes differ from their checksum",
                .init(
                    file: source, tensor: tensor, offset: begin, expected: "\(chunk.checksum)", found: "\(found)",
                    advice: "take another copy of the delta"))
        }
        return bytes
    }

    /// How many numbers of tensors that the base has too are others in the result: elements, or parts of complex ones.
    package func changedNumberCount() throws(CairnError) -> Int {
        var count = 0
        for entry in contents.tensors {
            guard case .changed = entry.change else { continue }
            let (name, type) = (entry.description.name, entry.description.scalarType)
            for chunk in try table(of: entry).chunks where !chunk.stored.isEmpty {
                let stored = try changes(chunk, of: name)
                do throws(CairnError) {
                    count += try DecodedChanges.with(stored, chunkByteCount: chunk.bytes.count, type) { $0.changedCount }
                } catch {
                    throw error.adding(.init(file: source, tensor: name))
                }
            }
        }
        return count
    }

    /// The contents as they are stored: their length in 64 bits, and one zstd frame, or the bytes where that is as long.
    static func pack(_ contents: [UInt8]) -> [UInt8] {
        var length: [UInt8] = []
        length.append(littleEndian: UInt64(contents.count))
        let packed = [UInt8](unsafeUninitializedCapacity: contents.count) { buffer, used in
            used = contents.withUnsafeBytes { bytes in
                ChunkWorkspace.with {
                    ChunkCompression.compress(
                        bytes, .u8, .zstdPlanes, level: 9, into: UnsafeMutableRawBufferPointer(buffer), $0)
                } ?? 0
            }
        }
        return length + (packed.isEmpty ? contents : packed)
    }

    private static func unpack(_ packed: [UInt8], file: String) throws(CairnError) -> [UInt8] {
        let head = 8
        guard packed.count >= head else {
            throw CairnError(.malformed, "the delta's contents are cut short", .init(file: file))
        }
        let stored = packed.count - head
        let length = packed.littleEndian(UInt64.self, at: 0)
        if length == UInt64(stored) { return Array(packed.dropFirst(head)) }
        guard length <= UInt64(min(greatestContentsByteCount, max(1 << 20, stored.multiplied(checked: greatestRatio) ?? .max)))
        else {
            throw CairnError(
                .malformed, "the delta's contents claim to be too long",
                .init(file: file, found: "\(length) bytes of \(stored)"))
        }
        var contents = [UInt8](repeating: 0, count: Int(length))
        let isWhole = contents.withUnsafeMutableBytes { room in
            packed.withUnsafeBytes { bytes in
                ChunkWorkspace.with {
                    ChunkCompression.expand(
                        UnsafeRawBufferPointer(rebasing: bytes[head...]), .u8, .zstdPlanes, into: room, $0)
                }
            }
        }
        guard isWhole else {
            throw CairnError(
                .corrupted, "the delta's contents do not expand to their length",
                .init(file: file, expected: "\(length) bytes", advice: "take another copy of the delta"))
        }
        return contents
    }
}
