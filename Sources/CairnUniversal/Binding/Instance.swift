import CairnBase
import CairnCheckpoint
import CairnLayout
import CairnTensor

/// One application of a rule: some foreign tensors and the logical ones that they are.
struct InstanceID: Hashable, Comparable {
    /// Which compiled rule.
    var rule: Int
    /// What the fields of the logical names stand for.
    var key: [ExactString]

    static func < (left: InstanceID, right: InstanceID) -> Bool {
        left.rule == right.rule ? left.key.lexicographicallyPrecedes(right.key) : left.rule < right.rule
    }
}

/// One foreign tensor of an instance.
struct CellID: Hashable, Comparable {
    /// The slot of a stack; 0 without one.
    var slot: Int
    /// Which of the rule's foreign names.
    var index: Int

    static func < (left: CellID, right: CellID) -> Bool { (left.slot, left.index) < (right.slot, right.index) }
}

/// A whole foreign tensor: where it lies on the mesh.
struct PlacedForeignTensor: Sendable {
    /// What it is called on the first rank that has it.
    var name: String
    var scalarType: ScalarType
    var sharded: ShardedShape
    /// Its name by rank.
    var localNames: [Int: String]
    var reduction: Reduction?
}

/// An instance that has been checked: what `explain` tells and readers read.
struct BoundInstance: Sendable {
    var rule: Int
    var foreign: [PlacedForeignTensor]
    /// The logical tensors, with what they are read from.
    var logical: [(name: String, source: any TensorView)]
    var tiedTo: String?
    /// How many of the logical tensors are tensors; of those behind them each is a copy of one, in the same order.
    /// `nil` where all are.
    var originalCount: Int?

    /// The name that the logical tensor at a position is tied to.
    func tie(at position: Int) -> String? {
        guard let originalCount, position >= originalCount else { return tiedTo }
        return logical[position % originalCount].name
    }
}

extension CompiledRule {
    /// Whether it makes other numbers of those that are stored.
    var computes: Bool {
        placement.reduction != nil || transforms.contains { if case .cast = $0 { true } else { false } }
    }

    /// Whether it makes copies.
    var hasCopies: Bool {
        transforms.contains { if case .copy = $0 { true } else { false } }
    }
}
