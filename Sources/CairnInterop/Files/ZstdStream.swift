import CZstd
import CairnBase
import CairnStorage

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
