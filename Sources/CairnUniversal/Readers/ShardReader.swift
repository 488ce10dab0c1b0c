public import CairnBase
public import CairnCheckpoint
public import CairnTensor

/// What one rank of a mesh holds of a logical checkpoint: its local tensors, under foreign names.
public struct ShardReader: CheckpointReader {
    public var tensors: [TensorDescription] { table.descriptions }
    public let values: [NamedValue]
    public let source: String
    /// The rank.
    public let rank: Int
    private let table: TensorTable
    private let ledger: LossLedger

    public var format: String { "shard" }
    /// What casts have lost so far, in all shards of the division alike.
    public var losses: [LossNote]? { ledger.notes }

    /// One rank's shard of a logical checkpoint. For all ranks make a ``ShardedCheckpoint`` once.
    ///
    /// - Throws: As ``ShardedCheckpoint``.
    public init(
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
