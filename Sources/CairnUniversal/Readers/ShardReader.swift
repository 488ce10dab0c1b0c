public import CairnBase
public import CairnCheckpoint
public import CairnTensor

/// What one rank of a mesh holds of a logical checkpoint: its local tensors, under foreign names.
public struct ShardReader: CheckpointReader {
    public let tensors: [TensorDescription]
    public let values: [NamedValue]
    public let source: String
    /// The rank.
    public let rank: Int
    /// Parallel to `tensors`.
    private let sources: [any TensorSource]
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
        locals: [(name: String, source: any TensorSource)], buffers: [BoundBuffers.Local], values: [NamedValue],
        source: String, rank: Int, ledger: LossLedger
    ) throws(CairnError) {
        self.ledger = ledger
        var byName: [ExactString: any TensorSource] = [:]
        for (name, local) in locals {
            guard byName.updateValue(local, forKey: ExactString(name)) == nil else {
                throw CairnError(
                    .mismatch, "two tensors of a rank would have one name", .init(tensor: name, rank: rank))
            }
        }
        for buffer in buffers {
            byName[ExactString(buffer.buffer.name)] = try Self.pack(buffer, from: &byName, rank: rank)
        }
        let sorted = byName.sorted { $0.key < $1.key }
        tensors = sorted.map {
            TensorDescription(name: $0.key.string, scalarType: $0.value.scalarType, shape: $0.value.shape)
        }
        sources = sorted.map(\.value)
        self.values = values
        self.source = source
        self.rank = rank
    }

    /// Takes a buffer's members out of the tensors and makes the buffer of them.
    private static func pack(
        _ local: BoundBuffers.Local, from tensors: inout [ExactString: any TensorSource], rank: Int
    ) throws(CairnError) -> any TensorSource {
        let name = local.buffer.name
        var inputs: [any TensorSource] = []
        var ranges: [Range<Int>] = []
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
            ranges.append(member.local)
        }
        guard let type = inputs.first?.scalarType, inputs.allSatisfy({ $0.scalarType == type }) else {
            throw CairnError(
                .mismatch, "the members of a flat buffer have different element types, or there are none",
                .init(tensor: name, rank: rank))
        }
        return MappedSource(inputs, PackedMapping(shape: [local.count], ranges: ranges), type)
    }

    public func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        guard let position = tensors.position(of: name) else {
            throw CairnError(
                .notFound, "the checkpoint has no such tensor", .init(file: source, tensor: name, rank: rank))
        }
        do throws(CairnError) {
            try sources[position].read(region, into: &destination)
        } catch {
            throw error.adding(.init(file: source, tensor: name, rank: rank))
        }
    }
}
