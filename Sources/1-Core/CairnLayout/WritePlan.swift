package import CairnBase
package import CairnTensor

/// Which rank writes what: each distinct element once, the replicas sharing the bytes, computed alike by every rank.
///
/// ## The rule, a norm of the format
///
/// Tensors whose meshes have equal axes, and whose layouts replicate over the same axes and are present at the same
/// coordinates of the same axes, form a **family**. A family has `R` replicas of everything: one for each combination
/// of a coordinate along every replicating axis and a position in every presence list, numbered row-major in the mesh's
/// axis order.
///
/// A tensor's **byte count** `b` is that of its shape without partial values, a packed type's rounded up to a whole byte. In the
/// order of the list the tensors of a family lie on its **byte sequence**, tensor `i` on `[P, P + b)`; the sequence ends at `T`.
/// Replica `r` owns `[floor(r T / R), floor((r + 1) T / R))`, in exact arithmetic. Then, of each box that a rank holds:
///
/// - **Whole**: of a tensor with `b < 2^20`, and of any packed type, the boxes are written whole by the replica that
///   owns the byte `P + floor(b / 2)`.
/// - **Cut**: of any other tensor, replica `r` writes the rows `[floor(n x(r) / b), floor(n x(r + 1) / b))` of the `n`
///   rows of the box, `x(r)` being `floor(r T / R) - P` limited to `0...b`. Rows are those of the outermost dimension
///   in which the box has at least 256, failing that of the dimension in which it has most, the outermost of equals; in
///   flattened tensors of the outermost dimension in which the box has more than one.
/// - **Explicit** tensors stand apart from the sequences. Their distinct regions that no other contains, sorted by
///   offsets and then by extents (lexicographically), are numbered from 0; region `k` of the tensor at position `i` of
///   the whole list is written whole by holder `(i + k) mod m` of its `m` holders, ascending.
///
/// A partial tensor is stored with its partial values as a leading dimension; each is written by its holders.
package struct WritePlan: Sendable {
    /// A box that a rank writes.
    package struct Write: Sendable, Hashable {
        /// The tensor's position in the list.
        package let tensor: Int
        /// Where it stands in the stored shape: with a leading dimension of partial values when partial.
        package let global: Region
        /// Where it stands in the rank's local tensor.
        package let local: Region
    }

    /// A box that a rank has written.
    package struct Written: Sendable, Hashable {
        /// The writer.
        package let rank: Int
        /// The whole box, in the stored shape.
        package let region: Region

        package init(rank: Int, region: Region) {
            self.rank = rank
            self.region = region
        }
    }

    struct FamilyKey: Hashable {
        var mesh: DeviceMesh
        var roles: [ShardedShape.AxisRole]
    }

    /// Tensors that the same replicas share.
    struct Family: Sendable {
        let mesh: DeviceMesh
        /// For each axis what tells replicas apart; `nil` for axes that don't.
        let replicaChoices: [RankSet.Choice?]
        var sequence: ByteSequence
    }

    struct PlannedTensor: Sendable {
        let shape: ShardedShape
        let byteCount: Int
        let isCut: Bool
        let isFlat: Bool
        /// `nil` when explicit.
        let family: Int?
        /// Where it begins on the family's byte sequence.
        let position: Int
        /// Of an explicit tensor: the number of each distinct region that is written, `nil` for those that another
        /// contains. One array for all tensors that the layout is applied to.
        let explicitNumbers: [Int?]
    }

    /// The tensors, in the order of the list.
    package let tensors: [PlacedTensor]
    /// How many ranks there are.
    package let rankCount: Int
    let rule: WriteRule
    let entries: [PlannedTensor]
    let families: [Family]

    /// Makes the plan. The effort grows with the number of tensors, not with that of ranks.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument``, naming the tensor, when a name repeats, a mesh has another number
    ///   of ranks than the first, or a layout does not fit its shape; ``CairnError/Code/incomplete`` when explicit
    ///   regions leave a hole.
    package init(_ tensors: [PlacedTensor]) throws(CairnError) {
        try self.init(tensors, rule: .norm)
    }

    /// Makes a plan by another rule than the format's, for tests with small tensors.
    package init(_ tensors: [PlacedTensor], rule: WriteRule) throws(CairnError) {
        struct Applied: Hashable {
            var layout: Layout
            var shape: Shape
        }
        self.tensors = tensors
        self.rule = rule
        rankCount = tensors.first?.layout.mesh.rankCount ?? 1
        var names = Set<ExactString>(minimumCapacity: tensors.count)
        // Layers repeat: most layouts are applied to the same shape many times.
        var known: [Applied: (shape: ShardedShape, family: Int?, explicitNumbers: [Int?])] = [:]
        var familyIndices: [FamilyKey: Int] = [:]
        var families: [Family] = []
        var entries: [PlannedTensor] = []
        entries.reserveCapacity(tensors.count)
        for tensor in tensors {
            guard names.insert(ExactString(tensor.name)).inserted else {
                throw CairnError(.invalidArgument, "two tensors have the same name", .init(tensor: tensor.name))
            }
            guard tensor.layout.mesh.rankCount == rankCount else {
                throw CairnError(
                    .invalidArgument, "the meshes of a state differ in their number of ranks",
                    .init(
                        tensor: tensor.name, expected: "\(rankCount), as of \"\(tensors[0].name)\"",
                        found: "\(tensor.layout.mesh.rankCount) in \(tensor.layout.mesh)"))
            }
            let bits = UInt128(tensor.shape.elementCount) * UInt128(tensor.scalarType.bitWidth)
            guard let byteCount = Int(exactly: (bits + 7) / 8) else { throw Self.tooLarge(tensor) }
            let applied = Applied(layout: tensor.layout, shape: tensor.shape)
            let (sharded, family, explicitNumbers): (ShardedShape, Int?, [Int?])
            if let found = known[applied] {
                (sharded, family, explicitNumbers) = found
            } else {
                sharded = try tensor.sharded()
                family = Self.family(of: sharded, &familyIndices, &families)
                explicitNumbers = try Self.explicitNumbers(sharded, tensor)
                known[applied] = (sharded, family, explicitNumbers)
            }
            guard let family else {
                entries.append(
                    PlannedTensor(
                        shape: sharded, byteCount: byteCount, isCut: false, isFlat: false, family: nil, position: 0,
                        explicitNumbers: explicitNumbers))
                continue
            }
            let position = families[family].sequence.byteCount
            guard let end = position.adding(checked: byteCount) else { throw Self.tooLarge(tensor) }
            families[family].sequence.byteCount = end
            entries.append(
                PlannedTensor(
                    shape: sharded, byteCount: byteCount,
                    isCut: byteCount >= rule.smallestCutByteCount && !tensor.scalarType.isPacked,
                    isFlat: sharded.isFlat, family: family, position: position, explicitNumbers: []))
        }
        for (tensor, entry) in zip(tensors, entries) where entry.shape.partialCount > 1 {
            do {
                _ = try entry.shape.storedShape()
            } catch {
                throw Self.tooLarge(tensor)
            }
        }
        self.entries = entries
        self.families = families
    }

    private static func tooLarge(_ tensor: PlacedTensor) -> CairnError {
        CairnError(
            .invalidArgument, "the state's byte count overflows",
            .init(tensor: tensor.name, found: "\(tensor.scalarType)\(tensor.shape)"))
    }

    /// The number of the family, made where it is new; `nil` for explicit tensors.
    private static func family(
        of sharded: ShardedShape, _ indices: inout [FamilyKey: Int], _ families: inout [Family]
    ) -> Int? {
        guard case .sharded = sharded.arrangement else { return nil }
        let key = FamilyKey(mesh: sharded.layout.mesh, roles: sharded.axisRoles.map(replicaRole))
        if let known = indices[key] { return known }
        indices[key] = families.count
        families.append(Family(key))
        return families.count - 1
    }

    /// Partial values are distinct data, as shards are.
    private static func replicaRole(_ role: ShardedShape.AxisRole) -> ShardedShape.AxisRole {
        role == .partial ? .shards : role
    }

    /// For each distinct region of an explicit tensor its number among those that no other contains.
    private static func explicitNumbers(_ sharded: ShardedShape, _ tensor: PlacedTensor) throws(CairnError) -> [Int?] {
        guard case .explicit(let regions) = sharded.arrangement else { return [] }
        let tiles: [Int]
        do {
            tiles = try regions.tiles(of: tensor.shape)
        } catch {
            throw error.adding(.init(tensor: tensor.name))
        }
        let ordered = tiles.sorted {
            let (one, other) = (regions.entries[$0].region, regions.entries[$1].region)
            if one.offsets != other.offsets { return one.offsets.lexicographicallyPrecedes(other.offsets) }
            return one.shape.extents.lexicographicallyPrecedes(other.shape.extents)
        }
        var numbers = [Int?](repeating: nil, count: regions.entries.count)
        for (number, tile) in ordered.enumerated() { numbers[tile] = number }
        return numbers
    }

    /// The rank that writes a distinct region of an explicit tensor; `nil` for one that another contains.
    func explicitWriter(ofTensor index: Int, region: Int) -> Int? {
        guard case .explicit(let regions) = entries[index].shape.arrangement,
            let number = entries[index].explicitNumbers[region]
        else { return nil }
        let ranks = regions.entries[region].ranks
        return ranks[(index + number) % ranks.count]
    }

    /// The shape that a tensor is stored in: its own, with the partial values as a leading dimension when partial.
    package func storedShape(ofTensor index: Int) -> Shape {
        let shape = tensors[index].shape
        let partials = entries[index].shape.partialCount
        return entries[index].shape.isPartial ? Shape([partials] + shape.extents) : shape
    }

    /// The tensor's layout applied to its shape.
    package func shardedShape(ofTensor index: Int) -> ShardedShape { entries[index].shape }
}

extension WritePlan.Family {
    init(_ key: WritePlan.FamilyKey) {
        mesh = key.mesh
        replicaChoices = key.roles.map { role in
            switch role {
            case .replicates: .all
            case .present(let list): .some(list)
            case .shards, .partial: nil
            }
        }
        var count = 1
        for (axis, choice) in zip(key.mesh.axes, replicaChoices) {
            if let choice { count *= choice.count(of: axis.size) }
        }
        sequence = ByteSequence(replicaCount: count)
    }

    /// Which replica a rank is, or `nil` when it does not hold the family's tensors.
    func replica(at coordinates: [Int]) -> Int? {
        var replica = 0
        for (axis, choice) in replicaChoices.enumerated() {
            switch choice {
            case .all: replica = replica * mesh.axes[axis].size + coordinates[axis]
            case .some(.some(let list)):
                let position = list.firstPosition { $0 >= coordinates[axis] }
                guard position < list.count, list[position] == coordinates[axis] else { return nil }
                replica = replica * list.count + position
            case .only, nil: break
            }
        }
        return replica
    }
}

/// The bytes of all tensors of a family, one tensor after the other; each replica owns an equal share of them.
struct ByteSequence: Sendable {
    let replicaCount: Int
    /// The bytes of all tensors of the family.
    var byteCount = 0

    /// Where a replica's share begins; that of replica `replicaCount` is the end.
    func start(of replica: Int) -> Int { Self.scaled(byteCount, by: replica, over: replicaCount) }

    /// The replica whose share has the byte at a position.
    func replica(at position: Int) -> Int {
        guard byteCount > 0 else { return 0 }
        let last = min(position, byteCount - 1)
        let scaled = (UInt128(last) + 1) * UInt128(replicaCount) - 1
        return min(Int(scaled / UInt128(byteCount)), replicaCount - 1)
    }

    /// `floor(value * numerator / denominator)` without loss; the numerator is at most the denominator.
    static func scaled(_ value: Int, by numerator: Int, over denominator: Int) -> Int {
        guard denominator > 0 else { return 0 }
        return Int(UInt128(value) * UInt128(numerator) / UInt128(denominator))
    }
}

/// The two numbers of the rule by which ``WritePlan`` cuts.
package struct WriteRule: Sendable, Hashable {
    /// Tensors of fewer bytes are written whole by one replica.
    package var smallestCutByteCount: Int
    /// A dimension of this extent is cut finely enough.
    package var fineExtent: Int

    package init(smallestCutByteCount: Int, fineExtent: Int) {
        self.smallestCutByteCount = smallestCutByteCount
        self.fineExtent = fineExtent
    }

    /// Of the format: 1 MiB, 256 rows.
    package static let norm = WriteRule(smallestCutByteCount: 1 << 20, fineExtent: 256)
}
