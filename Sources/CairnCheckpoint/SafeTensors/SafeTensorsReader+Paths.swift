public import CairnBase
package import CairnStorage
import CairnTensor

extension SafeTensorsReader {
    /// Opens what is at a path: a safetensors file, an index (a name that ends with `.json`), or a directory.
    ///
    /// In a directory, the first of these that applies is opened; in every other case the caller must name a file:
    /// 1. its one `*.safetensors.index.json`;
    /// 2. its one `*.safetensors`;
    /// 3. all of its `*.safetensors`, when they are the files `STEM-00001-of-N` to `STEM-N-of-N` of one stem.
    ///
    /// - Throws: As ``init(storage:index:source:)``; ``CairnError/Code/invalidArgument`` when several files of a
    ///   directory could be meant, ``CairnError/Code/incomplete`` when it lacks some of the files of rule 3.
    public convenience init(path: String) throws(CairnError) {
        let directory = LocalStorage(root: path)
        if let names = try Self.names(in: directory) {
            try self.init(directory: directory, names: names)
            return
        }
        let (storage, key) = try LocalStorage.locate(path)
        if key.utf8.suffix(5).elementsEqual(".json".utf8) {
            try self.init(storage: storage, index: key, source: path)
        } else {
            try self.init(storage: storage, file: key, source: path)
        }
    }

    /// Opens the root of a storage as ``init(path:)`` opens a directory.
    package convenience init(directory storage: LocalStorage) throws(CairnError) {
        try self.init(directory: storage, names: Self.names(in: storage) ?? [])
    }

    private convenience init(directory storage: LocalStorage, names: [String]) throws(CairnError) {
        let directory = storage.root
        let indexes = names.filter { $0.hasSuffix(SafeTensorsShardName.indexExtension) }
        let files = names.filter { $0.hasSuffix(SafeTensorsShardName.fileExtension) }
        if indexes.count == 1 {
            try self.init(storage: storage, index: indexes[0], source: directory)
        } else if indexes.count > 1 {
            throw Self.ambiguity(directory, "several safetensors indexes", indexes)
        } else if files.count == 1, SafeTensorsShardName(files[0]) == nil {
            try self.init(storage: storage, file: files[0], source: directory)
        } else if let first = files.first {
            try Self.checkShards(files, first: first, directory: directory)
            try self.init(storage: storage, files: files, source: directory)
        } else {
            throw CairnError(
                .notFound, "the directory holds no safetensors file", .init(file: directory))
        }
    }

    private static func checkShards(
        _ files: [String], first: String, directory: String
    ) throws(CairnError) {
        guard let shard = SafeTensorsShardName(first),
            files.allSatisfy({ name in
                guard let other = SafeTensorsShardName(name) else { return false }
                return ExactString(other.stem) == ExactString(shard.stem) && other.count == shard.count
            })
        else {
            throw ambiguity(directory, "several safetensors files and no index", files)
        }
        let present = Set(files.map(ExactString.init))
        guard files.count != shard.count else { return }
        // Some number up to one more than there are files is missing, however many the names promise.
        let missing = (1...files.count + 1).lazy.map { shard.sibling($0).name }
            .first { !present.contains(ExactString($0)) }
        throw CairnError(
            .incomplete, "a file of the checkpoint is missing",
            .init(file: directory, expected: missing, found: "\(files.count) of \(shard.count) files"))
    }

    private static func ambiguity(_ directory: String, _ problem: String, _ names: [String]) -> CairnError {
        let shown = names.prefix(4).joined(separator: ", ") + (names.count > 4 ? ", …" : "")
        return CairnError(
            .invalidArgument, "the directory holds " + problem,
            .init(file: directory, found: shown, advice: "name the one to open"))
    }

    /// The names in a storage's root, sorted; `nil` if that is not a directory or nothing.
    private static func names(in storage: LocalStorage) throws(CairnError) -> [String]? {
        let path = storage.root
        let fileSystem = storage.fileSystem
        do throws(SystemCallError) {
            let status = try retryingInterrupted { () throws(SystemCallError) in try fileSystem.status(at: path) }
            guard status.kind == .directory else { return nil }
            let entries = try retryingInterrupted { () throws(SystemCallError) in try fileSystem.entries(of: path) }
            return entries.map(\.name).sorted { ExactString($0) < ExactString($1) }
        } catch {
            if error.isMissing { return nil }
            throw error.explained("list", path)
        }
    }
}
