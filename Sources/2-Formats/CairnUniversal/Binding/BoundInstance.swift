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

/// The flat buffers of a specification on a mesh: where each member is on each rank.
struct BoundBuffers: Sendable {
    /// A member on one rank.
    struct Member: Sendable {
        var name: String
        var axis: String
        /// Which buffer of the specification.
        var buffer: Int
        /// What the rank would hold if the buffer were not cut.
        var shape: Shape
        var flattening: Flattening
        /// Where the rank's part of it begins in the rank's buffer, and how long it is.
        var local: Range<Int>
    }

    /// A buffer on one rank.
    struct Local: Sendable {
        var buffer: FlatBuffer
        /// With what is trimmed left out.
        var count: Int
        /// The end of the last element that is not padding.
        var usedCount: Int
        var members: [Member]
    }

    /// By rank.
    private var locals: [[Local]] = []
    private var positions: [[ExactString: (Int, Int)]] = []

    init(_ buffers: [FlatBuffer], in context: EvaluationContext) throws(CairnError) {
        for rank in 0..<(buffers.isEmpty ? 0 : context.mesh.rankCount) {
            var list: [Local] = []
            var names: [ExactString: (Int, Int)] = [:]
            for (index, buffer) in buffers.enumerated() {
                do throws(CairnError) {
                    guard let local = try Self.local(buffer, index, rank, context) else { continue }
                    for (position, member) in local.members.enumerated() {
                        guard names.updateValue((list.count, position), forKey: ExactString(member.name)) == nil else {
                            throw CairnError(
                                .mismatch, "two flat buffers of a rank have the same member", .init(found: member.name))
                        }
                    }
                    list.append(local)
                } catch {
                    throw CairnError(error.code, "flat buffer \"\(buffer.name)\": \(error.message)", error.context)
                        .adding(.init(rank: rank))
                }
            }
            locals.append(list)
            positions.append(names)
        }
    }

    /// The buffers of a rank.
    func buffers(ofRank rank: Int) -> [Local] { rank < locals.count ? locals[rank] : [] }

    /// A member by its foreign name.
    func member(_ name: String, ofRank rank: Int) -> Member? {
        guard rank < positions.count, let (buffer, member) = positions[rank][ExactString(name)] else { return nil }
        return locals[rank][buffer].members[member]
    }

    private static func local(
        _ buffer: FlatBuffer, _ index: Int, _ rank: Int, _ context: EvaluationContext
    ) throws(CairnError) -> Local? {
        let mesh = context.mesh
        let here = context.at(rank: rank)
        for presence in buffer.present {
            guard let coordinate = mesh.coordinate(ofRank: rank, along: presence.axis),
                try context.numbers(presence.coordinates).contains(coordinate)
            else { return nil }
        }
        guard let parts = mesh.size(of: buffer.axis), let coordinate = mesh.coordinate(ofRank: rank, along: buffer.axis)
        else { return nil }
        var shapes: [Shape] = []
        for member in buffer.members { shapes.append(try Shape(checking: try here.numbers(member.shape))) }
        switch buffer.arrangement {
        case .perTensor:
            var members: [Member] = []
            var offset = 0, used = 0
            for (member, shape) in zip(buffer.members, shapes) {
                let part = shape.elementCount.dividedRoundingUp(by: parts)
                guard let next = offset.adding(checked: part) else { throw tooLarge }
                let count = max(0, min(part, shape.elementCount - coordinate * part))
                members.append(
                    Member(
                        name: member.name, axis: buffer.axis, buffer: index, shape: shape, flattening: .perTensor,
                        local: offset..<offset + count))
                if count > 0 { used = offset + count }
                offset = next
            }
            return Local(
                buffer: buffer, count: buffer.isTrimmed ? used : offset, usedCount: used, members: members)
        case .group(let alignment, let multiple):
            let flattenings = try Flattening.group(
                counts: shapes.map(\.elementCount), parts: parts, alignment: try context.number(alignment),
                paddedToMultipleOf: try context.number(multiple))
            var size = 0
            if case .equal(let part)? = flattenings.first?.partition { size = part }
            let window = coordinate * size..<(coordinate + 1) * size
            var members: [Member] = []
            var used = 0
            for (position, flattening) in flattenings.enumerated() {
                let whole = flattening.start..<flattening.start + shapes[position].elementCount
                let part = whole.clamped(to: window)
                let local = part.lowerBound - window.lowerBound..<part.upperBound - window.lowerBound
                members.append(
                    Member(
                        name: buffer.members[position].name, axis: buffer.axis, buffer: index, shape: shapes[position],
                        flattening: flattening, local: local))
                if !local.isEmpty { used = max(used, local.upperBound) }
            }
            return Local(buffer: buffer, count: buffer.isTrimmed ? used : size, usedCount: used, members: members)
        }
    }

    private static var tooLarge: CairnError { CairnError(.invalidArgument, "its element count overflows") }
}
