import CZstd
import CairnBase
import CairnStorage
import Synchronization

/// What zstd frames expand to, as a file, of which only the beginning and the end are kept in memory.
///
/// Reading on from where the last read ended goes straight on; a read before that begins anew. An archive is read from
/// its end and then from front to back: all in all it is expanded twice, once of which to find out how long it is.
///
/// `@unchecked Sendable`: `cursor` is only touched under `lock`.
final class ZstdFile: StorageFile, @unchecked Sendable {
    /// Up to this size the expanded bytes are simply kept.
    private static let greatestHeld = 16 << 20
    /// How much of the beginning and of the end is kept of what is larger.
    private static let keptByteCount = 1 << 20
    private static let blockByteCount = 1 << 20

    let key: String
    let byteCount: Int
    private let source: any StorageFile
    private let beginning: [UInt8]
    private let ending: [UInt8]
    private let lock = Mutex(())
    private var cursor: ZstdStream?

    /// What frames expand to: in memory where that is little.
    ///
    /// - Parameters:
    ///   - limit: The most bytes that may come out.
    ///   - name: What to call it in messages.
    /// - Throws: ``CairnError/Code/corrupted`` and ``CairnError/Code/incomplete`` for damaged frames,
    ///   ``CairnError/Code/unsupported`` beyond the limit.
    static func expanding(
        _ source: any StorageFile, limit: Int, name: String
    ) throws(CairnError) -> any StorageFile {
        let stream = try ZstdStream(source)
        var held: [UInt8] = []
        var block = [UInt8](repeating: 0, count: blockByteCount)
        var recent: [[UInt8]] = []
        while true {
            let count = try read(stream, into: &block)
            guard stream.produced <= limit else {
                throw CairnError(
                    .unsupported, "a compressed part of the file expands to more than it may",
                    .init(file: name, expected: "at most \(limit) bytes"))
            }
            if held.count < greatestHeld { held += block[..<count] }
            recent.append(Array(block[..<count]))
            if recent.count > 2 { recent.removeFirst() }
            if count < block.count { break }
        }
        if stream.produced == held.count { return BytesFile(held, name: name) }
        return ZstdFile(
            source, byteCount: stream.produced, beginning: Array(held.prefix(keptByteCount)),
            ending: Array(recent.joined().suffix(keptByteCount)), name: name)
    }

    private init(_ source: any StorageFile, byteCount: Int, beginning: [UInt8], ending: [UInt8], name: String) {
        self.source = source
        self.byteCount = byteCount
        self.beginning = beginning
        self.ending = ending
        key = name
    }

    func map() throws(CairnError) -> MemoryMapping? { nil }

    func read(at offset: Int, into destination: inout MutableRawSpan) throws(CairnError) {
        guard offset >= 0, offset <= byteCount, destination.byteCount <= byteCount - offset else {
            throw CairnError(
                .incomplete, "a compressed part of the file ends too early",
                .init(file: key, found: "\(byteCount) bytes"))
        }
        let failure = destination.withUnsafeMutableBytes { buffer -> CairnError? in
            let endingOffset = byteCount - ending.count
            if offset + buffer.count <= beginning.count {
                buffer.copyBytes(from: beginning[offset..<offset + buffer.count])
                return nil
            }
            if offset >= endingOffset {
                buffer.copyBytes(from: ending[(offset - endingOffset)..<(offset - endingOffset + buffer.count)])
                return nil
            }
            return lock.withLock { _ -> CairnError? in
                do throws(CairnError) {
                    try expand(from: offset, into: buffer)
                    return nil
                } catch {
                    cursor = nil
                    return error
                }
            }
        }
        if let failure { throw failure }
    }

    private func expand(from offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(CairnError) {
        if cursor.map({ $0.produced > offset }) ?? true { cursor = try ZstdStream(source) }
        guard let cursor else { return }
        var skipped = [UInt8](repeating: 0, count: min(Self.blockByteCount, offset - cursor.produced))
        while cursor.produced < offset {
            let count = min(skipped.count, offset - cursor.produced)
            guard try Self.read(cursor, into: &skipped, count) == count else { throw changed() }
        }
        guard try cursor.read(into: buffer) == buffer.count else { throw changed() }
        if cursor.produced == byteCount { self.cursor = nil }
    }

    private static func read(
        _ stream: ZstdStream, into block: inout [UInt8], _ count: Int? = nil
    ) throws(CairnError) -> Int {
        let wanted = count ?? block.count
        let result = block.withUnsafeMutableBytes { bytes -> Result<Int, CairnError> in
            do throws(CairnError) {
                return .success(try stream.read(into: UnsafeMutableRawBufferPointer(rebasing: bytes[..<wanted])))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    private func changed() -> CairnError {
        CairnError(.incomplete, "a compressed part of the file changed while it was read", .init(file: key))
    }
}

/// Expands zstd frames that follow each other (RFC 8878), from their beginning on.
///
/// `@unchecked Sendable`: a stream is only used by one thread at a time, which its owner sees to.
final class ZstdStream: @unchecked Sendable {
    private static let inputByteCount = 256 << 10

    private let source: any StorageFile
    private let stream: OpaquePointer
    private var input: [UInt8] = []
    /// How much of `input` was taken.
    private var taken = 0
    /// Where the input after `input` begins.
    private var nextInput = 0
    private var isWithinFrame = false
    /// Whether more may come out of what was taken.
    private var hasMore = false
    /// How many bytes came out so far.
    private(set) var produced = 0

    /// - Throws: ``CairnError/Code/inputOutput`` without memory.
    init(_ source: any StorageFile) throws(CairnError) {
        guard let stream = ZSTD_createDStream() else {
            throw CairnError(.inputOutput, "there is no memory to expand zstd", .init(file: source.key))
        }
        self.source = source
        self.stream = stream
    }

    deinit { ZSTD_freeDStream(stream) }

    /// Fills as much of `buffer` as there is.
    ///
    /// - Returns: How many bytes came; fewer than asked for only at the end.
    /// - Throws: ``CairnError/Code/corrupted`` for damaged frames, ``CairnError/Code/incomplete`` for a frame that ends
    ///   too early.
    func read(into buffer: UnsafeMutableRawBufferPointer) throws(CairnError) -> Int {
        var count = 0
        while count < buffer.count {
            if taken == input.count, !hasMore {
                guard nextInput < source.byteCount else { break }
                let end = min(source.byteCount, nextInput + Self.inputByteCount)
                input = try source.bytes(in: nextInput..<end)
                (taken, nextInput) = (0, end)
            }
            let status = input.withUnsafeBytes { bytes in
                var from = ZSTD_inBuffer(src: bytes.baseAddress, size: bytes.count, pos: taken)
                var into = ZSTD_outBuffer(
                    dst: buffer.baseAddress.map { $0 + count }, size: buffer.count - count, pos: 0)
                let status = ZSTD_decompressStream(stream, &into, &from)
                hasMore = into.pos == into.size && status != 0
                taken = from.pos
                count += into.pos
                produced += into.pos
                return status
            }
            guard ZSTD_isError(status) == 0 else {
                throw CairnError(
                    .corrupted, "a compressed part of the file is damaged",
                    .init(file: source.key, offset: nextInput - input.count + taken))
            }
            isWithinFrame = status != 0
        }
        guard count == buffer.count || !isWithinFrame else {
            throw CairnError(
                .incomplete, "a compressed part of the file ends too early",
                .init(file: source.key, found: "\(source.byteCount) bytes"))
        }
        return count
    }
}
