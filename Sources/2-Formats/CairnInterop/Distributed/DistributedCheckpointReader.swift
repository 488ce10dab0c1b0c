public import CairnBase
public import CairnCheckpoint
public import CairnStorage
public import CairnTensor

/// A checkpoint directory of torch.distributed.checkpoint (DCP), in its own format or as safetensors shards.
///
/// Tensors are whole, whatever shards they are stored in: regions are put together from the chunks that they touch,
/// and no others are read. That the chunks cover each tensor exactly, and that their files are there and long enough,
/// is checked when the checkpoint is opened. Objects become values at the keys that they had before their names were
/// flattened. Nothing is executed; checksums are verified whenever the whole of a chunk has been read.
public final class DistributedCheckpointReader: CheckpointReader {
    public let format = "dcp"
    public let source: String
    public let values: [NamedValue]
    public let skippedEntries: [String]
    public let skippedTensorCount: Int
    public var tensors: [TensorDescription] { table.descriptions }
    public let structure: StateNode?

    /// The file that describes the checkpoint.
    package static let metadataName = ".metadata"
    private let table: TensorTable
    private let items: [(tensor: DistributedMetadata.Tensor, files: DistributedFiles)]
    private let fileCount: Int
    /// The files of tensors that are not items of their own.
    private let tensorFiles: [ExactString: String]

    /// Opens the checkpoint whose files' keys in `storage` begin with `prefix`, such as `step-400/`.
    ///
    /// - Parameter source: What to call it in messages.
    /// - Throws: ``CairnError/Code/incomplete`` when files or chunks are missing, ``CairnError/Code/malformed`` when
    ///   chunks overlap or the metadata contradicts itself, ``CairnError/Code/unsupported`` for what is refused.
    public convenience init(storage: any Storage, prefix: String = "", source: String) throws(CairnError) {
        try self.init(storage: storage, prefix: prefix, source: source, toleratesMissingFiles: false)
    }

    /// The same; with `toleratesMissingFiles` also of a checkpoint of which data files are missing or cut short: what is in them
    /// is listed, and cannot be read.
    init(
        storage: any Storage, prefix: String = "", source: String, toleratesMissingFiles: Bool
    ) throws(CairnError) {
        self.source = source
        let keys = try storage.list(prefix).map(\.key)
        var builder = DistributedContents(
            storage, prefix: prefix, source: source, toleratesMissingFiles: toleratesMissingFiles)
        if keys.contains(prefix + Self.metadataName) {
            try builder.addMetadata([prefix + Self.metadataName])
        } else if case let ranks = Self.rankMetadata(among: keys, prefix: prefix), !ranks.isEmpty {
            try builder.addMetadata(ranks)
        } else {
            let shards = keys.filter { key in
                key.hasSuffix(".safetensors") && !key.dropFirst(prefix.count).contains("/")
            }
            guard !shards.isEmpty else {
                throw CairnError(
                    .notFound, "the directory is not a checkpoint of torch.distributed.checkpoint",
                    .init(file: source, expected: Self.metadataName))
            }
            try builder.addShards(shards)
        }
        table = try builder.table()
        values = try builder.leaves.values()
        skippedEntries = builder.skippedEntries
        skippedTensorCount = builder.skippedTensorCount
        structure = builder.structure
        items = builder.items
        fileCount = builder.fileCount
        tensorFiles = builder.tensorFiles
    }

    /// Opens the directory at a path.
    public convenience init(path: String) throws(CairnError) {
        try self.init(storage: LocalStorage(root: path), source: path)
    }

    /// The number of the rank whose own metadata a file of this name is: 3 for `__3.metadata`.
    package static func rank(ofMetadata name: String) -> Int? {
        guard name.hasPrefix("__"), name.hasSuffix(metadataName) else { return nil }
        return Int(name.dropFirst(2).dropLast(metadataName.utf8.count))
    }

    /// The metadata that ranks wrote each for itself, in the order of the ranks.
    private static func rankMetadata(among keys: [String], prefix: String) -> [String] {
        keys.compactMap { key in rank(ofMetadata: String(key.dropFirst(prefix.count))).map { (rank: $0, key: key) } }
            .sorted { $0.rank < $1.rank }.map(\.key)
    }

    public func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try table.read(name, region: region, into: &destination)
    }

    public func storedPieces(of name: String, in region: Region?) throws(CairnError) -> [StoredPiece]? {
        try table.content(name).storedPieces(in: region, file: tensorFiles[ExactString(name)] ?? source)
    }

    public func verify(
        deep: Bool, progress: @escaping @Sendable (Int) throws -> Void
    ) throws -> VerificationReport {
        var report = VerificationReport()
        report.fileCount = fileCount
        var buffer: [UInt8] = []
        for (tensor, files) in items {
            for (region, location) in tensor.pieces {
                let item: DistributedFiles.Item
                do throws(CairnError) {
                    item = try files.item(location, of: tensor, region)
                } catch {
                    report.damages.append(.init(error: error.adding(.init(file: location.file, tensor: tensor.name))))
                    continue
                }
                guard deep else { continue }
                if item.records.isEmpty {
                    try report.addUnsummed(item.content, named: tensor.name, buffer: &buffer, progress: progress)
                }
                for record in item.records {
                    report.chunkCount += 1
                    report.byteCount += record.byteCount
                    if record.entry.checksum == nil { report.unsummedByteCount += record.byteCount }
                    guard let damage = try record.damage(progress: progress) else { continue }
                    report.damages.append(
                        .init(error: damage.moved(to: location).adding(.init(tensor: tensor.name))))
                }
            }
        }
        guard deep, items.isEmpty else { return report }
        // Shards in safetensors have no items, and no checksums.
        for tensor in tensors where tensor.tiedTo == nil {
            try report.addUnsummed(table.content(tensor.name), named: tensor.name, buffer: &buffer, progress: progress)
        }
        return report
    }
}

/// A tensor that is stored in boxes, which cover it exactly, and where they are.
struct AssembledTensor: TensorView {
    /// A box and what opens its elements.
    struct Piece: Sendable {
        var region: Region
        /// The file that holds it.
        var file: String
        var open: @Sendable () throws(CairnError) -> any TensorView
        /// The item, in whose file its own offsets are counted from its beginning.
        var location: DistributedMetadata.Location
    }

    let pieces: [Piece]
    private let view: MappedView
    var scalarType: ScalarType { view.scalarType }
    var shape: Shape { view.shape }

    init(scalarType: ScalarType, shape: Shape, pieces: [Piece]) {
        self.pieces = pieces
        view = MappedView(
            pieces.map { PieceView(piece: $0, scalarType: scalarType) },
            BoxesMapping(pieces.map(\.region), shape: shape), scalarType)
    }

    /// The boxes, or those that hold some of a region, with their files.
    ///
    /// - Parameter file: The file of boxes that do not name one.
    func storedPieces(in region: Region?, file: String) -> [StoredPiece] {
        pieces.filter { region.map($0.region.overlaps) ?? true }
            .map { StoredPiece(region: $0.region, file: $0.file.isEmpty ? file : $0.file, scalarType: scalarType) }
    }

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try view.read(region, into: &destination)
    }
}

/// A box, opened for every read. Damage is named by its offset in the file.
private struct PieceView: TensorView {
    let piece: AssembledTensor.Piece
    let scalarType: ScalarType
    var shape: Shape { piece.region.shape }

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        do throws(CairnError) {
            try piece.open().read(region, into: &destination)
        } catch {
            throw error.code == .corrupted ? error.moved(to: piece.location) : error
        }
    }
}
