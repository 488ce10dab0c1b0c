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
    public var values: [NamedValue] = []
    /// Values of this rank alone: its random generator, for example.
    public var rankValues: [NamedValue] = []
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

extension SaveSession {
    /// A digest of what the ranks must agree on: tensors, layouts, values, ties, step, save id, options that the manifest
    /// repeats. 32 bits of CRC and 64 of another hash: against mistakes, not against forgers.
    package func digest() throws(CairnError) -> String {
        // Clocks differ.
        let bytes = Array(try globalText(time: 0).utf8)
        var hash = Hash64()
        hash.combine(bytes.span.bytes)
        let words = (0..<8).map { UInt8(truncatingIfNeeded: hash.value >> (56 - 8 * UInt64($0))) }
        return checksumText(CRC32C.checksum(bytes.span.bytes)) + Hexadecimal.encode(words)
    }
}

/// The values that one rank of the job that saved a checkpoint had alone: its generator, its place in the data.
public struct RankValues: Sendable, Hashable {
    /// The rank.
    public var rank: Int
    /// How many ranks saved.
    public var rankCount: Int
    /// The mesh that the ranks stood on, where the checkpoint says.
    public var mesh: DeviceMesh?
    /// The values, sorted by the bytes of their names.
    public var values: [NamedValue]

    package init(rank: Int, rankCount: Int, mesh: DeviceMesh?, values: [NamedValue]) {
        self.rank = rank
        self.rankCount = rankCount
        self.mesh = mesh
        self.values = values
    }

    /// Where the rank stands, for people and for digests: `rank dp=1,tp=0`, or `rank 3` where no mesh is known.
    package var location: String {
        guard let mesh, !mesh.axes.isEmpty, (0..<mesh.rankCount).contains(rank) else { return "rank \(rank)" }
        let coordinates = zip(mesh.axes, mesh.coordinates(ofRank: rank)).map { "\($0.name)=\($1)" }
        return "rank " + coordinates.joined(separator: ",")
    }
}

extension [RankValues] {
    /// What is lost where these have no place, in a sentence; `nil` when there are none.
    package var lossNote: String? {
        let names = Set(flatMap { $0.values.map { ExactString($0.name) } }).sorted().map { "\"\($0.string)\"" }
        guard !names.isEmpty else { return nil }
        let ranks = filter { !$0.values.isEmpty }
        let shown = names.prefix(4).joined(separator: ", ") + (names.count > 4 ? " and \(names.count - 4) more" : "")
        let owners = ranks.count == 1 ? "that \(ranks[0].location) had alone" : "that \(ranks.count) ranks had each alone"
        return "values \(owners) are left out: \(shown)"
    }

    /// Those whose names are wanted.
    package func filtered(_ isWanted: (String) -> Bool) -> [RankValues] {
        compactMap { of in
            var kept = of
            kept.values = of.values.filter { isWanted($0.name) }
            return kept.values.isEmpty ? nil : kept
        }
    }
}

/// Which rank of a saved job stands where a rank of another job does, by the coordinates on their meshes.
///
/// Ranks are numbers that a mesh gives out: with the axes in another order, or of other sizes, the same number stands
/// elsewhere. Axes of one coordinate tell no ranks apart and do not count.
package struct RankCorrespondence: Sendable {
    private let pair: (source: DeviceMesh, target: DeviceMesh)?
    /// Whether numbers are all that is known, and as many ranks load as saved.
    private let isByNumber: Bool

    /// - Parameters:
    ///   - source: The meshes of the checkpoint; none when its fragments were placed by hand.
    ///   - sourceCount: How many ranks saved it.
    ///   - target: The meshes of the job that takes its place; none when that is not known.
    package init(from source: [DeviceMesh], of sourceCount: Int, to target: [DeviceMesh], of targetCount: Int) {
        guard sourceCount == targetCount else {
            (pair, isByNumber) = (nil, false)
            return
        }
        var found: (source: DeviceMesh, target: DeviceMesh)?
        for from in source where found == nil {
            if let to = target.first(where: { Self.axes($0) == Self.axes(from) }) { found = (from, to) }
        }
        pair = found
        isByNumber = source.isEmpty || target.isEmpty || sourceCount == 1
    }

    /// The rank that saved where `rank` stands now; `nil` where none did.
    package func source(of rank: Int) -> Int? {
        guard let pair, (0..<pair.target.rankCount).contains(rank) else { return isByNumber ? rank : nil }
        let coordinates = pair.source.axes.map { pair.target.coordinate(ofRank: rank, along: $0.name) ?? 0 }
        return pair.source.rank(at: coordinates)
    }

    /// Whether every rank has one that it takes the place of.
    package var isComplete: Bool { pair != nil || isByNumber }

    private static func axes(_ mesh: DeviceMesh) -> [String: Int] {
        Dictionary(mesh.axes.filter { $0.size > 1 }.map { ($0.name, $0.size) }, uniquingKeysWith: { first, _ in first })
    }
}
