import CCairnKernels

/// The CRC-32C (Castagnoli) checksum, as specified by RFC 3720 (iSCSI), section 12.1 and appendix B.4.
///
/// It detects every burst of up to 32 wrong bits, and runs at memory speed. It is not a defence against an adversary.
package enum CRC32C {
    /// Returns the checksum of `bytes`, or of what `previous` is the checksum of followed by `bytes`.
    ///
    /// - Parameters:
    ///   - bytes: Any number of bytes, at any alignment.
    ///   - previous: The checksum of the bytes before; 0, the checksum of nothing, to begin.
    package static func checksum(_ bytes: RawSpan, continuing previous: UInt32 = 0) -> UInt32 {
        bytes.withUnsafeBytes { cairn_crc32c(previous, $0.baseAddress, $0.count) }
    }

    /// The checksum by the instructions of `level` (see `cairn_level.h`), so that tests reach every path.
    package static func checksum(_ bytes: RawSpan, continuing previous: UInt32 = 0, level: Int) -> UInt32 {
        bytes.withUnsafeBytes { cairn_crc32c_at_level(CInt(level), previous, $0.baseAddress, $0.count) }
    }

    /// The highest level that this machine runs.
    package static var highestLevel: Int { Int(cairn_instruction_level()) }
}
