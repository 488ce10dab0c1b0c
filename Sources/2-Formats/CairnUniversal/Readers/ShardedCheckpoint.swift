public import CairnBase
public import CairnCheckpoint
package import CairnLayout
public import CairnTensor

/// A logical checkpoint as the shards of a mesh: bound once, read as any of its ranks.
public struct ShardedCheckpoint: Sendable {
    /// The mesh.
    package let mesh: DeviceMesh
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

/// What one rank of a mesh holds of a logical checkpoint: its local tensors, under foreign names.
public struct ShardReader: CheckpointReader {
    public var tensors: [TensorDescription] { table.descriptions }
    public let values: [NamedValue]
    public let source: String
    /// The rank.
    package let rank: Int
    private let table: TensorTable
    private let ledger: LossLedger

    public var format: String { "shard" }
    /// What casts have lost so far, in all shards of the division alike.
    public var losses: [LossNote]? { ledger.notes }

    /// One rank's shard of a logical checkpoint. For all ranks make a ``ShardedCheckpoint`` once.
    ///
    /// - Throws: As ``ShardedCheckpoint``.
    package init(
        _ reader: any CheckpointReader, spec: UniversalSpec, mesh sizes: [String: Int] = [:], rank: Int,
        allowsLosses: Bool = false
    ) throws(CairnError) {
        let sharded = try ShardedCheckpoint(reader, spec: spec, mesh: sizes, allowsLosses: allowsLosses)
        self = try sharded.shard(ofRank: rank)
    }

    init(
        locals: [(name: String, source: any TensorView)], buffers: [BoundBuffers.Local], values: [NamedValue],
        source: String, rank: Int, ledger: LossLedger
    ) throws(CairnError) {
        self.ledger = ledger
        var byName: [ExactString: any TensorView] = [:]
        for (name, local) in locals {
            guard byName.updateValue(local, forKey: ExactString(name)) == nil else {
                throw CairnError(
                    .mismatch, "two tensors of a rank would have one name", .init(tensor: name, rank: rank))
            }
        }
        for buffer in buffers {
            byName[ExactString(buffer.buffer.name)] = try Self.pack(buffer, from: &byName, rank: rank)
        }
        table = TensorTable(byName.map { ($0.key.string, $0.value, nil) }, source: source)
        self.values = values
        self.source = source
        self.rank = rank
    }

    /// Takes a buffer's members out of the tensors and makes the buffer of them.
    private static func pack(
        _ local: BoundBuffers.Local, from tensors: inout [ExactString: any TensorView], rank: Int
    ) throws(CairnError) -> any TensorView {
        let name = local.buffer.name
        var inputs: [any TensorView] = []
        var runs: [FlatMapping.Run] = []
        for member in local.members {
            guard let source = tensors.removeValue(forKey: ExactString(member.name)) else {
                throw CairnError(
                    .incomplete, "a member of a flat buffer is missing",
                    .init(tensor: member.name, rank: rank, expected: "a tensor for \"\(name)\""))
            }
            guard source.shape == [member.local.count] else {
                throw CairnError(
                    .mismatch, "a member of a flat buffer has another size than the buffer has room for",
                    .init(
                        tensor: member.name, rank: rank, expected: "[\(member.local.count)]", found: "\(source.shape)"))
            }
            inputs.append(source)
            runs.append(.init(member.local))
        }
        guard let type = inputs.first?.scalarType, inputs.allSatisfy({ $0.scalarType == type }) else {
            throw CairnError(
                .mismatch, "the members of a flat buffer have different element types, or there are none",
                .init(tensor: name, rank: rank))
        }
        return MappedView(inputs, FlatMapping(shape: [local.count], runs: runs, hasPadding: true), type)
    }

    public func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        do throws(CairnError) {
            try table.read(name, region: region, into: &destination)
        } catch {
            throw error.adding(.init(rank: rank))
        }
    }
}
