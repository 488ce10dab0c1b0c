import CZstd
import CairnBase
import CairnStorage

/// Expands zstd frames that follow each other (RFC 8878).
enum ZstdStream {
    private static let blockByteCount = 1 << 20

    /// All bytes of the frames in `file`.
    ///
    /// - Parameter limit: The most bytes that may come out.
    /// - Throws: ``CairnError/Code/corrupted`` for damaged frames, ``CairnError/Code/unsupported`` beyond the limit.
    static func expand(_ file: any StorageFile, limit: Int) throws(CairnError) -> [UInt8] {
        guard let stream = ZSTD_createDStream() else {
            throw CairnError(.inputOutput, "there is no memory to expand zstd", .init(file: file.key))
        }
        defer { ZSTD_freeDStream(stream) }
        var result: [UInt8] = []
        var block = [UInt8](repeating: 0, count: blockByteCount)
        var isWithinFrame = false
        for begin in stride(from: 0, to: file.byteCount, by: blockByteCount) {
            let bytes = try file.bytes(in: begin..<min(file.byteCount, begin + blockByteCount))
            var consumed = 0
            var hasMore = true
            // What does not fit into the block comes out without new input.
            while consumed < bytes.count || hasMore {
                var produced = 0
                let status = bytes.withUnsafeBytes { source in
                    block.withUnsafeMutableBytes { target in
                        var input = ZSTD_inBuffer(src: source.baseAddress, size: source.count, pos: consumed)
                        var output = ZSTD_outBuffer(dst: target.baseAddress, size: target.count, pos: 0)
                        let status = ZSTD_decompressStream(stream, &output, &input)
                        consumed = input.pos
                        produced = output.pos
                        return status
                    }
                }
                guard ZSTD_isError(status) == 0 else {
                    throw CairnError(
                        .corrupted, "a compressed part of the file is damaged", .init(file: file.key, offset: begin))
                }
                isWithinFrame = status != 0
                hasMore = isWithinFrame && produced == block.count
                guard result.count <= limit - produced else {
                    throw CairnError(
                        .unsupported, "a compressed part of the file expands to more than it may",
                        .init(file: file.key, expected: "at most \(limit) bytes"))
                }
                result += block[..<produced]
            }
        }
        guard !isWithinFrame else {
            throw CairnError(
                .incomplete, "a compressed part of the file ends too early",
                .init(file: file.key, found: "\(file.byteCount) bytes"))
        }
        return result
    }
}
