import CairnBase
import CairnCheckpoint
import CairnStorage

extension TorchReader {
    /// Opens the files that the index at `key` names, which are beside or below it. Index and files must agree in both
    /// directions.
    convenience init(storage: any Storage, index key: String, source: String) throws(CairnError) {
        let index = try TorchIndex(reading: key, from: storage)
        let directory = key.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(key[...$0]) } ?? ""
        var contents = TorchContents()
        var members: [StateNode.Member] = []
        for (file, names) in index.files {
            let shard = try Self.shard(directory + file, of: storage, namedBy: key)
            let present = Set(shard.tensors.map { ExactString(StateNames.joined($0.path)) })
            let location = storage.location(of: directory + file)
            for name in names where !present.contains(ExactString(name)) {
                throw CairnError(
                    .incomplete, "a tensor of the index is not in its file",
                    .init(file: location, tensor: name, advice: "the index is \(key)"))
            }
            let expected = Set(names.map { ExactString($0) })
            if let other = present.subtracting(expected).min() {
                throw CairnError(
                    .mismatch, "the file holds a tensor that the index does not place there",
                    .init(file: location, tensor: other.string, advice: "the index is \(key)"))
            }
            contents.add(shard, of: directory + file, to: &members)
        }
        contents.structure = .dictionary(members)
        try self.init(contents, files: index.files.map { directory + $0.file }, source: source)
    }

    /// Opens shards that have no index as one state.
    convenience init(storage: any Storage, shards keys: [String], source: String) throws(CairnError) {
        var contents = TorchContents()
        var members: [StateNode.Member] = []
        for key in keys {
            contents.add(try Self.shard(key, of: storage, namedBy: nil), of: key, to: &members)
        }
        contents.structure = .dictionary(members)
        try self.init(contents, files: keys, source: source)
    }

    private static func shard(
        _ key: String, of storage: any Storage, namedBy index: String?
    ) throws(CairnError) -> TorchContents {
        do throws(CairnError) {
            return try contents(of: FileWindow(storage, key), part: nil)
        } catch {
            guard error.code == .notFound, let index else { throw error }
            throw CairnError(
                .incomplete, "a file of the checkpoint is missing",
                .init(file: storage.location(of: key), advice: "the index \(index) names it"))
        }
    }
}

extension TorchContents {
    /// Adds what one of several files holds.
    mutating func add(_ shard: TorchContents, of file: String, to members: inout [StateNode.Member]) {
        let first = tensors.count
        for var entry in shard.tensors {
            entry.file = file
            // Storages of different files have the same keys.
            if var view = entry.view {
                view.storage = file + "/" + view.storage
                entry.view = view
            }
            tensors.append(entry)
        }
        values += shard.values
        skippedEntries += shard.skippedEntries.map { "\(file): \($0)" }
        remarks += shard.remarks.map { "\(file): \($0)" }
        skippedTensorCount += shard.skippedTensorCount
        storages += shard.storages
        let node = shard.structure.naming { Int($0).map { String(first + $0) } ?? $0 }
        guard case .dictionary(let inner) = node else { return }
        members += inner
    }
}

/// An index of the files that a state is in: `{"weight_map": {tensor: file}}`.
struct TorchIndex {
    /// The files in the order of their names, each with its tensors.
    let files: [(file: String, tensors: [String])]

    private static let greatestByteCount = 1 << 28

    init(reading key: String, from storage: any Storage) throws(CairnError) {
        let bytes = try storage.readAll(key, limit: Self.greatestByteCount)
        let location = storage.location(of: key)
        var files: [ExactString: [String]] = [:]
        do throws(JSONError) {
            for member in try JSONValue(parsing: bytes).asObject().object("weight_map").members {
                files[ExactString(try member.value.asString()), default: []].append(member.key)
            }
        } catch {
            throw CairnError(
                .malformed, "this is not an index of a checkpoint's files: \(error)",
                .init(file: location, expected: "{\"weight_map\": {tensor: file}}"))
        }
        guard !files.isEmpty else {
            throw CairnError(.malformed, "the index names no files", .init(file: location))
        }
        for name in files.keys {
            do throws(CairnError) {
                try StorageKey.validate(name.string)
            } catch {
                throw CairnError(
                    .malformed, "the index names a file outside of its directory",
                    .init(file: location, found: name.string.debugDescription), cause: error)
            }
        }
        self.files = files.sorted { $0.key < $1.key }.map { ($0.key.string, $0.value) }
    }
}
