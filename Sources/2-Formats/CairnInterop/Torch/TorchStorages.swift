import CairnBase
import CairnStorage
import CairnTensor

/// Where the storages are that the tensors of a pickle are views of.
protocol TorchStorages {
    /// Whether the numbers in them begin with their most significant byte.
    var isBigEndian: Bool { get }

    /// The bytes of a storage, whose size must be what the pickle says.
    func storage(_ key: String, byteCount: Int) throws(CairnError) -> any StorageFile
}

/// What a bare pickle has: none.
struct NoStorages: TorchStorages {
    let file: String
    var isBigEndian: Bool { false }

    func storage(_ key: String, byteCount: Int) throws(CairnError) -> any StorageFile {
        throw CairnError(.malformed, "a bare pickle has no storages", .init(file: file))
    }
}

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

/// A file of `torch.save` as PyTorch wrote it before version 1.6, and still does when asked to: five pickles (a magic
/// number, the version, facts of the machine, the state, the storages' keys), then every storage as the count of its
/// elements and their bytes, little-endian on every machine.
///
/// Nothing in it has a checksum. Source: `_legacy_save` in `torch/serialization.py` and `THPStorage_writeFileRaw` of
/// PyTorch 2.13.
struct LegacyTorchFile: TorchStorages {
    let isBigEndian = false
    /// The state.
    let graph: PickleGraph

    /// Where the last storage ends.
    let end: Int

    private let file: any StorageFile
    private var windows: [ExactString: FileWindow] = [:]

    /// 0x1950a86a20f9469cfc6c as the first pickle has it, without the prefix of its protocol.
    private static let magic: [UInt8] = [0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19]
    /// The same in protocols 0 and 1.
    private static let decimalMagic = Array("L119547037146038801333356L".utf8)
    private static let version = 1001
    /// How many bytes show what a file is.
    static let signatureByteCount = 32
    /// What is read of the file at first to find the end of the pickles.
    private static let firstByteCount = 4 << 20

    /// Whether a file that begins with these bytes is one.
    static func isBeginning(_ bytes: [UInt8]) -> Bool {
        bytes.starts(with: decimalMagic)
            || bytes.prefix(signatureByteCount).firstRange(of: magic).map {
                $0.lowerBound <= 12 && bytes.first == 0x80
            } == true
    }

    /// - Throws: ``CairnError/Code/malformed``, ``CairnError/Code/incomplete`` when storages are missing.
    init(_ file: any StorageFile) throws(CairnError) {
        self.file = file
        let (graph, keys, end) = try Self.pickles(of: file)
        self.graph = graph
        var types: [ExactString: ScalarType] = [:]
        // Where two types are named for one storage, it is saved as the one that comes first.
        for case .persistent(let identification) in graph.nodes {
            guard let storage = TorchStorageName(identification, in: graph) else { continue }
            let key = ExactString(storage.key)
            if types[key] == nil { types[key] = storage.scalarType }
        }
        var offset = end
        for key in keys {
            guard let type = types[ExactString(key)] else {
                throw CairnError(
                    .malformed, "a storage is listed that nothing is in", .init(file: file.key, found: key))
            }
            let window = try Self.window(key, type, of: file, at: offset)
            windows[ExactString(key)] = window.file
            offset = window.end
        }
        self.end = offset
    }

    private static func window(
        _ key: String, _ type: ScalarType, of file: any StorageFile, at offset: Int
    ) throws(CairnError) -> (file: FileWindow, end: Int) {
        guard offset <= file.byteCount - 8 else {
            throw CairnError(
                .incomplete, "the file ends before its storages do",
                .init(
                    file: file.key, offset: offset, expected: "the storage \(key)", found: "\(file.byteCount) bytes",
                    advice: "the file was probably cut short"))
        }
        let count = ByteReader(bytes: try file.bytes(in: offset..<offset + 8)).u64(at: 0)
        guard let byteCount = count.flatMap({ $0.multiplied(checked: type.byteWidth ?? 1) }),
            let end = (offset + 8).adding(checked: byteCount), end <= file.byteCount
        else {
            throw CairnError(
                .incomplete, "the file ends within a storage",
                .init(
                    file: file.key, offset: offset,
                    expected: count.map { "\($0) elements of \(type)" } ?? "a count of elements",
                    found: "a file of \(file.byteCount) bytes", advice: "the file was probably cut short"))
        }
        return (try FileWindow(file, offset: offset + 8, byteCount: byteCount), end)
    }

    /// The state, the storages' keys in their order, and where the first storage begins.
    private static func pickles(
        of file: any StorageFile
    ) throws(CairnError) -> (graph: PickleGraph, keys: [String], end: Int) {
        let limits = PickleLimits()
        var byteCount = min(firstByteCount, file.byteCount)
        while true {
            var interpreter = PickleInterpreter(
                try file.bytes(in: 0..<byteCount), limits: limits, file: file.key)
            do throws(CairnError) {
                return try pickles(&interpreter, file: file.key)
            } catch {
                // The pickles may continue behind what was read.
                guard error.code == .incomplete, byteCount < min(file.byteCount, limits.byteCount) else { throw error }
                byteCount = min(file.byteCount, limits.byteCount, byteCount.multiplied(checked: 8) ?? .max)
            }
        }
    }

    private static func pickles(
        _ interpreter: inout PickleInterpreter, file: String
    ) throws(CairnError) -> (graph: PickleGraph, keys: [String], end: Int) {
        // The magic number was looked at before.
        _ = try interpreter.next()
        let version = try interpreter.next()
        guard version.integer(version.root) == Self.version else {
            throw CairnError(
                .unsupported, "the file is of an unknown version of PyTorch's old format",
                .init(
                    file: file, expected: "\(Self.version)",
                    found: version.integer(version.root).map { "\($0)" } ?? "no number"))
        }
        // Facts of the machine: its byte order says nothing of the file, which is little-endian always.
        _ = try interpreter.next()
        let graph = try interpreter.next()
        let list = try interpreter.next()
        var keys: [String] = []
        for element in list.sequence(list.root) ?? [] {
            guard let key = list.string(element) else { break }
            keys.append(key)
        }
        guard let count = list.sequence(list.root)?.count, keys.count == count else {
            throw CairnError(
                .malformed, "the storages of the file are not listed",
                .init(file: file, offset: interpreter.position, expected: "a list of keys"))
        }
        return (graph, keys, interpreter.position)
    }

    func storage(_ key: String, byteCount: Int) throws(CairnError) -> any StorageFile {
        guard let window = windows[ExactString(key)] else {
            throw CairnError(.incomplete, "the file lacks a storage", .init(file: file.key, expected: key))
        }
        guard window.byteCount >= byteCount else {
            throw CairnError(
                .malformed, "a storage has another size than the pickle says",
                .init(file: file.key, expected: "\(byteCount) bytes", found: "\(key) of \(window.byteCount)"))
        }
        return window
    }
}
