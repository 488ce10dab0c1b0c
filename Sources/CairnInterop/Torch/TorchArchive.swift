import CairnBase
import CairnStorage

/// A zip file of `torch.save`: a pickle and the storages beside it.
struct TorchArchive: TorchStorages {
    let zip: ZipArchive
    /// The folder in the archive that holds everything, with a slash. Files are renamed, so it says nothing.
    let prefix: String
    let isBigEndian: Bool
    /// Which pickle is meant, and the folder of its storages, below the prefix.
    private var pickleName = Self.pickleName
    private var folder = "data/"

    private static let pickleName = "data.pkl"
    private static let constantsName = "constants.pkl"

    /// - Throws: ``CairnError/Code/unsupported`` for a zip archive of something else.
    init(_ zip: ZipArchive) throws(CairnError) {
        self.zip = zip
        let pickles = zip.entries.map(\.name).filter { name in
            let parts = name.split(separator: "/", omittingEmptySubsequences: false)
            return parts.last.map { $0 == Self.pickleName } == true && parts.count <= 2
        }
        guard pickles.count == 1, let pickle = pickles.first else {
            let names = zip.entries.prefix(3).map(\.name).joined(separator: ", ")
            let isOldScript = zip.entries.contains { $0.name.hasSuffix("/model.json") }
            throw CairnError(
                .unsupported,
                isOldScript
                    ? "the archive is of TorchScript before version 1.4, which is not read"
                    : "the zip archive is not of torch.save",
                .init(
                    file: zip.file.key, expected: "one \(Self.pickleName)",
                    found: pickles.count > 1 ? "several" : names.isEmpty ? "no records" : names,
                    advice: isOldScript ? "load it with torch.jit and save it anew" : nil))
        }
        prefix = String(pickle.dropLast(Self.pickleName.count))
        isBigEndian = try Self.isBigEndian(zip, prefix)
    }

    private static func isBigEndian(_ zip: ZipArchive, _ prefix: String) throws(CairnError) -> Bool {
        guard zip.contains(prefix + "byteorder") else { return false }
        let order = String(decoding: try zip.bytes(prefix + "byteorder", limit: 16), as: UTF8.self)
        switch order {
        case "little": return false
        case "big": return true
        default:
            throw CairnError(
                .unsupported, "the file was written by a machine of an unknown byte order",
                .init(file: zip.file.key, expected: "little or big", found: order.debugDescription))
        }
    }

    /// The constants of TorchScript's code, which are an archive of their own beside the module's attributes.
    var constants: TorchArchive? {
        guard zip.contains(prefix + Self.constantsName) else { return nil }
        var constants = self
        constants.pickleName = Self.constantsName
        constants.folder = "constants/"
        return constants
    }

    /// The pickle, checked and understood as data.
    func pickle() throws(CairnError) -> PickleGraph {
        let record = try zip.record(prefix + pickleName)
        let limits =
            record.entry.isDeflated ? PickleLimits(storedByteCount: record.entry.storedByteCount) : PickleLimits()
        let bytes = try zip.bytes(record.entry.name, limit: limits.byteCount)
        return try PickleInterpreter.read(bytes, file: zip.file.key, fileOffset: record.dataOffset, limits: limits)
    }

    func storage(_ key: String, byteCount: Int) throws(CairnError) -> any StorageFile {
        let record = try zip.record(prefix + folder + key)
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
