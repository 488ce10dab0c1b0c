public import CairnBase
import CairnStorage

extension TorchReader {
    /// Opens what is at a path: a file, an index of shards (a name that ends with `.index.json`), or a directory with
    /// either, with shards that are named as such, or with the files of all ranks.
    ///
    /// - Parameter part: Which of several saves in a file, counted from 1.
    /// - Throws: As ``init(storage:file:source:part:)``, ``CairnError/Code/notFound`` when a directory holds none of
    ///   that.
    public convenience init(path: String, part: Int? = nil) throws(CairnError) {
        let directory = LocalStorage(root: path)
        if let names = try Self.names(in: directory) {
            try self.init(directory: directory, names: names, part: part)
            return
        }
        let (storage, key) = try LocalStorage.locate(path)
        if key.hasSuffix(".index.json") {
            try Self.refuse(part, of: path)
            try self.init(storage: storage, index: key, source: path)
        } else {
            try self.init(storage: storage, file: key, source: path, part: part)
        }
    }

    private convenience init(directory storage: LocalStorage, names: [String], part: Int?) throws(CairnError) {
        let path = storage.root
        switch TorchDirectory(names) {
        case .file(let name): try self.init(storage: storage, file: name, source: path, part: part)
        case .index(let name):
            try Self.refuse(part, of: path)
            try self.init(storage: storage, index: name, source: path)
        case .shards(let names):
            try Self.refuse(part, of: path)
            try self.init(storage: storage, shards: names, source: path)
        case .ranks(let names):
            try Self.refuse(part, of: path)
            try self.init(storage: storage, ranks: names, source: path)
        case nil:
            throw CairnError(
                .notFound, "the directory holds no file that is known to be a model of PyTorch",
                .init(file: path, expected: "pytorch_model.bin or an index of shards", advice: "name the file to open"))
        }
    }

    private static func refuse(_ part: Int?, of path: String) throws(CairnError) {
        guard part != nil else { return }
        throw CairnError(
            .invalidArgument, "a part can be chosen of one file, not of a state in several", .init(file: path))
    }

    /// The names in a storage's root, sorted; `nil` if that is not a directory or nothing.
    private static func names(in storage: LocalStorage) throws(CairnError) -> [String]? {
        let path = storage.root
        do throws(SystemCallError) {
            guard try storage.fileSystem.status(at: path).kind == .directory else { return nil }
            return try storage.fileSystem.entries(of: path).map(\.name).sorted { ExactString($0) < ExactString($1) }
        } catch {
            if error.isMissing { return nil }
            throw error.explained("list", path)
        }
    }
}
