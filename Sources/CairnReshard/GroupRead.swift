import CairnBase
public import CairnCheckpoint
public import CairnCommunication
public import CairnLayout
import CairnTensor

extension ShardedState {
    /// Reads, together with the other ranks of a group, what each of them holds of `tensors`: every stored chunk that any
    /// of them needs is read from the storage once in the group and passed on.
    ///
    /// Good for groups whose ranks hold the same, such as the data-parallel replicas of one shard: each reads its share.
    /// All ranks of the group call it together.
    ///
    /// - Parameters:
    ///   - rank: This rank's number in the meshes of `tensors`.
    ///   - group: The ranks that read together.
    /// - Throws: As ``ReadPlan/init(reading:rank:tensors:)`` and ``ReadPlan/execute(reading:options:)``, on every rank of
    ///   the group.
    public init(
        reading reader: CairnReader, rank: Int, tensors: [PlacedTensor], with group: any Communicator,
        options: ReadPlan.Options = ReadPlan.Options()
    ) throws {
        let mine = UInt32(truncatingIfNeeded: rank)
        let note = (0..<4).map { UInt8(truncatingIfNeeded: mine >> (8 * UInt32($0))) }
        var notes = [UInt8](repeating: 0, count: 4 * group.size)
        notes.replaceSubrange(4 * group.rank..<4 * group.rank + 4, with: note)
        try notes.withUnsafeMutableBytes {
            try group.allGather($0, counts: [Int](repeating: 4, count: group.size))
        }
        let members = (0..<group.size).map { member in
            (0..<4).reduce(0) { $0 | Int(notes[4 * member + $1]) << (8 * $1) }
        }
        do {
            let plans = try members.map { try ReadPlan(reading: reader, rank: $0, tensors: tensors) }
            self = try plans[group.rank].execute(reading: reader, options: options) { memories in
                let files = Dictionary(
                    reader.manifest.files.enumerated().map { ($0.element.name, $0.offset) }, uniquingKeysWith: { $1 })
                try reader.read(ReadPlan.shared(plans, own: group.rank, memories, files), over: group)
            }
        } catch {
            // The others wait for this rank; they learn what happened to it.
            group.fail(error as? CairnError
                ?? CairnError(.inputOutput, "the rank could not read its part", .init(rank: rank), cause: error))
            throw error
        }
    }
}

extension ReadPlan {
    /// What the ranks of a group read of each fragment that any of them needs, in an order that all compute alike.
    fileprivate static func shared(
        _ plans: [ReadPlan], own: Int, _ memories: [TensorStorage?], _ files: [String: Int]
    ) throws(CairnError) -> [SharedRead] {
        struct Key: Hashable {
            var tensor: Int
            var fragment: Manifest.Fragment
        }
        var wanted: [Key: [[Region]]] = [:]
        var targets: [Key: [ReadTarget]] = [:]
        var names: [Key: String] = [:]
        for (member, plan) in plans.enumerated() {
            for item in try plan.items() {
                guard let file = files[item.stored.file] else {
                    throw CairnError(.mismatch, "a stored piece is in no file of the checkpoint", .init(file: item.stored.file))
                }
                let key = Key(tensor: item.tensor, fragment: Manifest.Fragment(file: file, region: item.stored.region))
                names[key] = item.sourceName
                wanted[key, default: [[Region]](repeating: [], count: plans.count)][member] += item.overlaps.map(\.global)
                guard member == own else { continue }
                for overlap in item.overlaps {
                    targets[key, default: []].append(try plan.target(overlap, of: item.tensor, in: memories))
                }
            }
        }
        let order = wanted.keys.sorted { first, second in
            if first.fragment.file != second.fragment.file { return first.fragment.file < second.fragment.file }
            if first.tensor != second.tensor { return first.tensor < second.tensor }
            return first.fragment.region.offsets.lexicographicallyPrecedes(second.fragment.region.offsets)
        }
        return order.map { key in
            SharedRead(
                own: FragmentRead(tensor: names[key] ?? "", fragment: key.fragment, targets: targets[key] ?? []),
                wanted: wanted[key] ?? [])
        }
    }
}
