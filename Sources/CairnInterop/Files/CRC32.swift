import CCairnKernels
import CZlib
import CairnBase

/// The checksum of zip archives, by zlib, and where the processor can, by its carry-less multiplication.
enum CRC32 {
    /// The checksum of `bytes`.
    static func checksum(_ bytes: RawSpan) -> UInt32 {
        bytes.withUnsafeBytes { bytes in
            var checksum: UInt32 = 0
            let done = cairn_crc32_fold(&checksum, bytes.baseAddress, bytes.count)
            let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
            guard !rest.isEmpty else { return checksum }
            return UInt32(
                truncatingIfNeeded: crc32_z(
                    uLong(checksum), rest.bindMemory(to: UInt8.self).baseAddress, rest.count))
        }
    }

    /// The checksum of two runs of bytes that follow each other, from theirs.
    static func combine(_ first: UInt32, _ second: UInt32, secondByteCount: Int) -> UInt32 {
        UInt32(truncatingIfNeeded: crc32_combine(uLong(first), uLong(second), secondByteCount))
    }
}
