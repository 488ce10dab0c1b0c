public import CairnBase
public import CairnCheckpoint
package import CairnLayout
public import CairnTensor

/// The shards of a foreign distributed checkpoint read as one logical checkpoint.
///
/// Everything is checked when it is made, from the shards' metadata alone; no data is read until a region is asked for,
/// and then little more than the region needs. Values that all shards agree on keep their names; of the others each is
/// listed as `rank.N.name`.
public struct GatheredReader: CheckpointReader {
    public var tensors: [TensorDescription] { table.descriptions }
    public let values: [NamedValue]
    /// The mesh on which the shards lie.
    package let mesh: DeviceMesh
    public let source: String
    private let table: TensorTable
    private let shards: [any CheckpointReader]
    private let ledger: LossLedger

    public var format: String { "shards" }
    public var losses: [LossNote]? { shards.flatMap { $0.losses ?? [] } + ledger.notes }

    /// Gathers shards, one a rank in the order of the mesh.
    ///
    /// - Parameters:
    ///   - sizes: The sizes of mesh axes that the specification leaves open; one may follow from the number of shards.
    ///   - verifiesReplicas: Whether every replica of what is read is read too, and must have the same bits.
    /// - Throws: ``CairnError/Code/mismatch`` or ``CairnError/Code/incomplete`` with the first of the problems that
    ///   `cairn rules check` lists.
    public init(
        _ shards: [any CheckpointReader], spec: UniversalSpec, mesh sizes: [String: Int] = [:],
        verifiesReplicas: Bool = false
    ) throws(CairnError) {
        let mesh = try spec.mesh(sizes, rankCount: shards.count)
        let binding = try GatherBinding(
            CompiledSpecification(spec), mesh: mesh, shards: shards, verifiesReplicas: verifiesReplicas)
        if let error = binding.problems.firstError() { throw error }
        try self.init(binding, shards: shards, verifiesTies: verifiesReplicas)
    }

    private init(
        _ binding: GatherBinding, shards: [any CheckpointReader], verifiesTies: Bool
    ) throws(CairnError) {
        mesh = binding.mesh
        self.shards = shards
        ledger = binding.ledger
        source = shards.count == 1 ? shards[0].source : "\(shards.first?.source ?? "") and \(shards.count - 1) more"
        var copies: [ExactString: [EqualView.Copy]] = [:]
        for instance in binding.instances {
            guard let target = instance.tiedTo else { continue }
            copies[ExactString(target), default: []] += instance.logical.map { .init($0.source, .init(tensor: $0.name)) }
        }
        var entries: [TensorTable.Entry] = []
        for instance in binding.instances {
            for (position, (name, original)) in instance.logical.enumerated() {
                var source = original
                if verifiesTies, let equal = copies[ExactString(name)] {
                    source = try EqualView(
                        original, copies: equal, message: "a tied tensor differs from the one that it is tied to")
                }
                entries.append((name, source, instance.tie(at: position)))
            }
        }
        table = TensorTable(entries, source: source)
        values = try GatheredValues.gather(shards.map(\.values))
    }

    public func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try table.read(name, region: region, into: &destination)
    }
}

/// The values of shards as those of one checkpoint, and back.
enum GatheredValues {
    /// Those that every shard has and agrees on, by their names; the others as `rank.N.name`.
    static func gather(_ shards: [[NamedValue]]) throws(CairnError) -> [NamedValue] {
        var byName: [ExactString: [Int: Value]] = [:]
        for (rank, values) in shards.enumerated() {
            for value in values { byName[ExactString(value.name), default: [:]][rank] = value.value }
        }
        var result: [NamedValue] = []
        for (name, ranks) in byName {
            if ranks.count == shards.count, let value = ranks[0], ranks.values.allSatisfy({ $0 == value }) {
                result.append(NamedValue(name: name.string, value: value))
            } else {
                for (rank, value) in ranks {
                    result.append(NamedValue(name: "rank.\(rank).\(name.string)", value: value))
                }
            }
        }
        result.sort { ExactString($0.name) < ExactString($1.name) }
        for (one, next) in zip(result, result.dropFirst()) where ExactString(one.name) == ExactString(next.name) {
            throw CairnError(.mismatch, "two values of the shards would have one name", .init(tensor: one.name))
        }
        return result
    }

    /// What a rank has of them: all but those of other ranks.
    static func shard(_ values: [NamedValue], rank: Int) -> [NamedValue] {
        var result: [NamedValue] = []
        for value in values {
            guard let owner = Self.rank(of: value.name) else {
                result.append(value)
                continue
            }
            guard owner.rank == rank else { continue }
            result.append(NamedValue(name: owner.name, value: value.value))
        }
        return result.sorted { ExactString($0.name) < ExactString($1.name) }
    }

    private static func rank(of name: String) -> (rank: Int, name: String)? {
        let parts = name.split(separator: ".", maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count == 3, parts[0] == "rank", let rank = CanonicalNumber.parse(parts[1].utf8) else { return nil }
        return (rank, String(parts[2]))
    }
}

/// A rank's checkpoint with its flat buffers taken apart: each member is a tensor of one dimension.
struct UnpackedReader: CheckpointView {
    let base: any CheckpointReader
    let tensors: [TensorDescription]
    /// Where a member is.
    private let members: [ExactString: (buffer: String, start: Int)]

    var values: [NamedValue] { base.values }

    /// - Throws: ``CairnError/Code/notFound`` for a buffer that the rank lacks, ``CairnError/Code/mismatch`` for one of
    ///   another size or a member whose name is taken.
    init(_ base: any CheckpointReader, buffers: [BoundBuffers.Local], rank: Int) throws(CairnError) {
        self.base = base
        var tensors = base.tensors
        var members: [ExactString: (buffer: String, start: Int)] = [:]
        for local in buffers {
            let name = local.buffer.name
            guard let position = tensors.firstIndex(where: { ExactString($0.name) == ExactString(name) }) else {
                throw CairnError(
                    .notFound, "the rank lacks a flat buffer of the rules",
                    .init(file: base.source, tensor: name, rank: rank))
            }
            let tensor = tensors.remove(at: position)
            guard tensor.shape.dimensionCount == 1,
                tensor.shape[0] == local.count || (tensor.shape[0] >= local.usedCount && tensor.shape[0] <= local.count)
            else {
                throw CairnError(
                    .mismatch, "a flat buffer has another size than its members make up",
                    .init(
                        file: base.source, tensor: name, rank: rank, expected: "[\(local.count)]",
                        found: "\(tensor.shape)", advice: "check the members' shapes, the alignment and the padding"))
            }
            for member in local.members {
                members[ExactString(member.name)] = (name, member.local.lowerBound)
                tensors.append(
                    TensorDescription(
                        name: member.name, scalarType: tensor.scalarType, shape: [member.local.count]))
            }
        }
        tensors.sort { ExactString($0.name) < ExactString($1.name) }
        for (tensor, next) in zip(tensors, tensors.dropFirst()) where ExactString(tensor.name) == ExactString(next.name) {
            throw CairnError(
                .mismatch, "a member of a flat buffer is a tensor of the rank too",
                .init(file: base.source, tensor: tensor.name, rank: rank))
        }
        self.tensors = tensors
        self.members = members
    }

    func baseName(of name: String) throws(CairnError) -> String? { members[ExactString(name)] == nil ? name : nil }

    func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        guard let member = members[ExactString(name)] else {
            return try base.read(name, region: region, into: &destination)
        }
        let description = try description(of: name)
        do throws(CairnError) {
            try region.check(inside: description.shape, of: description.scalarType, filling: destination.byteCount)
            try base.read(member.buffer, region: region.shifted(by: [member.start]), into: &destination)
        } catch {
            throw error.adding(.init(file: source, tensor: name))
        }
    }
}
