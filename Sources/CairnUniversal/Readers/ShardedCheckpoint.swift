public import CairnBase
public import CairnCheckpoint
public import CairnLayout

/// A logical checkpoint as the shards of a mesh: bound once, read as any of its ranks.
public struct ShardedCheckpoint: Sendable {
    /// The mesh.
    public let mesh: DeviceMesh
    private let binding: ShardingBinding
    private let reader: any CheckpointReader

    /// Shards a checkpoint by the rules that gather its shards.
    ///
    /// - Parameters:
    ///   - sizes: The sizes of mesh axes that the specification leaves open, or others than it has.
    ///   - allowsLosses: Whether rules that work in one direction only are put up with: what was dropped is missing
    ///     then, a mean is every rank's, a sum is the first rank's and the others have zeros, a cast is cast back.
    /// - Throws: ``CairnError/Code/unsupported`` for a rule that works in one direction only,
    ///   ``CairnError/Code/mismatch`` or ``CairnError/Code/incomplete`` for what does not fit.
    public init(
        _ reader: any CheckpointReader, spec: UniversalSpec, mesh sizes: [String: Int] = [:],
        allowsLosses: Bool = false
    ) throws(CairnError) {
        mesh = try spec.mesh(sizes)
        self.reader = reader
        binding = try ShardingBinding(
            CompiledSpecification(spec), mesh: mesh, reader: reader, allowsLosses: allowsLosses)
        if let error = binding.problems.firstError() { throw error }
    }

    /// What a rank holds.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for a rank that the mesh does not have,
    ///   ``CairnError/Code/mismatch`` when two tensors of the rank would have one name.
    public func shard(ofRank rank: Int) throws(CairnError) -> ShardReader {
        guard rank >= 0, rank < mesh.rankCount else {
            throw CairnError(
                .invalidArgument, "the mesh has no such rank",
                .init(rank: rank, expected: "below \(mesh.rankCount)"))
        }
        return try ShardReader(
            locals: binding.locals(ofRank: rank), buffers: binding.buffers.buffers(ofRank: rank),
            values: GatheredValues.shard(reader.values, rank: rank), source: reader.source, rank: rank,
            ledger: binding.ledger)
    }
}
