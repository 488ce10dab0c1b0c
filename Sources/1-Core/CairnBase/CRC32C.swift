import CCairnKernels

/// The CRC-32C (Castagnoli) checksum, as specified by RFC 3720 (iSCSI), section 12.1 and appendix B.4.
///
/// It detects every burst of up to 32 wrong bits, and runs at memory speed. It is not a defence against an adversary.
public enum CRC32C {
    /// Returns the checksum of `bytes`, or of what `previous` is the checksum of followed by `bytes`.
    ///
    /// - Parameters:
    ///   - bytes: Any number of bytes, at any alignment.
    ///   - previous: The checksum of the bytes before; 0, the checksum of nothing, to begin.
    public static func checksum(_ bytes: RawSpan, continuing previous: UInt32 = 0) -> UInt32 {
        bytes.withUnsafeBytes { cairn_crc32c(previous, $0.baseAddress, $0.count) }
    }

    /// Copies bytes and returns their checksum, faster than one after the other: from 1 MiB on the copy bypasses the
    /// caches.
    ///
    /// - Parameters:
    ///   - source: The bytes to copy.
    ///   - destination: As many bytes as `source` has.
    ///   - previous: The checksum of the bytes before; 0, the checksum of nothing, to begin.
    public static func copy(
        _ source: RawSpan, into destination: inout MutableRawSpan, continuing previous: UInt32 = 0
    ) -> UInt32 {
        copy(source, into: &destination, continuing: previous, level: Int(CAIRN_LEVEL_HIGHEST))
    }

    /// Returns the checksum of A followed by B without reading either, in time logarithmic in the length of B.
    ///
    /// - Parameters:
    ///   - a: The checksum of A.
    ///   - b: The checksum of B.
    ///   - byteCountOfB: The length of B, not negative.
    public static func combine(_ a: UInt32, _ b: UInt32, byteCountOfB: Int) -> UInt32 {
        precondition(byteCountOfB >= 0, "A length must not be negative.")
        return cairn_crc32c_combine(a, b, UInt64(byteCountOfB))
    }

    /// The checksum by the instructions of `level` (see `cairn_level.h`), so that tests reach every path.
    package static func checksum(_ bytes: RawSpan, continuing previous: UInt32 = 0, level: Int) -> UInt32 {
        bytes.withUnsafeBytes { cairn_crc32c_at_level(CInt(level), previous, $0.baseAddress, $0.count) }
    }

    /// The copy by the instructions of `level`.
    package static func copy(
        _ source: RawSpan, into destination: inout MutableRawSpan, continuing previous: UInt32 = 0, level: Int
    ) -> UInt32 {
        precondition(source.byteCount == destination.byteCount, "Source and destination of a copy differ in length.")
        return source.withUnsafeBytes { from in
            destination.withUnsafeMutableBytes { to in
                guard let target = to.baseAddress, let origin = from.baseAddress else { return previous }
                return cairn_copy_crc32c(CInt(level), target, origin, from.count, previous)
            }
        }
    }

    /// The highest level that this machine runs.
    package static var highestLevel: Int { Int(cairn_instruction_level()) }
}
