import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor

/// What a distributed checkpoint holds, gathered while it is opened.
struct DistributedContents {
    private static let greatestObject = 256 << 20
    /// What all ranks have alike, in Megatron's checkpoints.
    private static let commonName = "common.pt"

    private let storage: any Storage
    private let prefix: String
    private let source: String
    /// Whether data files may be missing or too short: what is in them is listed all the same.
    private let toleratesMissingFiles: Bool
    private var entries: [(name: String, content: any TensorView, tiedTo: String?)] = []
    private(set) var leaves: StateLeaves
    private(set) var skippedEntries: [String] = []
    private(set) var skippedTensorCount = 0
    private(set) var items: [(tensor: DistributedMetadata.Tensor, files: DistributedFiles)] = []
    private(set) var fileCount = 0
    /// The files of tensors that are not items of their own, by the names of the tensors.
    private(set) var tensorFiles: [ExactString: String] = [:]
    private var nested = NestedState()
    /// How tensors and values were nested; `nil` when that is not said.
    var structure: StateNode? { isNested ? nested.root : nil }
    private var isNested = false

    init(_ storage: any Storage, prefix: String, source: String, toleratesMissingFiles: Bool) {
        self.toleratesMissingFiles = toleratesMissingFiles
        self.storage = storage
        self.prefix = prefix
        self.source = source
        leaves = StateLeaves(file: source)
    }

    /// - Parameter keys: The file of all ranks, or one of each rank.
    mutating func addMetadata(_ keys: [String]) throws(CairnError) {
        var all: DistributedMetadata?
        for key in keys {
            let bytes = try storage.readAll(key, limit: PickleLimits().byteCount)
            let metadata = try DistributedMetadata(bytes, file: storage.location(of: key))
            if all == nil { all = metadata } else { try all?.merge(metadata) }
        }
        guard let all else { return }
        try all.checkCoverage()
        isNested = true
        let files = try DistributedFiles(storage, prefix: prefix, of: all.tensors)
        var names: Set<ExactString> = []
        var first: [[DistributedMetadata.Location]: Int] = [:]
        for tensor in all.tensors {
            var pieces: [AssembledTensor.Piece] = []
            for (region, location) in tensor.pieces {
                do throws(CairnError) {
                    try files.check(location)
                    try files.check(location, holds: region, of: tensor.scalarType)
                } catch {
                    guard toleratesMissingFiles, error.code == .incomplete else {
                        throw error.adding(.init(tensor: tensor.name))
                    }
                }
                names.insert(ExactString(location.file))
                let open = { @Sendable () throws(CairnError) -> any TensorView in
                    try files.item(location, of: tensor, region).content
                }
                pieces.append(AssembledTensor.Piece(region: region, file: location.file, open: open, location: location))
            }
            let content = AssembledTensor(scalarType: tensor.scalarType, shape: tensor.shape, pieces: pieces)
            entries.append((tensor.name, content, try tie(tensor, to: &first, files)))
            items.append((tensor, files))
            nested.add(.tensor(tensor.name), at: all.paths[ExactString(tensor.name)] ?? [StateKey(tensor.name)])
        }
        for (name, location) in all.objects {
            do throws(CairnError) {
                try files.check(location)
                names.insert(ExactString(location.file))
                try addObject(
                    object(files, location), name, in: location.file, at: all.paths[ExactString(name)] ?? [StateKey(name)])
            } catch {
                guard toleratesMissingFiles, error.code == .incomplete else {
                    throw error.moved(to: location).adding(.init(file: location.file, tensor: name))
                }
                skippedEntries.append("\(name): its file \(location.file) is missing or too short")
                skippedTensorCount += 1
            }
        }
        if !toleratesMissingFiles { try compare(all.copies, all.objects, files) }
        try addCommonState()
        fileCount = names.count + keys.count
    }

    /// The name of the tensor that has the same items, which only writers that know of ties give to two.
    private func tie(
        _ tensor: DistributedMetadata.Tensor, to first: inout [[DistributedMetadata.Location]: Int],
        _ files: DistributedFiles
    ) throws(CairnError) -> String? {
        let locations = tensor.pieces.map(\.location)
        guard !locations.isEmpty else { return nil }
        guard let position = first[locations], case let kept = items[position].tensor,
            kept.scalarType == tensor.scalarType, kept.shape == tensor.shape,
            kept.pieces.map(\.region) == tensor.pieces.map(\.region), try !isSafetensors(files, locations[0])
        else {
            first[locations] = items.count
            return nil
        }
        return kept.name
    }

    /// A file that is missing says nothing of ties.
    private func isSafetensors(
        _ files: DistributedFiles, _ location: DistributedMetadata.Location
    ) throws(CairnError) -> Bool {
        do throws(CairnError) {
            return try files.isSafetensors(location)
        } catch {
            guard toleratesMissingFiles, error.code.isUnusable else { throw error }
            return false
        }
    }

    private func object(
        _ files: DistributedFiles, _ location: DistributedMetadata.Location
    ) throws(CairnError) -> any StorageFile {
        try files.window(location, limit: Self.greatestObject)
    }

    /// What all ranks have alike and Megatron's checkpoints up to 0.16 keep in a file of `torch.save` of its own.
    private mutating func addCommonState() throws(CairnError) {
        let key = prefix + Self.commonName
        guard try storage.list(key).contains(where: { $0.key == key }) else { return }
        let contents = try TorchContents(FileWindow(storage, key))
        for tensor in contents.tensors {
            entries.append((StateNames.joined(tensor.path), tensor.content, nil))
            tensorFiles[ExactString(StateNames.joined(tensor.path))] = Self.commonName
        }
        for (path, value) in contents.values { try leaves.add(value, at: path) }
        skippedEntries += contents.skippedEntries
        skippedTensorCount += contents.skippedTensorCount
        // Its parts belong between the others; there is no telling where.
        isNested = false
    }

    /// Says which values other ranks saved otherwise than the first.
    private mutating func compare(
        _ copies: [(name: String, location: DistributedMetadata.Location)],
        _ objects: [(name: String, location: DistributedMetadata.Location)], _ files: DistributedFiles
    ) throws(CairnError) {
        var locations: [ExactString: DistributedMetadata.Location] = [:]
        for object in objects { locations[ExactString(object.name)] = object.location }
        for (name, location) in copies {
            guard let first = locations[ExactString(name)] else { continue }
            try files.check(location)
            let (one, other) = (try contents(of: object(files, first)), try contents(of: object(files, location)))
            let isSame =
                one.values.map(\.value) == other.values.map(\.value)
                && one.values.map(\.path) == other.values.map(\.path) && one.tensors.count == other.tensors.count
            if !isSame { skippedEntries.append("\(location.file) has another value of \(name), which is left out") }
        }
    }

    /// An object: a file of `torch.save`, or a bare pickle.
    private mutating func addObject(
        _ file: any StorageFile, _ name: String, in fileName: String, at path: [StateKey]
    ) throws(CairnError) {
        let contents = try contents(of: file)
        var names: [String] = []
        for tensor in contents.tensors {
            names.append(StateNames.joined([StateKey(name)] + tensor.path))
            entries.append((names[names.count - 1], tensor.content, nil))
            tensorFiles[ExactString(names[names.count - 1])] = fileName
        }
        for (inner, value) in contents.values { try leaves.add(value, at: path + inner) }
        nested.add(contents.structure(naming: names), at: path)
        skippedEntries += contents.skippedEntries.map { "\(name): \($0)" }
        skippedTensorCount += contents.skippedTensorCount
    }

    private func contents(of file: any StorageFile) throws(CairnError) -> TorchContents {
        let beginning = try file.bytes(in: 0..<min(4, file.byteCount))
        if beginning.elementsEqual([0x50, 0x4B, 3, 4]) { return try TorchContents(file, isPart: true) }
        guard file.byteCount <= Self.greatestObject else {
            throw CairnError(.unsupported, "an object is too large", .init(found: "\(file.byteCount) bytes"))
        }
        if TorchContainer.isTorch(beginning) { return try TorchContents(file, isPart: true) }
        // A bare pickle of an old protocol.
        let graph = try PickleInterpreter.read(file.bytes(in: 0..<file.byteCount), file: file.key)
        return try TorchContents(
            PickledState(graph, file: file.key, isPart: true), of: NoStorages(file: file.key))
    }

    mutating func addShards(_ keys: [String]) throws(CairnError) {
        let contents = try ShardedSafeTensors.contents(of: keys, in: storage)
        var known: [ExactString: AssembledTensor] = [:]
        for (name, content) in contents.tensors {
            entries.append((name, content, nil))
            known[ExactString(name)] = content
        }
        for tie in contents.ties {
            guard let content = known[ExactString(tie.kept)] else {
                throw CairnError(
                    .malformed, "the tensor that this one is tied to is not stored",
                    .init(file: source, tensor: tie.name, expected: tie.kept))
            }
            entries.append((tie.name, content, tie.kept))
        }
        for value in contents.values { try leaves.add(value.value, at: [StateKey(value.name)]) }
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
