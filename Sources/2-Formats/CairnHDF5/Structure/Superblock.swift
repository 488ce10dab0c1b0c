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

/// Parts of a file's description, read past the library and each checked against its checksum.
struct MetadataParts: Sendable {
    let file: any StorageFile
    /// What is added to addresses.
    let base: Int
    let widths: FieldWidths

    /// A part that begins with a signature and ends with a checksum.
    ///
    /// - Throws: ``CairnError/Code/corrupted`` for one that is neither, or not in the file.
    func part(_ address: Int, _ byteCount: Int, _ signature: String?) throws(CairnError) -> ByteFields {
        let fields = ByteFields(try bytes(address, byteCount))
        if let signature, !fields.bytes.starts(with: signature.utf8) {
            throw damaged("a part of it has no \(signature)", address)
        }
        guard byteCount >= 4, fields.integer(byteCount - 4, 4) == Int(Lookup3.checksum(fields.bytes.dropLast(4))) else {
            throw damaged("a checksum differs", address)
        }
        return fields
    }

    /// Bytes that are all in the file.
    func bytes(_ address: Int, _ byteCount: Int) throws(CairnError) -> [UInt8] {
        guard address >= 0, let offset = address.adding(checked: base), byteCount > 0,
            let end = offset.adding(checked: byteCount), end <= file.byteCount
        else { throw damaged("a part of it lies outside of the file", address) }
        return try file.bytes(in: offset..<end)
    }

    func damaged(_ reason: String, _ address: Int) -> CairnError {
        CairnError(
            .corrupted, "a part of the file's description is damaged: \(reason)",
            .init(file: file.key, offset: address))
    }
}

/// The checksum of HDF5's metadata: Bob Jenkins's lookup3, `hashlittle` with the initial value 0.
enum Lookup3 {
    static func checksum(_ bytes: some Collection<UInt8>) -> UInt32 {
        let bytes = Array(bytes)
        var a = 0xDEAD_BEEF &+ UInt32(truncatingIfNeeded: bytes.count)
        var (b, c) = (a, a)
        func word(_ position: Int) -> UInt32 {
            var word: UInt32 = 0
            for byte in (0..<4).reversed() where position + byte < bytes.count {
                word = word << 8 | UInt32(bytes[position + byte])
            }
            return word
        }
        func rotated(_ value: UInt32, _ count: UInt32) -> UInt32 { value << count | value >> (32 - count) }
        var position = 0
        while bytes.count - position > 12 {
            a = a &+ word(position)
            b = b &+ word(position + 4)
            c = c &+ word(position + 8)
            a = (a &- c) ^ rotated(c, 4)
            c = c &+ b
            b = (b &- a) ^ rotated(a, 6)
            a = a &+ c
            c = (c &- b) ^ rotated(b, 8)
            b = b &+ a
            a = (a &- c) ^ rotated(c, 16)
            c = c &+ b
            b = (b &- a) ^ rotated(a, 19)
            a = a &+ c
            c = (c &- b) ^ rotated(b, 4)
            b = b &+ a
            position += 12
        }
        guard position < bytes.count else { return c }
        a = a &+ word(position)
        b = b &+ word(position + 4)
        c = c &+ word(position + 8)
        c = (c ^ b) &- rotated(b, 14)
        a = (a ^ c) &- rotated(c, 11)
        b = (b ^ a) &- rotated(a, 25)
        c = (c ^ b) &- rotated(b, 16)
        a = (a ^ c) &- rotated(c, 4)
        b = (b ^ a) &- rotated(a, 14)
        c = (c ^ b) &- rotated(b, 24)
        return c
    }
}
