public import CairnBase
public import CairnCheckpoint
public import CairnLayout
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
    public let mesh: DeviceMesh
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
    ///   ``UniversalSpec/explain(_:mesh:)`` lists.
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
