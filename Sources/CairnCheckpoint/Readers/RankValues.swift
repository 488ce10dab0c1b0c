import CairnBase
public import CairnLayout

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

    public init(rank: Int, rankCount: Int, mesh: DeviceMesh?, values: [NamedValue]) {
        self.rank = rank
        self.rankCount = rankCount
        self.mesh = mesh
        self.values = values
    }

    /// Where the rank stands, for people and for digests: `rank dp=1,tp=0`, or `rank 3` where no mesh is known.
    public var location: String {
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
