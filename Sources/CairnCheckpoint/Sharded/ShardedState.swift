public import CairnBase
public import CairnLayout
public import CairnTensor

/// What one rank holds of a training state that lies on many ranks.
///
/// Every rank lists all tensors with their layouts, in whatever order; from that list every rank computes which rank
/// holds and writes what. The tensors' bytes, and the values that belong to one rank alone, are this rank's.
public struct ShardedState: Sendable {
    /// The rank whose part this is.
    public let rank: Int
    /// How many ranks there are.
    public let rankCount: Int
    /// Every tensor of the state, sorted by the bytes of the names.
    public let tensors: [PlacedTensor]
    /// Values that belong to the whole state, the same on every rank.
    public var values: [(name: String, value: Value)] = []
    /// Values of this rank alone: its random generator, for example.
    public var rankValues: [(name: String, value: Value)] = []
    /// Names that share another name's tensor.
    public var ties: [(name: String, target: String)] = []

    /// What the checkpoint that this was read from has and this state lacks, a sentence each: values of ranks that have no
    /// counterpart among these.
    public package(set) var skippedEntries: [String] = []

    private let positions: [ExactString: Int]
    private var local: [ExactString: Tensor] = [:]

    /// A rank's part of a state, without its tensors yet.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` when a name stands twice, a mesh has another number of ranks or a
    ///   layout does not fit its tensor.
    public init(rank: Int, rankCount: Int, tensors: [PlacedTensor]) throws(CairnError) {
        guard rankCount > 0, (0..<rankCount).contains(rank) else {
            throw CairnError(
                .invalidArgument, "no such rank", .init(rank: rank, expected: "0..<\(rankCount)"))
        }
        self.rank = rank
        self.rankCount = rankCount
        self.tensors = tensors.sorted { ExactString($0.name) < ExactString($1.name) }
        var positions: [ExactString: Int] = [:]
        for (index, tensor) in self.tensors.enumerated() {
            guard positions.updateValue(index, forKey: ExactString(tensor.name)) == nil else {
                throw CairnError(.invalidArgument, "a name stands for two tensors", .init(tensor: tensor.name))
            }
            guard tensor.layout.mesh.rankCount == rankCount else {
                throw CairnError(
                    .invalidArgument, "a tensor's mesh has another number of ranks than the state",
                    .init(tensor: tensor.name, expected: "\(rankCount) ranks", found: "mesh \(tensor.layout.mesh)"))
            }
        }
        self.positions = positions
    }

    /// This rank's part of a tensor, or `nil` where it has none or has not been given it.
    public func local(_ name: String) -> Tensor? { local[ExactString(name)] }

    /// Gives this rank's part of a tensor. Copies no bytes.
    ///
    /// - Throws: ``CairnError/Code/notFound`` for a name that is not listed, ``CairnError/Code/mismatch`` when type or
    ///   shape are not what the layout says.
    public mutating func set(_ tensor: Tensor, for name: String) throws(CairnError) {
        guard let position = positions[ExactString(name)] else {
            throw CairnError(.notFound, "the state has no such tensor", .init(tensor: name, rank: rank))
        }
        let placed = tensors[position]
        let expected = try placed.sharded().localShape(ofRank: rank)
        guard let expected, tensor.shape == expected, tensor.scalarType == placed.scalarType else {
            throw CairnError(
                .mismatch, "a rank's part of a tensor is not what its layout says",
                .init(
                    tensor: name, rank: rank,
                    expected: expected.map { "\(placed.scalarType)\($0)" } ?? "nothing: the layout is \(placed.layout)",
                    found: "\(tensor.scalarType)\(tensor.shape)"))
        }
        local[ExactString(name)] = tensor
    }
}

extension ShardedState {
    /// A rank's part of a state that one process has whole: what `layout` says of each tensor, and the values and ties.
    ///
    /// - Throws: What a layout that does not fit its tensor throws.
    public init(
        rank: Int, rankCount: Int, partOf state: TrainingState,
        layout: (_ name: String, _ shape: Shape) throws -> Layout
    ) throws {
        let placed = try state.tensors.map { name, tensor in
            PlacedTensor(
                name: name, scalarType: tensor.scalarType, shape: tensor.shape,
                layout: try layout(name, tensor.shape))
        }
        try self.init(rank: rank, rankCount: rankCount, tensors: placed)
        for (placed, (name, whole)) in zip(placed, state.tensors) {
            guard let part = try placed.sharded().part(ofRank: rank, of: whole) else { continue }
            try set(part, for: name)
        }
        values = state.values
        ties = state.ties
    }
}
