import CZlib
import CairnBase

/// Expands raw DEFLATE data (RFC 1951), by zlib.
enum Inflation {
    /// The expanded bytes, or `nil` when the data is no DEFLATE or expands to another size than `byteCount`.
    static func expand(_ source: [UInt8], byteCount: Int) -> [UInt8]? {
        guard source.count <= UInt32.max, byteCount <= UInt32.max else { return nil }
        var result = [UInt8](repeating: 0, count: byteCount)
        var input = source
        var spare: UInt8 = 0
        let isWhole = input.withUnsafeMutableBufferPointer { input in
            result.withUnsafeMutableBufferPointer { output in
                withUnsafeMutablePointer(to: &spare) { spare in
                    var stream = z_stream()
                    guard inflateInit2_(
                        &stream, -15, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK
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
