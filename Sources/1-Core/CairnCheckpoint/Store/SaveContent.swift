package import CairnBase
package import CairnLayout
import CairnTensor

/// What one rank gives to a save: its fragments, and all that is small. A blocking save and a snapshot write the same content
/// through the same ``RankFileWriter``; they differ in who waits.
package struct SaveContent: Sendable {
    package var rank = 0
    package var rankCount = 1
    package var fragments: [HeldFragment] = []
    /// Every tensor with its layout, of a state that lies on several ranks.
    package var placed: [PlacedTensor] = []
    package var values: [NamedValue] = []
    package var rankValues: [NamedValue] = []
    package var ties: [(name: String, target: String)] = []

    package var byteCount: Int { fragments.reduce(0) { $0 + $1.byteCount } }

    /// A state that this process has whole.
    package init(_ state: TrainingState) {
        fragments = state.tensors.map { HeldFragment($0.tensor, name: $0.name) }
        values = state.values
        ties = state.ties
    }

    /// What the writer rule gives a rank of a state.
    ///
    /// - Throws: ``CairnError/Code/incomplete`` when the rank lacks a tensor that it should write part of.
    package init(_ state: ShardedState, _ plan: RankWrites) throws(CairnError) {
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
            fragments.append(
                try HeldFragment(
                    name: placed.name, globalShape: write.storedShape, region: write.write.global, of: tensor,
                    local: write.write.local))
        }
    }

    /// Fragments that the caller has cut, of a rank whose save has its global values already.
    package init(rank: Int, _ fragments: [TensorFragment], values: [NamedValue] = []) {
        self.rank = rank
        self.fragments = fragments.map(HeldFragment.init)
        rankValues = values
    }

    /// The fragments' indices, first those whose names come first in `names`; the rest keep their order.
    package func drainOrder(_ names: [String]) -> [Int] {
        let ranks = Dictionary(
            zip(names.map { ExactString($0) }, names.indices), uniquingKeysWith: { first, _ in first })
        return fragments.indices
            .map { (rank: ranks[ExactString(fragments[$0].request.name)] ?? .max, index: $0) }
            .sorted { ($0.rank, $0.index) < ($1.rank, $1.index) }.map(\.index)
    }

    /// Releases what has not been released.
    package func release() { for fragment in fragments { fragment.release() } }
}

/// What one rank writes of a state with these tensors and layouts: the same step after step.
package struct RankWrites: Sendable {
    let tensors: [PlacedTensor]
    let rank: Int
    let writes: [(write: WritePlan.Write, storedShape: Shape)]

    package init(_ state: ShardedState) throws(CairnError) {
        tensors = state.tensors
        rank = state.rank
        let plan = try WritePlan(state.tensors)
        writes = plan.writes(ofRank: state.rank).map { ($0, plan.storedShape(ofTensor: $0.tensor)) }
    }

    package func isOf(_ state: ShardedState) -> Bool { rank == state.rank && tensors == state.tensors }
}

extension SaveSession {
    /// Begins the file of a rank: the content's global values, and the place of each of its fragments.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for a rank that takes no part; what the storage throws.
    package func builder(of content: SaveContent) throws -> RankFileBuilder {
        let (compression, chunkByteCount) = (self.compression, self.chunkByteCount)
        let requests = try content.fragments.map { fragment in
            var request = fragment.request
            if let range = compression.sampleRange(byteCount: fragment.byteCount, chunkByteCount: chunkByteCount) {
                request.codec = try fragment.withBytes(range) { compression.codec(sample: $0, request.scalarType) }
            }
            return request
        }
        return try RankFileBuilder(self, rank: content.rank, requests, values: content.rankValues)
    }

    /// Sets what belongs to the whole checkpoint, as the content says.
    package func setGlobal(of content: SaveContent) throws(CairnError) {
        setPlaced(content.placed)
        try setGlobal(values: content.values, ties: content.ties)
    }
}
