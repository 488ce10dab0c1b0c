public import CairnBase
public import CairnLayout
public import CairnTensor

/// A checkpoint, whatever it is made of: something that lists tensors and reads regions of them.
///
/// Files of every format are readers, and so is every transformation of another reader, so that a renamed or cast
/// checkpoint costs nothing until it is read. Calls block; make them from several threads if you like, but
/// not from a `Task`, whose threads are few.
///
/// What a format knows beyond its tensors it says by the requirements below that have defaults. A view of another reader
/// passes them on, with its own names, so that it loads and verifies as what it is a view of.
public protocol CheckpointReader: Sendable {
    /// The format's short name: `cairn`, `safetensors`, …
    var format: String { get }
    /// Where it was read from, for messages.
    var source: String { get }
    /// Every logical tensor, sorted by the bytes of its name, each name once.
    var tensors: [TensorDescription] { get }
    /// The values beside the tensors, sorted by the bytes of their names.
    var values: [NamedValue] { get }
    /// Text that the files hold beside the tensors and that is not among the values, sorted by the bytes of the keys.
    var metadata: [NamedValue] { get }
    /// How tensors and values were nested in the state that was saved, where the format keeps that.
    var structure: StateNode? { get }
    /// Which save it is, where the format says so.
    var identity: CheckpointIdentity? { get }
    /// What is in the files and not, or not whole, in the reader: a sentence each.
    var skippedEntries: [String] { get }
    /// How many tensors are in the files and not in the reader. What is not known in number counts as one each.
    var skippedTensorCount: Int { get }
    /// What reading has changed so far beyond rounding floats: numbers that a conversion made infinite, or others. `nil` where
    /// nothing is converted.
    var losses: [LossNote]? { get }

    /// The values that single ranks of the job that saved had alone, in the order of ranks; those without any are left out.
    ///
    /// They may stand in a file for each rank, whose header is then read.
    ///
    /// - Throws: What a damaged or missing file throws.
    func rankValues() throws(CairnError) -> [RankValues]

    /// The values that one rank of the job had alone; `nil` where the checkpoint has none of such a rank.
    ///
    /// - Throws: As ``rankValues()``, and ``CairnError/Code/notFound`` when no such rank wrote the checkpoint.
    func rankValues(ofRank rank: Int) throws(CairnError) -> RankValues?

    /// Fills `destination` with a region of a tensor, row-major.
    ///
    /// Reads little more of the source than the region needs and verifies whatever checksums cover it.
    ///
    /// - Throws: ``CairnError/Code/notFound`` for an unknown name, ``CairnError/Code/mismatch`` when the region lies
    ///   outside or `destination` has another size, ``CairnError/Code/corrupted`` when a checksum differs.
    func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError)

    /// Reads many regions, of one tensor or of many, each to its place in memory: in the order in which they are stored, what
    /// several need once, several side by side, and converted where the memory is of another element type.
    ///
    /// - Throws: As ``read(_:region:into:)``, what the options' `progress` throws, and ``CairnError/Code/unsupported`` for types
    ///   that do not convert.
    func read(_ requests: [RegionRequest], options: BulkReadOptions) throws

    /// The tensor over the mapped file, without copying, reading or verifying; `nil` where that cannot be had.
    func mapped(_ name: String) throws(CairnError) -> Tensor?

    /// The pieces in which a tensor is stored, which together cover it, each with the file that holds it; `nil` where that is not
    /// known.
    ///
    /// - Parameter region: Only pieces that hold some of it; all by default.
    /// - Throws: ``CairnError/Code/notFound`` for an unknown name.
    func storedPieces(of name: String, in region: Region?) throws(CairnError) -> [StoredPiece]?

    /// Makes sure that the files have the bytes that a tensor's description claims, as far as that can be told without memory
    /// for all of them.
    ///
    /// - Throws: ``CairnError/Code/notFound`` for an unknown name; what a file that lacks them throws.
    func requireStored(_ name: String) throws(CairnError)

    /// Checks what opening did not: with `deep`, every byte of data, against its checksum where it has one. Continues after damage.
    ///
    /// - Parameter progress: Called, from any reading thread, with the number of bytes just read; throwing stops.
    func verify(deep: Bool, progress: @escaping @Sendable (Int) throws -> Void) throws -> VerificationReport
}

/// A value and its name.
public struct NamedValue: Sendable, Hashable {
    public var name: String
    public var value: Value

    public init(name: String, value: Value) {
        self.name = name
        self.value = value
    }
}

extension [NamedValue] {
    /// The values by their names.
    package var byName: [String: Value] { Dictionary(map { ($0.name, $0.value) }, uniquingKeysWith: { first, _ in first }) }
}

extension CheckpointReader {
    public var metadata: [NamedValue] { [] }
    public var structure: StateNode? { nil }
    public var identity: CheckpointIdentity? { nil }
    public var skippedEntries: [String] { [] }
    public var skippedTensorCount: Int { skippedEntries.count }
    public var losses: [LossNote]? { nil }

    public func rankValues() throws(CairnError) -> [RankValues] { [] }

    public func rankValues(ofRank rank: Int) throws(CairnError) -> RankValues? {
        try rankValues().first { $0.rank == rank }
    }

    public func read(_ requests: [RegionRequest], options: BulkReadOptions) throws {
        try readByRegion(requests, options)
    }

    public func mapped(_ name: String) throws(CairnError) -> Tensor? { nil }

    public func storedPieces(of name: String, in region: Region?) throws(CairnError) -> [StoredPiece]? { nil }

    public func requireStored(_ name: String) throws(CairnError) {}

    public func verify(
        deep: Bool, progress: @escaping @Sendable (Int) throws -> Void
    ) throws -> VerificationReport {
        try verifyByReading(deep: deep, progress: progress)
    }

    /// What a verification is where the data have no checksums: with `deep` all of them are read.
    func verifyByReading(deep: Bool, progress: (Int) throws -> Void) throws -> VerificationReport {
        var report = VerificationReport()
        report.fileCount = 1
        guard deep else { return report }
        var buffer: [UInt8] = []
        for tensor in tensors where tensor.tiedTo == nil {
            try report.addUnsummed(ReaderView(self, tensor), named: tensor.name, buffer: &buffer, progress: progress)
        }
        return report
    }
}

extension CheckpointReader {
    /// The description of a tensor by binary search.
    ///
    /// - Throws: ``CairnError/Code/notFound``.
    public func description(of name: String) throws(CairnError) -> TensorDescription {
        let tensors = self.tensors
        return tensors[try tensors.requiredPosition(of: name, in: source)]
    }

    /// All pieces in which a tensor is stored; `nil` where that is not known.
    ///
    /// - Throws: As ``storedPieces(of:in:)``.
    public func storedPieces(of name: String) throws(CairnError) -> [StoredPiece]? { try storedPieces(of: name, in: nil) }

    /// Checks what opening did not, without telling how far it is; see ``verify(deep:progress:)``.
    public func verify(deep: Bool) throws -> VerificationReport { try verify(deep: deep) { _ in } }

    /// A tensor or a region of it, read and verified, in memory of its own.
    ///
    /// - Parameter region: What is read, with little more of the file than that needs; the whole tensor by default.
    /// - Throws: As ``read(_:region:into:)``.
    public func tensor(_ name: String, region: Region? = nil, pool: BufferPool? = nil) throws -> Tensor {
        let description = try description(of: name)
        if let region {
            // Before there is memory for it.
            guard region.isInside(description.shape) else {
                throw CairnError(
                    .mismatch, "a region lies outside its tensor",
                    .init(file: source, tensor: name, expected: "inside \(description.shape)", found: "\(region)"))
            }
        } else {
            try requireStored(name)
        }
        let region = region ?? Region(whole: description.shape)
        return try Tensor(description.scalarType, region.shape, pool: pool) { destination in
            try read(name, region: region, into: &destination)
        }
    }
}

/// What a checkpoint says of one logical tensor, known without reading its data.
public struct TensorDescription: Sendable, Hashable {
    /// The fully-qualified name.
    public var name: String
    /// The type of the elements.
    public var scalarType: ScalarType
    /// The shape of the whole tensor, unsharded.
    public var shape: Shape
    /// The name whose bytes this tensor shares, when the checkpoint stores the two once.
    public var tiedTo: String?

    public init(name: String, scalarType: ScalarType, shape: Shape, tiedTo: String? = nil) {
        self.name = name
        self.scalarType = scalarType
        self.shape = shape
        self.tiedTo = tiedTo
    }

    /// The bytes of the whole tensor. Readers list only tensors whose size is representable.
    public var byteCount: Int { scalarType.byteCount(elementCount: shape.elementCount) ?? 0 }
}

extension Sequence<TensorDescription> {
    /// The bytes of all of them; the greatest number where a checkpoint claims more, which it may before it is read.
    package var totalByteCount: Int { reduce(0) { $0.adding(clamped: $1.byteCount) } }

    /// The elements of all of them; the greatest number where a checkpoint claims more.
    package var totalElementCount: Int { reduce(0) { $0.adding(clamped: $1.shape.elementCount) } }
}

extension [TensorDescription] {
    /// Makes sure that every tensor that is tied to another one is tied to one that is written.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument``.
    package func requireWrittenTies(in file: String) throws(CairnError) {
        let stored = Set(filter { $0.tiedTo == nil }.map { ExactString($0.name) })
        for tensor in self {
            guard let kept = tensor.tiedTo, !stored.contains(ExactString(kept)) else { continue }
            throw CairnError(
                .invalidArgument, "the tensor that this one is tied to is not written",
                .init(file: file, tensor: tensor.name, expected: kept))
        }
    }

    /// Where the tensor of this name is in a list that is sorted by the bytes of the names.
    package func position(of name: String) -> Int? {
        let wanted = ExactString(name)
        let position = firstPosition { !(ExactString($0.name) < wanted) }
        return position < count && ExactString(self[position].name) == wanted ? position : nil
    }

    /// Where the tensor of this name is, of a checkpoint that `source` names.
    ///
    /// - Throws: ``CairnError/Code/notFound``.
    package func requiredPosition(of name: String, in source: String) throws(CairnError) -> Int {
        guard let position = position(of: name) else { throw CairnError.noTensor(name, in: source) }
        return position
    }
}

extension CairnError {
    /// A checkpoint was asked for a tensor that it does not have.
    package static func noTensor(_ name: String, in source: String) -> CairnError {
        CairnError(.notFound, "the checkpoint has no such tensor", .init(file: source, tensor: name))
    }
}

/// A piece of a tensor as it is stored, and the file that holds it.
public struct StoredPiece: Sendable, Hashable {
    /// The part of the whole tensor.
    public var region: Region
    /// The file's name or path, as the format has it.
    public var file: String
    /// The type of the stored elements. A view may show them in another one.
    public var scalarType: ScalarType

    public init(region: Region, file: String, scalarType: ScalarType) {
        self.region = region
        self.file = file
        self.scalarType = scalarType
    }
}

/// Which save a checkpoint is, and of which ranks.
public struct CheckpointIdentity: Sendable, Hashable {
    /// The step of training.
    public var step: Int
    /// What tells the save from every other one.
    public var saveID: SaveID
    /// How many ranks saved it.
    public var rankCount: Int
    /// The meshes that their layouts name.
    public var meshes: [DeviceMesh]

    public init(step: Int, saveID: SaveID, rankCount: Int, meshes: [DeviceMesh]) {
        self.step = step
        self.saveID = saveID
        self.rankCount = rankCount
        self.meshes = meshes
    }
}
