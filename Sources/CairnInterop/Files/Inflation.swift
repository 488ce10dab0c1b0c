import CZlib
import CairnBase

/// Expands DEFLATE data, by zlib.
package enum Inflation {
    /// The most that DEFLATE expands by.
    package static let greatestRatio = 1032

    /// What raw data (RFC 1951) expands to, or `nil` when it is damaged or expands to another size than `byteCount`.
    static func expand(_ source: [UInt8], byteCount: Int) -> [UInt8]? {
        expand(source, byteCount: byteCount, windowBits: -15)
    }

    /// What data with zlib's header and checksum (RFC 1950) expands to, or `nil` as above.
    package static func expandZlib(_ source: [UInt8], byteCount: Int) -> [UInt8]? {
        expand(source, byteCount: byteCount, windowBits: 15)
    }

    private static func expand(_ source: [UInt8], byteCount: Int, windowBits: Int32) -> [UInt8]? {
        guard source.count <= UInt32.max, byteCount <= UInt32.max, byteCount / greatestRatio <= source.count else {
            return nil
        }
        var result = [UInt8](repeating: 0, count: byteCount)
        var input = source
        var spare: UInt8 = 0
        let isWhole = input.withUnsafeMutableBufferPointer { input in
            result.withUnsafeMutableBufferPointer { output in
                withUnsafeMutablePointer(to: &spare) { spare in
                    var stream = z_stream()
                    guard inflateInit2_(
                        &stream, windowBits, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK
                    else { return false }
                    defer { inflateEnd(&stream) }
                    stream.next_in = input.baseAddress
                    stream.avail_in = UInt32(input.count)
                    // Nothing expected: a byte of room shows whether something comes all the same.
                    stream.next_out = output.isEmpty ? spare : output.baseAddress
                    stream.avail_out = output.isEmpty ? 1 : UInt32(output.count)
                    return inflate(&stream, Z_FINISH) == Z_STREAM_END && Int(stream.total_out) == byteCount
                }
            }
        }
        return isWhole ? result : nil
    }
}
