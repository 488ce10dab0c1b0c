public import CairnBase
public import CairnCheckpoint
public import CairnLayout
import CairnTensor

/// What one rank reads of a checkpoint to hold its part of a state under any layout: computed from metadata alone.
///
/// The checkpoint may have been saved under any other layout, on any other number of ranks, by any framework whose
/// format has a reader. Only what the rank needs is read, every stored element once, straight to its destination, converted
/// on the way if the types differ.
public struct ReadPlan: Sendable {
    /// A stored fragment and what is wanted of it.
    struct Item: Sendable {
        /// Position in the plan's tensors.
        var tensor: Int
        /// The tensor's own name in the checkpoint, if the name is a tie's.
        var sourceName: String
        var stored: StoredPiece
        var overlaps: [Overlap]
    }

    /// Elements that a stored fragment and a box of the local tensor have in common.
    struct Overlap: Sendable, Hashable {
        /// In the stored tensor.
        var global: Region
        /// The box of the local tensor that it goes to.
        var into: LocalFragment
    }

    /// What a plan costs.
    public struct Cost: Sendable, Hashable {
        /// The bytes that the rank needs, as they are stored before any compression.
        public var neededByteCount = 0
        /// The chunks that they are in, each read once; 0 where the stored fragments are not known.
        package var chunkCount = 0
        /// The bytes of those chunks, before any compression.
        public var readByteCount = 0
        /// The files that they are in.
        package var fileCount = 0
        /// The stored fragments that they are in.
        package var fragmentCount = 0
        /// The boxes of elements that are moved.
        package var pieceCount = 0
        /// How many bytes are read for one that is needed, 1 at best.
        public var amplification: Double {
            neededByteCount == 0 ? 1 : Double(readByteCount) / Double(neededByteCount)
        }
    }

    /// The rank that reads.
    package let rank: Int
    /// The tensors of the state to make, each with the layout to make, sorted by name.
    package let tensors: [PlacedTensor]
    /// Its layout on this rank: `nil` where the rank holds nothing.
    let locals: [Local?]
    /// Finds out in which pieces a tensor is stored that have some of a region; `nil` where that is not known.
    private let storedPieces: StoredPieces
    /// The tensors' own names in the checkpoint, where a name is a tie's.
    private let sourceNames: [String]
    private let sourceTypes: [ScalarType]

    private typealias StoredPieces = @Sendable (String, Region?) throws(CairnError) -> [StoredPiece]?

    /// A local tensor that is to be filled.
    struct Local: Sendable {
        var shape: Shape
        /// In the stored tensor: with the index of the partial value in front where the layout is partial.
        var fragments: [LocalFragment]
        /// Whether elements remain that nothing fills, which are then zero.
        var hasPadding: Bool
    }

    /// Plans what `rank` reads of `reader` to hold its part of `tensors`.
    ///
    /// - Throws: ``CairnError/Code/notFound`` for a tensor that the checkpoint lacks, ``CairnError/Code/mismatch`` for one
    ///   of another shape; what a layout that does not fit throws. All name the tensor.
    public init(reading reader: any CheckpointReader, rank: Int, tensors: [PlacedTensor]) throws(CairnError) {
        try self.init(reader.tensors, source: reader.source, rank: rank, tensors: tensors) { name, region throws(CairnError) in
            try reader.storedPieces(of: name, in: region)
        }
    }

    /// Plans what `rank` reads of a checkpoint that is known by its manifest alone, be it planned or committed.
    ///
    /// - Throws: As ``init(reading:rank:tensors:)``.
    package init(planning index: CheckpointIndex, rank: Int, tensors: [PlacedTensor]) throws(CairnError) {
        try self.init(index.tensors, source: index.source, rank: rank, tensors: tensors) { name, region throws(CairnError) in
            try index.storedPieces(of: name, in: region)
        }
    }

    private init(
        _ descriptions: [TensorDescription], source: String, rank: Int, tensors: [PlacedTensor],
        storedPieces: @escaping StoredPieces
    ) throws(CairnError) {
        self.rank = rank
        self.tensors = tensors.sorted { ExactString($0.name) < ExactString($1.name) }
        self.storedPieces = storedPieces
        var locals: [Local?] = []
        var types: [ScalarType] = []
        var names: [String] = []
        // Layers repeat: a layout is applied to the same shape many times.
        var known: [AppliedLayout: ShardedShape] = [:]
        for tensor in self.tensors {
            guard (0..<tensor.layout.mesh.rankCount).contains(rank) else {
                throw CairnError(
                    .invalidArgument, "the mesh has no such rank",
                    .init(tensor: tensor.name, rank: rank, expected: "0..<\(tensor.layout.mesh.rankCount)"))
            }
            let description = descriptions[try descriptions.requiredPosition(of: tensor.name, in: source)]
            types.append(description.scalarType)
            names.append(description.tiedTo ?? description.name)
            let applied = AppliedLayout(layout: tensor.layout, shape: tensor.shape)
            let sharded: ShardedShape
            if let found = known[applied] { sharded = found } else { sharded = try tensor.sharded() }
            known[applied] = sharded
            locals.append(try Self.local(tensor, sharded, rank: rank, stored: description, source: source))
        }
        self.locals = locals
        sourceTypes = types
        sourceNames = names
    }

    private struct AppliedLayout: Hashable {
        var layout: Layout
        var shape: Shape
    }

    private static func local(
        _ tensor: PlacedTensor, _ sharded: ShardedShape, rank: Int, stored: TensorDescription, source: String
    ) throws(CairnError) -> Local? {
        let expected = try sharded.storedShape()
        guard stored.shape == expected else {
            throw CairnError(
                .mismatch, "the checkpoint has the tensor in another shape",
                .init(file: source, tensor: tensor.name, expected: "\(expected)", found: "\(stored.shape)"))
        }
        guard let shape = sharded.localShape(ofRank: rank) else { return nil }
        var fragments = sharded.fragments(ofRank: rank)
        if expected.dimensionCount > tensor.shape.dimensionCount {
            let partialIndex = sharded.partialIndex(ofRank: rank)
            var inTerm: [LocalFragment] = []
            for fragment in fragments {
                inTerm.append(
                    LocalFragment(
                        global: try Region(
                            offsets: [partialIndex] + fragment.global.offsets,
                            shape: Shape(checking: [1] + fragment.global.shape.extents)),
                        local: fragment.local))
            }
            fragments = inTerm
        }
        let filled = fragments.reduce(0) { $0 + $1.global.elementCount }
        return Local(shape: shape, fragments: fragments, hasPadding: filled < shape.elementCount)
    }

    /// What is wanted of each stored piece, by file and tensor; nothing of tensors whose pieces are not known.
    func items() throws(CairnError) -> [Item] {
        var items: [Item] = []
        for (position, local) in locals.enumerated() {
            guard let local else { continue }
            items += try self.items(position, local)
        }
        return items.sorted { ($0.stored.file, $0.tensor) < ($1.stored.file, $1.tensor) }
    }

    private func items(_ position: Int, _ local: Local) throws(CairnError) -> [Item] {
        var items: [StoredPiece: Item] = [:]
        let name = sourceNames[position]
        // Many boxes in few pieces, such as flattened columns: asking once is cheaper than for each box.
        var few: [StoredPiece]?
        if local.fragments.count > 16, let all = try storedPieces(name, nil), all.count <= 64 { few = all }
        for box in local.fragments where box.global.elementCount > 0 {
            let near: [StoredPiece]
            if let few { near = few } else { near = try storedPieces(name, box.global) ?? [] }
            for stored in near {
                guard let common = stored.region.intersection(box.global) else { continue }
                items[stored, default: Item(tensor: position, sourceName: name, stored: stored, overlaps: [])]
                    .overlaps.append(Overlap(global: common, into: box))
            }
        }
        return Array(items.values)
    }

    /// What it costs to read, computed from metadata; the headers of the files are not counted.
    ///
    /// - Parameter chunkByteCount: The bytes that one checksum covers in the files: they are read whole.
    /// - Throws: What finding the stored pieces throws.
    public func cost(chunkByteCount: Int = 1 << 20) throws(CairnError) -> Cost {
        var cost = Cost()
        let items = try items()
        cost.fileCount = Set(items.map(\.stored.file)).count
        cost.fragmentCount = items.count
        var types = sourceTypes
        for item in items { types[item.tensor] = item.stored.scalarType }
        for (index, local) in locals.enumerated() {
            for fragment in local?.fragments ?? [] {
                cost.neededByteCount = cost.neededByteCount.adding(
                    clamped: types[index].leastByteCount(elementCount: fragment.global.elementCount))
            }
        }
        for item in items {
            cost.pieceCount += item.overlaps.count
            let needed = NeededChunks(
                of: item.overlaps.map(\.global), in: item.stored.region, types[item.tensor],
                chunkByteCount: max(1, chunkByteCount))
            cost.chunkCount += needed.count
            cost.readByteCount = cost.readByteCount.adding(clamped: needed.byteCount)
        }
        return cost
    }
}
