import CairnBase
import CairnStorage
import CairnTensor

/// What a distributed checkpoint holds, gathered while it is opened.
struct DistributedContents {
    private static let greatestObject = 256 << 20

    private let storage: any Storage
    private let prefix: String
    private let source: String
    private var entries: [(name: String, content: any TensorContent, tiedTo: String?)] = []
    private(set) var leaves: StateLeaves
    private(set) var omissions: [String] = []
    private(set) var items: [(tensor: DistributedMetadata.Tensor, files: DistributedFiles)] = []
    private(set) var fileCount = 0

    init(_ storage: any Storage, prefix: String, source: String) {
        self.storage = storage
        self.prefix = prefix
        self.source = source
        leaves = StateLeaves(file: source)
    }

    mutating func addMetadata(_ key: String) throws(CairnError) {
        let bytes = try storage.readAll(key, limit: PickleLimits().byteCount)
        let metadata = try DistributedMetadata(bytes, file: storage.place(of: key))
        let files = try DistributedFiles(storage, prefix: prefix)
        var names: Set<ExactString> = []
        for tensor in metadata.tensors {
            var pieces: [AssembledTensor.Piece] = []
            for (region, place) in tensor.pieces {
                do throws(CairnError) {
                    try files.check(place)
                } catch {
                    throw error.adding(.init(tensor: tensor.name))
                }
                names.insert(ExactString(place.file))
                let open = { @Sendable () throws(CairnError) -> any TensorContent in
                    try files.item(place, tensor.scalarType, region.shape).content
                }
                pieces.append(
                    AssembledTensor.Piece(region: region, file: place.file, open: open, offset: place.offset))
            }
            let content = AssembledTensor(scalarType: tensor.scalarType, shape: tensor.shape, pieces: pieces)
            entries.append((tensor.name, content, nil))
            items.append((tensor, files))
        }
        for (name, place) in metadata.objects {
            do throws(CairnError) {
                try files.check(place)
                names.insert(ExactString(place.file))
                try addObject(files.window(place), name, at: metadata.paths[ExactString(name)] ?? [StateKey(name)])
            } catch {
                throw error.moved(by: place.offset).adding(.init(file: place.file, tensor: name))
            }
        }
        fileCount = names.count + 1
    }

    /// An object: a file of `torch.save`, or a bare pickle.
    private mutating func addObject(
        _ window: FileWindow, _ name: String, at path: [StateKey]
    ) throws(CairnError) {
        let beginning = try window.bytes(in: 0..<min(4, window.byteCount))
        if beginning.elementsEqual([0x50, 0x4B, 3, 4]) {
            try add(TorchContents(window), name, at: path)
            return
        }
        guard window.byteCount <= Self.greatestObject else {
            throw CairnError(.unsupported, "an object is too large", .init(found: "\(window.byteCount) bytes"))
        }
        let graph = try PickleInterpreter.read(window.bytes(in: 0..<window.byteCount), file: window.key)
        try add(TorchContents(PickledState(graph, file: window.key), file: window.key), name, at: path)
    }

    private mutating func add(_ contents: TorchContents, _ name: String, at path: [StateKey]) throws(CairnError) {
        for tensor in contents.tensors {
            entries.append((StateNames.joined([StateKey(name)] + tensor.path), tensor.content, nil))
        }
        for (inner, value) in contents.values { try leaves.add(value, at: path + inner) }
        omissions += contents.omissions.map { "\(name): \($0)" }
    }

    mutating func addShards(_ keys: [String]) throws(CairnError) {
        for (name, content) in try ShardedSafeTensors.tensors(of: keys, in: storage) {
            entries.append((name, content, nil))
        }
        fileCount = keys.count
    }

    func table() throws(CairnError) -> TensorTable {
        var names: Set<ExactString> = []
        for entry in entries where !names.insert(ExactString(entry.name)).inserted {
            throw CairnError(.malformed, "two tensors have one name", .init(file: source, tensor: entry.name))
        }
        return TensorTable(entries, source: source)
    }
}
