import CairnBase
import CairnStorage
import CairnTensor

/// Writes one zip file of `torch.save`: the pickle first, then the storages one after the other, then what PyTorch puts
/// at the end.
///
/// Source: `_save` in `torch/serialization.py` of PyTorch 2.13.
struct TorchArchiveWriter {
    private let zip: ZipWriter
    private let prefix: String
    private var storageCount = 0
    /// Of everything written, for the identification at the end.
    private var checksum: UInt32 = 0

    /// Begins the file at `base` with its pickle.
    ///
    /// - Parameters:
    ///   - prefix: The folder within the archive, without a slash.
    ///   - isOrdered: Whether the pickle names the storages in the order in which they come. Only then a reader may
    ///     compute where they are, which a version of the format tells it.
    init(
        _ file: any StorageWriter, at base: Int = 0, prefix: String, pickle: [UInt8], isOrdered: Bool = true
    ) throws(CairnError) {
        zip = ZipWriter(file, at: base)
        self.prefix = prefix
        try add("data.pkl", pickle)
        if isOrdered { try add(".format_version", Array("1".utf8)) }
        try add(".storage_alignment", Array("64".utf8))
        try add("byteorder", Array("little".utf8))
    }

    private mutating func add(_ name: String, _ bytes: [UInt8]) throws(CairnError) {
        checksum = CRC32.combine(checksum, CRC32.checksum(bytes.span.bytes), secondByteCount: bytes.count)
        try zip.add(prefix + "/" + name, bytes)
    }

    /// Begins the next storage; its key is its number.
    mutating func beginStorage(byteCount: Int) throws(CairnError) {
        try zip.begin("\(prefix)/data/\(storageCount)", byteCount: byteCount)
        storageCount += 1
    }

    /// Appends bytes of the storage begun last.
    mutating func append(_ bytes: RawSpan) throws(CairnError) { try zip.append(bytes) }

    /// - Returns: The size of the whole file in bytes.
    mutating func finish() throws(CairnError) -> Int {
        try add("version", Array("3\n".utf8))
        // Forty digits that tell files apart; PyTorch derives them from names and checksums and never checks them.
        let digits = String(checksum)
        try add(
            ".data/serialization_id",
            Array((String(repeating: "0", count: 40 - digits.utf8.count) + digits).utf8))
        return try zip.finish()
    }
}
