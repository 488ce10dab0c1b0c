import CairnBase
import CairnCheckpoint
import CairnLayout
import CairnTensor

/// What a snapshot holds: fragments, and all that is small.
struct SnapshotContent: Sendable {
    var rank = 0
    var rankCount = 1
    var fragments: [HeldFragment] = []
    /// Every tensor with its layout, of a state that lies on several ranks.
    var placed: [PlacedTensor] = []
    var values: [(name: String, value: Value)] = []
    var rankValues: [(name: String, value: Value)] = []
    var ties: [(name: String, target: String)] = []

    var byteCount: Int { fragments.reduce(0) { $0 + $1.byteCount } }

    init() {}

    /// A state that this process has whole.
    init(_ state: TrainingState, _ foreign: [(name: String, hold: ForeignHold)]) {
        fragments = state.tensors.map { HeldFragment($0.tensor, name: $0.name) }
            + foreign.map { HeldFragment($0.hold, name: $0.name) }
        values = state.values
        ties = state.ties
    }

    /// What the writer rule gives a rank of a state.
    ///
    /// - Throws: ``CairnError/Code/incomplete`` when the rank lacks a tensor that it should write part of.
    init(_ state: ShardedState, _ plan: RankWrites) throws(CairnError) {
        rank = state.rank
        rankCount = state.rankCount
        placed = state.tensors
        values = state.values
        rankValues = state.rankValues
        ties = state.ties
        for write in plan.writes {
            let placed = state.tensors[write.write.tensor]
            guard let tensor = state.local(placed.name) else {
                throw CairnError(
                    .incomplete, "a rank lacks its part of a tensor",
                    .init(tensor: placed.name, rank: state.rank, expected: "its part of \(placed)"))
            }
            fragments.append(try HeldFragment(
                name: placed.name, globalShape: write.storedShape, region: write.write.global, of: tensor,
                local: write.write.local))
        }
    }

    /// The fragments' indices, first those whose names come first in `names`; the rest keep their order.
    func drainOrder(_ names: [String]) -> [Int] {
        let ranks = Dictionary(
            zip(names.map { ExactString($0) }, names.indices), uniquingKeysWith: { first, _ in first })
        return fragments.indices
            .map { (rank: ranks[ExactString(fragments[$0].request.name)] ?? .max, index: $0) }
            .sorted { ($0.rank, $0.index) < ($1.rank, $1.index) }.map(\.index)
    }

    func letGo() { for fragment in fragments { fragment.letGo() } }
}

/// What one rank writes of a state with these tensors and layouts: the same step after step.
struct RankWrites: Sendable {
    let tensors: [PlacedTensor]
    let rank: Int
    let writes: [(write: WritePlan.Write, storedShape: Shape)]

    init(_ state: ShardedState) throws(CairnError) {
        tensors = state.tensors
        rank = state.rank
        let plan = try WritePlan(state.tensors)
        writes = plan.writes(ofRank: state.rank).map { ($0, plan.storedShape(ofTensor: $0.tensor)) }
    }

    func isOf(_ state: ShardedState) -> Bool { rank == state.rank && tensors == state.tensors }
}
