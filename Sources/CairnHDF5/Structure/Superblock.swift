import CairnBase
import CairnStorage

/// How many bytes addresses and lengths have in a file.
struct FieldWidths {
    var address = 8
    var length = 8
}

/// What the first block of a file says of it. Source: HDF5 File Format Specification 3.0, II.A and II.B.
struct Superblock {
    /// Where it is: what is added to addresses in the file.
    let base: Int
    let widths: FieldWidths
    /// How many bytes there must be.
    let end: Int?
    /// The header with what else there is to say of the file.
    let extensionAddress: Int?
    /// The driver that divided the file into several, if one did.
    let driver: String?

    private static let signature: [UInt8] = [0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A]

    /// - Returns: `nil` where there is none that is understood.
    init?(of file: any StorageFile) throws(CairnError) {
        var signatureOffset = 0
        var found: ByteFields?
        while found == nil {
            guard signatureOffset <= file.byteCount - 64 else { return nil }
            let bytes = try file.bytes(in: signatureOffset..<min(signatureOffset + 128, file.byteCount))
            if bytes.starts(with: Self.signature) {
                found = ByteFields(bytes)
            } else {
                signatureOffset = max(512, signatureOffset * 2)
            }
        }
        guard let fields = found, let version = fields.integer(8, 1), version <= 3,
            let address = fields.integer(version < 2 ? 13 : 9, 1), let length = fields.integer(version < 2 ? 14 : 10, 1),
            [2, 4, 8].contains(address), [2, 4, 8].contains(length)
        else { return nil }
        base = signatureOffset
        widths = FieldWidths(address: address, length: length)
        let start = version < 2 ? (version == 0 ? 24 : 28) : 12
        // A file that something was put before counts from where it began.
        let shift = signatureOffset - (fields.address(start, address) ?? signatureOffset)
        end = fields.address(start + 2 * address, address)?.adding(checked: shift)
        extensionAddress = version < 2 ? nil : fields.address(start + address, address)
        var driver: String?
        if version < 2, let information = fields.address(start + 3 * address, address)?.adding(checked: signatureOffset),
            information <= file.byteCount - 16
        {
            let bytes = try file.bytes(in: information..<information + 16)
            driver = String(validating: bytes[8...], as: UTF8.self)
        }
        self.driver = driver
    }
}

/// Little-endian fields of a part in memory.
struct ByteFields {
    let bytes: [UInt8]

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// `nil` beyond the end, and for what is no `Int`, as an address of 8 bytes that is not defined.
    func integer(_ position: Int, _ width: Int) -> Int? {
        bytes.withUnsafeBytes { ObjectHeaderBlock.integer($0, position, width) }
    }

    /// An address; `nil` for one that is not defined, whose bits are all set.
    func address(_ position: Int, _ width: Int) -> Int? {
        guard let address = integer(position, width), width == 8 || address != 1 << (8 * width) - 1 else { return nil }
        return address
    }
}
