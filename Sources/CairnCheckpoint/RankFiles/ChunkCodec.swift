import CZstd
import CairnBase
import CairnTensor

/// How the bytes of a fragment's chunks are stored.
package enum ChunkCodec: String, Sendable, Hashable {
    /// As they are.
    case raw
    /// Split into planes by significance, then one zstd frame a chunk (RFC 8878), where that is smaller; else as they are.
    case zstdPlanes = "zstd-planes"
}

/// Compresses and expands single chunks.
///
/// Splitting floats into planes puts the bytes that hardly vary (sign and exponent) next to each other, which is where
/// weights compress at all.
enum ChunkCompression {
    /// The chunk compressed, or `nil` when that would save less than one part in 32.
    static func compress(_ chunk: RawSpan, _ scalarType: ScalarType, level: Int) -> [UInt8]? {
        let planes = split(chunk, elementWidth: planeWidth(scalarType))
        let worthwhile = chunk.byteCount - chunk.byteCount / 32
        var output = [UInt8](repeating: 0, count: ZSTD_compressBound(planes.count))
        let size = output.withUnsafeMutableBytes { target in
            planes.withUnsafeBytes { source in
                ZSTD_compress(target.baseAddress, target.count, source.baseAddress, source.count, Int32(level))
            }
        }
        guard ZSTD_isError(size) == 0, size < worthwhile else { return nil }
        output.removeLast(output.count - size)
        return output
    }

    /// Expands a frame that ``compress(_:_:level:)`` made to exactly the size of `chunk`; `false` when it is not such a frame.
    static func expand(_ stored: RawSpan, _ scalarType: ScalarType, into chunk: inout MutableRawSpan) -> Bool {
        let width = planeWidth(scalarType)
        let byteCount = chunk.byteCount
        func decompress(_ target: UnsafeMutableRawBufferPointer) -> Bool {
            stored.withUnsafeBytes { source in
                ZSTD_decompress(target.baseAddress, target.count, source.baseAddress, source.count) == byteCount
            }
        }
        if width == 1 { return chunk.withUnsafeMutableBytes { decompress($0) } }
        var planes = [UInt8](repeating: 0, count: byteCount)
        guard planes.withUnsafeMutableBytes({ decompress($0) }) else { return false }
        BytePlanes.join(planes.span.bytes, elementWidth: width, into: &chunk)
        return true
    }

    private static func split(_ chunk: RawSpan, elementWidth: Int) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: chunk.byteCount) { buffer, count in
            var target = UnsafeMutableRawBufferPointer(buffer).mutableBytes
            if elementWidth == 1 {
                chunk.withUnsafeBytes { source in
                    if let base = source.baseAddress, let start = buffer.baseAddress {
                        UnsafeMutableRawPointer(start).copyMemory(from: base, byteCount: source.count)
                    }
                }
            } else {
                BytePlanes.split(chunk, elementWidth: elementWidth, into: &target)
            }
            count = chunk.byteCount
        }
    }

    /// The width of the numbers inside an element: both parts of a complex number are split alike.
    private static func planeWidth(_ scalarType: ScalarType) -> Int {
        (scalarType.byteWidth ?? 1) / (scalarType.isComplex ? 2 : 1)
    }
}
