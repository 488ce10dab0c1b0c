import CZlib

/// The checksum of zip archives, by zlib.
enum CRC32 {
    /// The checksum of `bytes`.
    static func checksum(_ bytes: RawSpan) -> UInt32 {
        bytes.withUnsafeBytes { bytes in
            UInt32(truncatingIfNeeded: crc32_z(0, bytes.bindMemory(to: UInt8.self).baseAddress, bytes.count))
        }
    }

    /// The checksum of two runs of bytes that follow each other, from theirs.
    static func combine(_ first: UInt32, _ second: UInt32, secondByteCount: Int) -> UInt32 {
        UInt32(truncatingIfNeeded: crc32_combine(uLong(first), uLong(second), secondByteCount))
    }
}
