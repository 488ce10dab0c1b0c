public import CairnBase
public import CairnTensor

/// A reader that shows another one under other names, with other types, or in part.
///
/// Everything that it does not define itself it passes on to ``base`` under the names that the base has, so that it loads by the
/// same reads, is planned by the same stored pieces, carries the same identity, and verifies.
public protocol CheckpointView: CheckpointReader {
    /// What it is a view of.
    var base: any CheckpointReader { get }

    /// The name under which the base has the same elements, of the same type and shape; `nil` for a tensor that the view makes.
    /// Loads of many tensors ask the base under that name and not ``CheckpointReader/read(_:region:into:)``, so give `nil` for
    /// every tensor whose elements the view changes.
    ///
    /// - Throws: ``CairnError/Code/notFound`` for a name that the view does not have.
    func baseName(of name: String) throws(CairnError) -> String?
}

extension CheckpointView {
    public var format: String { base.format }
    public var source: String { base.source }
    public var metadata: [NamedValue] { base.metadata }
    public var identity: CheckpointIdentity? { base.identity }
    public var skippedEntries: [String] { base.skippedEntries }
    public var skippedTensorCount: Int { base.skippedTensorCount }
    public var losses: [LossNote]? { base.losses }

    public func rankValues() throws(CairnError) -> [RankValues] { try base.rankValues() }

    public func rankValues(ofRank rank: Int) throws(CairnError) -> RankValues? { try base.rankValues(ofRank: rank) }

    public func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        guard let original = try baseName(of: name) else {
            throw CairnError(.notFound, "the view does not say how the tensor is read", .init(file: source, tensor: name))
        }
        try base.read(original, region: region, into: &destination)
    }

    public func read(_ requests: [RegionRequest], options: BulkReadOptions) throws {
        try forward(requests, to: base, options) { request throws(CairnError) in
            try self.baseName(of: request.name).map(request.renamed)
        }
    }

    public func mapped(_ name: String) throws(CairnError) -> Tensor? {
        guard let original = try baseName(of: name) else { return nil }
        return try base.mapped(original)
    }

    public func storedPieces(of name: String, in region: Region?) throws(CairnError) -> [StoredPiece]? {
        guard let original = try baseName(of: name) else { return nil }
        return try base.storedPieces(of: original, in: region)
    }

    public func requireStored(_ name: String) throws(CairnError) {
        if let original = try baseName(of: name) { try base.requireStored(original) }
    }

    public func verify(
        deep: Bool, progress: @escaping @Sendable (Int) throws -> Void
    ) throws -> VerificationReport {
        try base.verify(deep: deep, progress: progress)
    }
}

/// Another checkpoint with elements of another type, converted as they are read.
///
/// Floats round to nearest even. Numbers that the new type cannot hold are noted as they are read, in ``losses``. A tensor that
/// is tied to one that keeps its type becomes one by itself.
public struct CastReader: CheckpointView {
    /// Which tensors are converted.
    public enum Scope: Sendable, Hashable {
        /// Those whose elements are real floating-point numbers.
        case floatingPoint
        /// All.
        case all
    }

    public let base: any CheckpointReader
    private let overflow: OverflowBehavior
    private let ledger = LossLedger()
    public let tensors: [TensorDescription]

    public var values: [NamedValue] { base.values }
    public var structure: StateNode? { base.structure }
    public var losses: [LossNote]? { (base.losses ?? []) + ledger.notes }

    /// Converts the tensors that fit one of the patterns, or any if there are none.
    ///
    /// - Parameter overflow: What becomes of numbers that the new type cannot hold.
    /// - Throws: ``CairnError/Code/unsupported`` for a tensor whose type does not convert, or that is part of a weight in codes
    ///   with scales beside them, ``CairnError/Code/notFound`` for a pattern that fits no tensor,
    ///   ``CairnError/Code/invalidArgument`` for an invalid one.
    public init(
        _ base: any CheckpointReader, to scalarType: ScalarType, patterns: [String] = [],
        scope: Scope = .floatingPoint, overflow: OverflowBehavior = .ieee
    ) throws(CairnError) {
        self.base = base
        self.overflow = overflow
        let selected = try PatternList(patterns, applyingTo: base.tensors.map(\.name), of: base.source)
        try QuantisedWeights(in: base.tensors).refuse("a conversion of types", of: base.source) { name in
            patterns.isEmpty || selected.match(name)
        }
        var viewed: [ViewedTensor] = []
        for tensor in base.tensors {
            var description = tensor
            let isInScope = scope == .all || tensor.scalarType.isFloatingPoint
            if isInScope && (patterns.isEmpty || selected.match(tensor.name)) {
                guard ScalarConversion.isSupported(from: tensor.scalarType, to: scalarType) else {
                    throw CairnError(
                        .unsupported, "\(tensor.scalarType) does not convert to \(scalarType)",
                        .init(file: base.source, tensor: tensor.name, advice: "leave this tensor out by patterns"))
                }
                guard scalarType.byteCount(elementCount: tensor.shape.elementCount) != nil else {
                    throw CairnError(
                        .unsupported, "the converted tensor is too large",
                        .init(file: base.source, tensor: tensor.name))
                }
                description.scalarType = scalarType
            }
            viewed.append(ViewedTensor(description: description, originalName: tensor.name))
        }
        tensors = viewed.retied(below: base.tensors).map(\.description)
    }

    public func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        let original = try base.description(of: name)
        let scalarType = try description(of: name).scalarType
        guard original.scalarType != scalarType else {
            return try base.read(name, region: region, into: &destination)
        }
        let view = CastView(
            ReaderView(base, original), to: scalarType, overflow: overflow, recorder: LossRecorder(ledger: ledger, tensor: name))
        do throws(CairnError) {
            try view.read(region, into: &destination)
        } catch {
            throw error.adding(.init(file: source, tensor: name))
        }
    }

    public func baseName(of name: String) throws(CairnError) -> String? {
        try base.description(of: name).scalarType == description(of: name).scalarType ? name : nil
    }

    /// The base converts on the way, unless the memory is of a third type.
    public func read(_ requests: [RegionRequest], options: BulkReadOptions) throws {
        try forward(requests, to: base, options) { request throws(CairnError) in
            guard try baseName(of: request.name) == nil else { return request }
            guard try description(of: request.name).scalarType == request.target.scalarType else { return nil }
            var converting = request
            converting.target.overflow = overflow
            converting.target.recorder = LossRecorder(ledger: ledger, tensor: request.name)
            return converting
        }
    }

    public func requireStored(_ name: String) throws(CairnError) { try base.requireStored(name) }

    public func storedPieces(of name: String, in region: Region?) throws(CairnError) -> [StoredPiece]? {
        try base.storedPieces(of: name, in: region)
    }
}
