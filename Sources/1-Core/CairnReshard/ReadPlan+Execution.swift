import CairnBase
public import CairnCheckpoint
package import CairnCommunication
public import CairnLayout
public import CairnTensor

extension ReadPlan {
    /// How a plan is carried out.
    public struct Options: Sendable {
        /// Where local tensors take their memory from.
        public var pool: BufferPool?
        /// How many threads read.
        public var concurrency = ThreadPool.usefulReadCount
        /// Called from any reading thread with the number of bytes just read; throwing stops.
        public var progress: @Sendable (Int) throws -> Void = { _ in }

        public init() {}
    }

    /// Reads this rank's part of the state, verifying whatever checksums cover it.
    ///
    /// Beyond the local tensors it takes a buffer of at most 8 MiB a thread. The checkpoint's values and ties come with
    /// it. Of a checkpoint of as many ranks, on a mesh of the same axes, the values come too that the rank at this rank's
    /// coordinates had alone; of any other ``ShardedState/skippedEntries`` names those that no rank takes, each rank a share.
    ///
    /// - Parameter reader: The checkpoint that the plan was made for.
    /// - Throws: The reader's errors, naming file, tensor and offset.
    package func execute(
        reading reader: any CheckpointReader, options: Options = Options()
    ) throws -> ShardedState {
        try execute(reading: reader, options: options) { memories in
            var requests: [RegionRequest] = []
            for (index, local) in locals.enumerated() {
                for box in local?.fragments ?? [] where box.global.elementCount > 0 {
                    let target = try target(Overlap(global: box.global, into: box), of: index, in: memories)
                    requests.append(RegionRequest(tensors[index].name, target))
                }
            }
            try reader.read(
                requests, options: BulkReadOptions(concurrency: options.concurrency, progress: options.progress))
        }
    }

    /// Makes the local tensors, has `fill` fill them, and makes a state of them.
    func execute(
        reading reader: any CheckpointReader, options: Options, filling fill: ([TensorStorage?]) throws -> Void
    ) throws -> ShardedState {
        var memories: [TensorStorage?] = []
        for (tensor, local) in zip(tensors, locals) {
            guard let local else {
                memories.append(nil)
                continue
            }
            let storage = TensorStorage(
                byteCount: try Tensor.byteCount(tensor.scalarType, local.shape), pool: options.pool)
            if local.hasPadding {
                storage.base.initializeMemory(as: UInt8.self, repeating: 0, count: storage.byteCount)
            }
            memories.append(storage)
        }
        try withExtendedLifetime(memories) { try fill(memories) }
        var state = try ShardedState(rank: rank, rankCount: rankCount, tensors: tensors)
        for (index, memory) in memories.enumerated() {
            guard let memory, let local = locals[index] else { continue }
            let tensor = Tensor(
                storage: memory, byteOffset: 0, tensors[index].scalarType, local.shape, byteCount: memory.byteCount)
            try state.set(tensor, for: tensors[index].name)
        }
        state.values = reader.values
        let names = Set(tensors.map { ExactString($0.name) })
        for tensor in reader.tensors where !names.contains(ExactString(tensor.name)) {
            if let target = tensor.tiedTo, names.contains(ExactString(target)) { state.ties.append((tensor.name, target)) }
        }
        try takeRankValues(of: reader, into: &state)
        return state
    }

    /// This rank takes the values of the rank that stood where it stands; what none of the ranks takes is named.
    private func takeRankValues(of reader: any CheckpointReader, into state: inout ShardedState) throws(CairnError) {
        var meshes: [DeviceMesh] = []
        for tensor in tensors where !meshes.contains(tensor.layout.mesh) { meshes.append(tensor.layout.mesh) }
        guard let identity = reader.identity else {
            let all = try reader.rankValues()
            guard let first = all.first else { return }
            let ranks = RankCorrespondence(
                from: all.compactMap(\.mesh), of: first.rankCount, to: meshes, of: rankCount)
            guard ranks.isComplete else { return state.skippedEntries += [all.lossNote].compactMap(\.self) }
            let own = all.first { $0.rank == ranks.source(of: rank) }
            state.rankValues = own?.values ?? []
            return
        }
        let count = identity.rankCount
        let ranks = RankCorrespondence(from: identity.meshes, of: count, to: meshes, of: rankCount)
        if ranks.isComplete {
            guard let source = ranks.source(of: rank) else { return }
            state.rankValues = try reader.rankValues(ofRank: source)?.values ?? []
            return
        }
        // The headers of all files tell what is lost: each rank looks at its share of them.
        var lost: [RankValues] = []
        for source in stride(from: rank, to: count, by: max(1, rankCount)) {
            do throws(CairnError) {
                if let own = try reader.rankValues(ofRank: source) { lost.append(own) }
            } catch {
                state.skippedEntries.append("the values of rank \(source) alone cannot be read: \(error)")
            }
        }
        if let note = lost.lossNote { state.skippedEntries.append(note) }
    }

    private var rankCount: Int { tensors.first?.layout.mesh.rankCount ?? 1 }

    /// Where elements go.
    func target(_ overlap: Overlap, of index: Int, in memories: [TensorStorage?]) throws(CairnError) -> ReadTarget {
        let tensor = tensors[index]
        guard let memory = memories[index], let local = locals[index] else {
            throw CairnError(.invalidArgument, "a rank reads what it does not hold", .init(tensor: tensor.name, rank: rank))
        }
        let bytes = UnsafeMutableRawBufferPointer(start: memory.base, count: memory.byteCount)
        let inBox = overlap.global.relative(to: overlap.into.global.offsets)
        let box = overlap.into
        if box.local.shape.dimensionCount == box.global.shape.dimensionCount, box.local.shape == box.global.shape {
            return ReadTarget(
                region: overlap.global, memory: bytes, scalarType: tensor.scalarType, shape: local.shape,
                local: try inBox.shifted(by: box.local.offsets))
        }
        // The box lies in the local tensor as one run, so that run is a tensor of the box's shape.
        var runs = RegionRuns(of: box.local, in: local.shape)
        guard runs.count == 1, let first = runs.next(),
            let begin = tensor.scalarType.byteCount(elementCount: first),
            let count = tensor.scalarType.byteCount(elementCount: box.global.elementCount), begin + count <= bytes.count
        else {
            throw CairnError(
                .unsupported, "a box of packed elements must begin and end at whole bytes of the local tensor",
                .init(tensor: tensor.name, rank: rank, found: "\(box)"))
        }
        return ReadTarget(
            region: overlap.global, memory: UnsafeMutableRawBufferPointer(rebasing: bytes[begin..<begin + count]),
            scalarType: tensor.scalarType, shape: box.global.shape, local: inBox)
    }
}

extension ShardedState {
    /// Reads what `rank` holds of `tensors` from a checkpoint of any format, saved under any layout.
    ///
    /// Of a checkpoint of as many ranks, on a mesh of the same axes, the values come too that the rank at this rank's coordinates
    /// had alone; of any other ``skippedEntries`` names those that no rank takes, each rank a share.
    ///
    /// - Throws: As ``ReadPlan/init(reading:rank:tensors:)``; the reader's errors, naming file, tensor and offset.
    public init(
        reading reader: any CheckpointReader, rank: Int, tensors: [PlacedTensor],
        options: ReadPlan.Options = ReadPlan.Options()
    ) throws {
        self = try ReadPlan(reading: reader, rank: rank, tensors: tensors).execute(reading: reader, options: options)
    }
}

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
    package init(
        reading reader: CairnReader, rank: Int, tensors: [PlacedTensor], with group: any Communicator,
        options: ReadPlan.Options = ReadPlan.Options()
    ) throws {
        var note: [UInt8] = []
        note.append(littleEndian: UInt32(truncatingIfNeeded: rank))
        var notes = [UInt8](repeating: 0, count: 4 * group.size)
        notes.replaceSubrange(4 * group.rank..<4 * group.rank + 4, with: note)
        try notes.withUnsafeMutableBytes {
            try group.allGather($0, counts: [Int](repeating: 4, count: group.size))
        }
        let members = (0..<group.size).map { Int(notes.littleEndian(UInt32.self, at: 4 * $0)) }
        do {
            let plans = try members.map { try ReadPlan(reading: reader, rank: $0, tensors: tensors) }
            self = try plans[group.rank].execute(reading: reader, options: options) { memories in
                let files = Dictionary(
                    reader.manifest.fileNames.enumerated().map { ($0.element, $0.offset) }, uniquingKeysWith: { $1 })
                try reader.read(ReadPlan.shared(plans, own: group.rank, memories, files), over: group)
            }
        } catch {
            // The others wait for this rank; they learn what happened to it.
            group.fail(CairnError(wrapping: error, "the rank could not read its part"))
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
