import CairnBase
import CairnStorage

/// How long an HDF5 file says that it is: where its superblock has the end of the file.
enum PromisedLength {
    /// An error that says what is missing of a file that was cut short; `nil` where it is as long as it says, or does not
    /// say.
    static func shortfall(of file: any StorageFile) -> CairnError? {
        var offset = 0
        while offset <= file.byteCount - 64 {
            guard let block = try? file.bytes(in: offset..<offset + 64) else { return nil }
            if block.starts(with: [0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A]) {
                guard let end = end(in: block), end > file.byteCount else { return nil }
                return CairnError(
                    .incomplete, "the HDF5 file was cut short",
                    .init(
                        file: file.key, expected: "\(end) bytes, as its superblock says", found: "\(file.byteCount)",
                        advice: "take another copy"))
            }
            offset = offset == 0 ? 512 : offset * 2
        }
        return nil
    }

    /// The address of the end of the file: behind that of the beginning and another one.
    private static func end(in block: [UInt8]) -> Int? {
        let width: Int, first: Int
        switch block[8] {
        case 0: (width, first) = (Int(block[13]), 24)
        case 1: (width, first) = (Int(block[13]), 28)
        case 2, 3: (width, first) = (Int(block[9]), 12)
        default: return nil
        }
        guard [2, 4, 8].contains(width), first + 3 * width <= block.count else { return nil }
        let bytes = block[(first + 2 * width)..<(first + 3 * width)]
        return Int(exactly: bytes.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) })
    }
}
