import CairnBase
package import CairnTensor

/// What ranks write.
extension WritePlan {
    /// What a rank writes, in the order of the tensors and of its local tensors; nothing for ranks that do not exist.
    package func writes(ofRank rank: Int) -> [Write] {
        var writes: [Write] = []
        forEachWrite(ofRank: rank) { writes.append($0) }
        return writes
    }

    /// The bytes that a rank writes.
    package func byteCount(ofRank rank: Int) -> Int {
        var bytes = 0
        forEachWrite(ofRank: rank) { write in
            bytes = bytes.adding(
                clamped: tensors[write.tensor].scalarType.leastByteCount(elementCount: write.local.elementCount))
        }
        return bytes
    }

    private func forEachWrite(ofRank rank: Int, _ body: (Write) -> Void) {
        guard rank >= 0, rank < rankCount else { return }
        let replicas = families.map { $0.replica(at: $0.mesh.coordinates(ofRank: rank)) }
        for (index, entry) in entries.enumerated() {
            guard let family = entry.family else {
                forEachExplicitWrite(ofRank: rank, index, body)
                continue
            }
            guard let replica = replicas[family], let share = share(of: replica, entry, families[family].sequence) else {
                continue
            }
            let partialIndex = entry.shape.isPartial ? entry.shape.partialIndex(ofRank: rank) : nil
            for fragment in entry.shape.fragments(ofRank: rank) {
                guard let cut = share.cut(fragment, isFlat: entry.isFlat, rule) else { continue }
                body(Write(tensor: index, global: cut.global.stored(partialIndex), local: cut.local))
            }
        }
    }

    private func forEachExplicitWrite(ofRank rank: Int, _ index: Int, _ body: (Write) -> Void) {
        guard case .explicit(let regions) = entries[index].shape.arrangement else { return }
        for fragment in entries[index].shape.fragments(ofRank: rank) {
            guard let position = regions.index(of: fragment.global), explicitWriter(ofTensor: index, region: position) == rank
            else { continue }
            body(Write(tensor: index, global: fragment.global, local: fragment.local))
        }
    }

    /// Where the elements of a region stand: the boxes, whole, that have some of it, and who wrote them.
    ///
    /// - Parameters:
    ///   - index: The tensor's position in the list.
    ///   - region: Of the stored shape, with a leading dimension of partial values when partial; `nil` for all of it.
    package func fragments(ofTensor index: Int, intersecting region: Region? = nil) -> [Written] {
        let entry = entries[index]
        let region = region ?? Region(whole: storedShape(ofTensor: index))
        var partials = 0..<1
        var query = region
        if entry.shape.isPartial {
            guard region.offsets.count == tensors[index].shape.dimensionCount + 1 else { return [] }
            partials = region.range(0).clamped(to: 0..<entry.shape.partialCount)
            query = Region(
                trustedOffsets: Array(region.offsets.dropFirst()),
                shape: Shape(Array(region.shape.extents.dropFirst())))
        }
        var found: [Written] = []
        entry.shape.forEachShard(meeting: query) { shard in
            if let position = shard.explicitIndex {
                if let rank = explicitWriter(ofTensor: index, region: position) {
                    found.append(Written(rank: rank, region: shard.fragments[0].global))
                }
                return
            }
            guard let family = entry.family else { return }
            let sequence = families[family].sequence
            for fragment in shard.fragments {
                let replicas = replicas(of: entry, sequence, fragment: fragment, query)
                for partialIndex in partials {
                    let ranks = entry.shape.ranks(of: shard, partialIndex: partialIndex)
                    for replica in replicas {
                        guard let share = share(of: replica, entry, sequence),
                            let cut = share.cut(fragment, isFlat: entry.isFlat, rule),
                            cut.global.intersection(query) != nil
                        else { continue }
                        let partialIndex = entry.shape.isPartial ? partialIndex : nil
                        found.append(Written(rank: ranks[replica], region: cut.global.stored(partialIndex)))
                    }
                }
            }
        }
        return found
    }

    /// What of a tensor's boxes a replica writes, or `nil` for nothing.
    private func share(of replica: Int, _ entry: PlannedTensor, _ sequence: ByteSequence) -> Share? {
        guard entry.isCut else {
            return sequence.replica(at: entry.position + entry.byteCount / 2) == replica ? .whole : nil
        }
        let low = min(max(sequence.start(of: replica) - entry.position, 0), entry.byteCount)
        let high = min(max(sequence.start(of: replica + 1) - entry.position, 0), entry.byteCount)
        return low < high ? .part(low, high, of: entry.byteCount) : nil
    }

    /// The replicas that may write what a fragment and the query have in common.
    private func replicas(
        of entry: PlannedTensor, _ sequence: ByteSequence, fragment: LocalFragment, _ query: Region
    ) -> ClosedRange<Int> {
        guard entry.isCut else {
            let owner = sequence.replica(at: entry.position + entry.byteCount / 2)
            return owner...owner
        }
        guard let dimension = Share.cutDimension(of: fragment.global, isFlat: entry.isFlat, rule) else {
            // The only row of a single element is complete where the tensor ends.
            let owner = sequence.replica(at: entry.position + entry.byteCount - 1)
            return owner...owner
        }
        // Row k is written by the replica whose share ends behind k b / n: one row more on either side is enough.
        let rows = fragment.global.shape[dimension]
        let common = query.range(dimension).clamped(to: fragment.global.range(dimension))
        let first = max(common.lowerBound - fragment.global.offsets[dimension] - 1, 0)
        let last = min(common.upperBound - fragment.global.offsets[dimension] + 1, rows)
        let low = ByteSequence.scaled(entry.byteCount, by: first, over: rows)
        let high = ByteSequence.scaled(entry.byteCount, by: last, over: rows)
        return sequence.replica(at: entry.position + low)...sequence.replica(at: entry.position + max(high - 1, low))
    }
}

/// How much of a tensor's boxes one replica writes.
private enum Share {
    case whole
    /// From one byte of the tensor to another, of all.
    case part(Int, Int, of: Int)

    /// The dimension whose rows are dealt out; `nil` for a box of one element.
    static func cutDimension(of box: Region, isFlat: Bool, _ rule: WriteRule) -> Int? {
        let extents = box.shape.extents
        if isFlat { return extents.firstIndex { $0 > 1 } }
        if let fine = extents.firstIndex(where: { $0 >= rule.fineExtent }) { return fine }
        guard let most = extents.max() else { return nil }
        return extents.firstIndex(of: most)
    }

    /// The rows of a box that the replica writes.
    func cut(_ fragment: LocalFragment, isFlat: Bool, _ rule: WriteRule) -> LocalFragment? {
        guard case .part(let low, let high, let byteCount) = self else { return fragment }
        let dimension = Self.cutDimension(of: fragment.global, isFlat: isFlat, rule)
        let count = dimension.map { fragment.global.shape[$0] } ?? 1
        let first = ByteSequence.scaled(count, by: low, over: byteCount)
        let end = ByteSequence.scaled(count, by: high, over: byteCount)
        guard first < end else { return nil }
        guard let dimension, end - first < count else { return fragment }
        let global = fragment.global.rows(first..<end, of: dimension)
        // A local tensor of the same dimensions is cut alike; a flat one holds the rows one behind the other.
        guard isFlat else {
            return LocalFragment(global: global, local: fragment.local.rows(first..<end, of: dimension))
        }
        let rowSize = fragment.global.elementCount / count
        return LocalFragment(
            global: global, local: fragment.local.rows(first * rowSize..<end * rowSize, of: 0))
    }
}

extension Region {
    /// The same box with only some of its rows along a dimension, counted from its first.
    fileprivate func rows(_ rows: Range<Int>, of dimension: Int) -> Region {
        var offsets = offsets
        var extents = shape.extents
        offsets[dimension] += rows.lowerBound
        extents[dimension] = rows.count
        return Region(trustedOffsets: offsets, shape: Shape(extents))
    }

    /// The region in the stored shape of a partial tensor.
    fileprivate func stored(_ partialIndex: Int?) -> Region {
        guard let partialIndex else { return self }
        return Region(trustedOffsets: [partialIndex] + offsets, shape: Shape([1] + shape.extents))
    }
}
