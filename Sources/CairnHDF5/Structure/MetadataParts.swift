import CairnBase
import CairnStorage

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
