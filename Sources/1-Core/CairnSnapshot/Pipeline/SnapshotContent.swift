import CairnBase
import CairnCheckpoint
import CairnLayout
import CairnTensor
import Synchronization

/// What a snapshot holds: fragments, and all that is small.
struct SnapshotContent: Sendable {
    var rank = 0
    var rankCount = 1
    var fragments: [HeldFragment] = []
    /// Every tensor with its layout, of a state that lies on several ranks.
    var placed: [PlacedTensor] = []
    var values: [NamedValue] = []
    var rankValues: [NamedValue] = []
    var ties: [(name: String, target: String)] = []

    var byteCount: Int { fragments.reduce(0) { $0 + $1.byteCount } }

    init() {}

    /// A state that this process has whole.
    init(_ state: TrainingState, _ foreign: [(name: String, hold: ForeignHold)]) {
        fragments =
            state.tensors.map { HeldFragment($0.tensor, name: $0.name) }
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
            fragments.append(
                try HeldFragment(
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

/// A fragment whose bytes a snapshot holds until they are drained.
final class HeldFragment: Sendable {
    private enum Content: Sendable {
        case tensor(Tensor)
        /// What a region of a tensor holds, under another shape of as many elements.
        case region(Tensor, Region, Shape)
        case foreign(ForeignHold)
    }

    /// What the file is to hold.
    let request: FragmentRequest
    let byteCount: Int
    private let content: Mutex<Content?>

    private init(_ request: FragmentRequest, byteCount: Int, _ content: sending Content) {
        self.request = request
        self.byteCount = byteCount
        self.content = Mutex(content)
    }

    /// A whole tensor.
    convenience init(_ tensor: Tensor, name: String) {
        self.init(
            FragmentRequest(
                name: name, scalarType: tensor.scalarType, globalShape: tensor.shape, region: Region(whole: tensor.shape)),
            byteCount: tensor.byteCount, .tensor(tensor))
    }

    /// What stands at `local` in a rank's part of a tensor, and at `region` in the whole one. It is copied together when it
    /// is drained, if it is not contiguous.
    convenience init(
        name: String, globalShape: Shape, region: Region, of tensor: Tensor, local: Region
    ) throws(CairnError) {
        self.init(
            FragmentRequest(name: name, scalarType: tensor.scalarType, globalShape: globalShape, region: region),
            byteCount: try Tensor.byteCount(tensor.scalarType, region.shape), .region(tensor, local, region.shape))
    }

    /// Memory that is not copy-on-write.
    convenience init(_ hold: ForeignHold, name: String) {
        let array = hold.array
        self.init(
            FragmentRequest(
                name: name, scalarType: array.scalarType, globalShape: array.shape, region: Region(whole: array.shape)),
            byteCount: array.byteCount, .foreign(hold))
    }

    /// Calls `body` with some of the bytes, as they were when the snapshot was taken.
    ///
    /// - Throws: ``CairnError/Code/cancelled`` when they have been released.
    func withBytes<Result>(_ range: Range<Int>, _ body: (RawSpan) throws -> Result) throws -> Result {
        switch try current() {
        case .tensor(let tensor): return try body(tensor.bytes.extracting(range))
        case .foreign(let hold): return try hold.withBytes(range, body)
        case .region: throw CairnError(.invalidArgument, "a fragment has not been copied together")
        }
    }

    /// Releases the bytes. A reader of some keeps them until it is done.
    func letGo() {
        let old = content.withLock { content in
            defer { content = nil }
            return content
        }
        if case .foreign(let hold)? = old { hold.end() }
    }

    private func current() throws -> Content {
        try content.withLock { content in
            guard let present = content else { throw CairnError(.cancelled, "the snapshot was given up") }
            guard case .region(let tensor, let local, let shape) = present else { return present }
            let copied = Content.tensor(try tensor.slice(local).reshaped(shape))
            content = copied
            return copied
        }
    }
}
