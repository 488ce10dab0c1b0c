/// What the first bytes of a file say of its format.
enum FileSignature {
    /// How many bytes are looked at.
    static let byteCount = 512

    /// Whether the bytes begin with a plausible header length and the brace that follows it.
    static func looksLikeSafetensors(_ bytes: [UInt8]) -> Bool {
        guard bytes.count > 8, bytes[8] == UInt8(ascii: "{") else { return false }
        // The header is at most 100 MB, so its length has five zero bytes on top but for the lowest bits of one.
        return bytes[4..<8].allSatisfy { $0 == 0 }
    }

    /// Whether the bytes begin with a record of a zip archive.
    static func isZipArchive(_ bytes: [UInt8]) -> Bool { bytes.starts(with: [0x50, 0x4B, 3, 4]) }

    /// Whether the bytes begin an HDF5 file.
    static func isHDF5(_ bytes: [UInt8]) -> Bool { bytes.starts(with: [0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A]) }

    /// Whether the bytes begin a `.npy` file.
    static func isNumPyArray(_ bytes: [UInt8]) -> Bool { bytes.starts(with: [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59]) }
}
