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
