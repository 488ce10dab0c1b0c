import CairnBase
import CairnCheckpoint
import CairnStorage

/// What of a directory's files make up one state of PyTorch.
package enum TorchDirectory {
    /// One file.
    case file(String)
    /// The index of several.
    case index(String)
    /// Shards without an index, in their order.
    case shards([String])
    /// What each rank saved, in the order of the ranks.
    case ranks([String])

    /// The names that libraries give to a model's file, the ones that are preferred first.
    private static let modelNames = [
        "pytorch_model.bin", "adapter_model.bin", "diffusion_pytorch_model.bin", "model.bin", "pytorch_model.pt",
        "consolidated.00.pth",
    ]
    private static let suffixes = [".bin", ".pt", ".pth", ".ckpt"]

    /// Whether a name is that of an index of such files.
    package static func isIndex(_ name: String) -> Bool {
        suffixes.contains { name.hasSuffix($0 + ".index.json") }
    }

    /// - Parameter names: What is in the directory, sorted.
    /// - Returns: `nil` where nothing is known to be a model.
    package init?(_ names: [String]) {
        let indexes = names.filter(Self.isIndex)
        if let ranks = Self.ranks(among: names, isSure: true) {
            self = .ranks(ranks)
        } else if indexes.count == 1 {
            self = .index(indexes[0])
        } else if let shards = Self.shards(among: names) {
            self = .shards(shards)
        } else if let name = Self.modelNames.first(where: names.contains) {
            // The first of several parts alone is not a model.
            guard name != "consolidated.00.pth" || !names.contains("consolidated.01.pth") else { return nil }
            self = .file(name)
        } else if let ranks = Self.ranks(among: names, isSure: false) {
            self = .ranks(ranks)
        } else {
            return nil
        }
    }

    /// All files that are meant.
    package var names: [String] {
        switch self {
        case .file(let name), .index(let name): [name]
        case .shards(let names), .ranks(let names): names
        }
    }

    /// `STEM-00001-of-0000N.bin` and the like, all of one stem.
    private static func shards(among names: [String]) -> [String]? {
        var found: [String: [(number: Int, count: Int, name: String)]] = [:]
        for name in names {
            guard let suffix = suffixes.first(where: name.hasSuffix) else { continue }
            let parts = name.dropLast(suffix.utf8.count).split(separator: "-", omittingEmptySubsequences: false)
            guard parts.count >= 4, parts[parts.count - 2] == "of", let count = Int(parts[parts.count - 1]),
                let number = Int(parts[parts.count - 3])
            else { continue }
            found[parts.dropLast(3).joined(separator: "-") + suffix, default: []].append((number, count, name))
        }
        guard found.count == 1, let shards = found.values.first, let count = shards.first?.count,
            shards.allSatisfy({ $0.count == count }), Set(shards.map(\.number)) == Set(1...max(1, count)),
            shards.count == count
        else { return nil }
        return shards.sorted { $0.number < $1.number }.map(\.name)
    }

    /// A name that says which rank's file it is: `model_world_size_2_rank_0.pt`, `state_rank1.pt`.
    struct RankName {
        var stem: String
        var rank: Int
        /// How many ranks there are, where the name says so.
        var count: Int?
        /// What such a file of another rank would be called.
        var pattern: String

        init?(_ name: String) {
            guard let suffix = TorchDirectory.suffixes.first(where: name.hasSuffix) else { return nil }
            let base = name.dropLast(suffix.utf8.count)
            let digits = base.reversed().prefix { ("0"..."9").contains($0) }.count
            guard digits > 0, let rank = Int(base.suffix(digits)) else { return nil }
            var head = base.dropLast(digits)
            guard head.hasSuffix("rank_") || head.hasSuffix("rank") || head.hasSuffix("rank-") else { return nil }
            pattern = head + "#" + suffix
            head = head.dropLast(head.hasSuffix("rank") ? 4 : 5)
            self.rank = rank
            while let last = head.last, last == "_" || last == "-" { head.removeLast() }
            let mark = "world_size_"
            let tail = head.reversed().prefix { ("0"..."9").contains($0) }.count
            if tail > 0, head.dropLast(tail).hasSuffix(mark), let count = Int(head.suffix(tail)) {
                self.count = count
                head = head.dropLast(tail + mark.utf8.count)
                while let last = head.last, last == "_" || last == "-" { head.removeLast() }
            }
            stem = String(head)
        }
    }

    /// The files of the ranks: those of the model where there are also others, as of an optimizer.
    ///
    /// - Parameter isSure: Whether the names must say that they are of a model, or of how many ranks.
    private static func ranks(among names: [String], isSure: Bool) -> [String]? {
        var sets: [String: [(rank: Int, name: String)]] = [:]
        var stems: [String: String] = [:]
        for name in names {
            guard let parts = RankName(name) else { continue }
            guard !isSure || parts.count != nil || parts.stem.hasPrefix("model") else { continue }
            sets[parts.pattern, default: []].append((parts.rank, name))
            stems[parts.pattern] = parts.stem
        }
        let models = sets.keys.filter { stems[$0]?.contains("model") == true }.sorted()
        guard let pattern = models.count == 1 ? models.first : sets.count == 1 ? sets.keys.first : nil else { return nil }
        guard let files = sets[pattern]?.sorted(by: { $0.rank < $1.rank }), isSure || files.count > 1 else { return nil }
        return files.map(\.name)
    }
}

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
