import CairnBase
import CairnStorage

/// A zip file of `torch.save`: a pickle and the storages beside it.
struct TorchArchive {
    let zip: ZipArchive
    /// The folder in the archive that holds everything, with a slash. Files are renamed, so it says nothing.
    let prefix: String

    private static let pickleName = "data.pkl"

    /// - Throws: ``CairnError/Code/unsupported`` for a zip archive of something else.
    init(_ file: any StorageFile) throws(CairnError) {
        zip = try ZipArchive(file)
        let pickles = zip.entries.map(\.name).filter { name in
            let parts = name.split(separator: "/", omittingEmptySubsequences: false)
            return parts.last.map { $0 == Self.pickleName } == true && parts.count <= 2
        }
        guard pickles.count == 1, let pickle = pickles.first else {
            let names = zip.entries.prefix(3).map(\.name).joined(separator: ", ")
            let isExported = zip.entries.contains { $0.name.hasSuffix("data/weights/model_weights_config.json") }
            throw CairnError(
                .unsupported,
                isExported
                    ? "the archive is of torch.export, which is not read" : "the zip archive is not of torch.save",
                .init(
                    file: file.key, expected: "one \(Self.pickleName)",
                    found: pickles.count > 1 ? "several" : names.isEmpty ? "no records" : names,
                    advice: isExported ? "save the program's state_dict with torch.save" : nil))
        }
        prefix = String(pickle.dropLast(Self.pickleName.count))
        if zip.contains(prefix + "byteorder") {
            let order = try zip.bytes(prefix + "byteorder", limit: 16)
            guard order.elementsEqual("little".utf8) else {
                throw CairnError(
                    .unsupported, "the file was written by a machine of another byte order",
                    .init(file: file.key, expected: "little"))
            }
        }
    }

    /// The pickle, checked and understood as data.
    func pickle() throws(CairnError) -> PickleGraph {
        let record = try zip.record(prefix + Self.pickleName)
        let limits = PickleLimits()
        let bytes = try zip.bytes(record.entry.name, limit: limits.byteCount)
        return try PickleInterpreter.read(bytes, file: zip.file.key, fileOffset: record.dataOffset, limits: limits)
    }

    /// The storage of a key, whose size must be what the pickle says.
    func storage(_ key: String, byteCount: Int) throws(CairnError) -> ZipRecord {
        let record = try zip.record(prefix + "data/" + key)
        guard record.byteCount == byteCount else {
            throw CairnError(
                .malformed, "a storage has another size than the pickle says",
                .init(
                    file: zip.file.key, offset: record.dataOffset, expected: "\(byteCount) bytes",
                    found: "\(record.entry.name) of \(record.byteCount)"))
        }
        return record
    }
}
