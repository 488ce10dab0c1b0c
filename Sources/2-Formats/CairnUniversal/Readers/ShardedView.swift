import CairnBase
import CairnCheckpoint
import CairnLayout
import CairnTensor

/// A whole tensor over the local tensors of the ranks that hold it: one partial value of it where it is partial.
struct ShardedView: TensorView {
    let sharded: ShardedShape
    /// By rank; `nil` where it is absent.
    let locals: [(any TensorView)?]
    let scalarType: ScalarType
    /// Which partial value, of a partial tensor.
    let partialIndex: Int
    /// Whether every replica is read and compared.
    let verifiesReplicas: Bool
    /// How messages call the tensor.
    let name: String

    /// Runs of a flattened tensor that lie no further apart than this are read at once.
    private static let leastGap = 4096
    private static let blockByteCount = 1 << 20

    var shape: Shape { sharded.shape }

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try check(region, destinationByteCount: destination.byteCount)
        guard region.elementCount > 0 else { return }
        var produced = 0
        for holder in sharded.holders(of: region) where holder.partialIndex == partialIndex {
            guard let chosen = replica(of: holder) else { continue }
            try read(holder.region, ofRank: chosen, in: region, into: &destination)
            produced += holder.region.elementCount
            if verifiesReplicas { try compare(holder, with: chosen) }
        }
        guard produced == region.elementCount else {
            throw CairnError(
                .incomplete, "the shards do not hold every element exactly once",
                .init(tensor: name, expected: "\(region.elementCount) elements", found: "\(produced)"))
        }
    }

    /// Which of the ranks that hold a box is read: by the tensor's name and the box's place, so that replicas share the
    /// reads and every process chooses alike.
    private func replica(of holder: ShardedShape.Holder) -> Int? {
        guard holder.ranks.count > 1 else { return holder.ranks.first }
        var hash = Hash64()
        hash.combine(name)
        for offset in holder.region.offsets { hash.combine(UInt64(offset)) }
        // The lowest bits of the hash alone are weak.
        return holder.ranks[Int(SplitMix64.mixed(hash.value) % UInt64(holder.ranks.count))]
    }

    private func local(_ rank: Int) throws(CairnError) -> any TensorView {
        guard rank < locals.count, let local = locals[rank] else {
            throw CairnError(.incomplete, "a rank lacks the tensor", .init(tensor: name, rank: rank))
        }
        return local
    }

    /// Reads a box that one fragment of a rank contains.
    private func read(
        _ box: Region, ofRank rank: Int, in region: Region, into destination: inout MutableRawSpan
    ) throws(CairnError) {
        let local = try local(rank)
        guard let fragment = sharded.fragments(ofRank: rank).first(where: { $0.global.contains(box) }) else {
            throw CairnError(.incomplete, "a rank lacks a part of the tensor", .init(tensor: name, rank: rank))
        }
        let inside = box.relative(to: fragment.global.offsets)
        do throws(CairnError) {
            if local.shape.dimensionCount == shape.dimensionCount, fragment.local.shape == fragment.global.shape {
                let source = try inside.shifted(by: fragment.local.offsets)
                try local.read(source, as: box, of: region, into: &destination)
            } else {
                let block = try Self.bytes(of: inside, in: fragment, from: local)
                try RegionCopy.copy(
                    scalarType, from: block.span.bytes, of: box.shape, region: Region(whole: box.shape),
                    into: &destination, of: region.shape, region: box.relative(to: region.offsets))
            }
        } catch {
            throw error.adding(.init(tensor: name, rank: rank))
        }
    }

    /// Reads a box of a fragment whose elements lie in one run of a flat local tensor.
    private static func bytes(
        of inside: Region, in fragment: LocalFragment, from local: any TensorView
    ) throws(CairnError) -> [UInt8] {
        guard let width = local.scalarType.byteWidth, local.shape.dimensionCount == 1 else {
            throw CairnError(.unsupported, "packed elements cannot be read from flattened shards")
        }
        var runs = RegionRuns(of: inside, in: fragment.global.shape)
        let length = runs.runLength
        let base = fragment.local.offsets[0]
        var result: [UInt8] = []
        result.reserveCapacity(inside.elementCount * width)
        var next = runs.next()
        while let first = next {
            var starts: [Int] = []
            var end = first
            while let start = next, starts.isEmpty || (start - end) * width <= max(leastGap, length * width),
                starts.isEmpty || (start + length - first) * width <= blockByteCount
            {
                starts.append(start)
                end = start + length
                next = runs.next()
            }
            let block = try local.bytes(of: Region(offsets: [base + first], shape: Shape(checking: [end - first])))
            for start in starts { result += block[(start - first) * width..<(start - first + length) * width] }
        }
        return result
    }

    /// Reads the same box from every other rank that should hold it.
    private func compare(_ holder: ShardedShape.Holder, with chosen: Int) throws(CairnError) {
        let expected = try bytes(of: holder.region, ofRank: chosen)
        for rank in holder.ranks where rank != chosen {
            let found = try bytes(of: holder.region, ofRank: rank)
            guard let index = zip(expected, found).enumerated().first(where: { $0.element.0 != $0.element.1 })?.offset
            else { continue }
            throw CairnError(
                .mismatch, "the replicas of a tensor differ",
                .init(
                    tensor: name, rank: rank,
                    expected: "the bits of rank \(chosen) in \(holder.region)",
                    found: "another byte at \(index) of the region",
                    advice: "if each rank has a value of its own, the axis is partial, not replicated"))
        }
    }

    private func bytes(of box: Region, ofRank rank: Int) throws(CairnError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: try byteCount(of: box))
        var span = bytes.mutableSpan
        var raw = span.mutableBytes
        try read(box, ofRank: rank, in: box, into: &raw)
        return bytes
    }
}

extension Region {
    /// Whether another region of the same tensor lies inside.
    func contains(_ other: Region) -> Bool {
        guard offsets.count == other.offsets.count else { return false }
        return offsets.indices.allSatisfy { dimension in
            let (outer, inner) = (range(dimension), other.range(dimension))
            return outer.lowerBound <= inner.lowerBound && inner.upperBound <= outer.upperBound
        }
    }
}

/// A rank's local tensor out of the whole one.
struct LocalMapping: RegionMapping {
    let shape: Shape
    let fragments: [LocalFragment]
    let hasPadding: Bool

    /// - Returns: `nil` where the rank does not hold the tensor.
    init?(_ sharded: ShardedShape, rank: Int) {
        guard let shape = sharded.localShape(ofRank: rank) else { return nil }
        self.shape = shape
        fragments = sharded.fragments(ofRank: rank)
        hasPadding = fragments.reduce(0) { $0 + $1.local.elementCount } < shape.elementCount
    }

    func pieces(of region: Region) throws(CairnError) -> [MappedPiece] {
        var pieces: [MappedPiece] = []
        for fragment in fragments {
            guard let target = fragment.local.intersection(region) else { continue }
            let inside = target.relative(to: fragment.local.offsets)
            if fragment.local.shape == fragment.global.shape {
                let source = try inside.shifted(by: fragment.global.offsets)
                pieces.append(MappedPiece(input: 0, source: source, target: target))
                continue
            }
            let begin = inside.offsets[0]
            for (range, box) in RunBoxes.boxes(of: begin..<begin + target.elementCount, in: fragment.global.shape) {
                pieces.append(
                    MappedPiece(
                        input: 0,
                        source: try box.shifted(by: fragment.global.offsets),
                        target: try Region(
                            offsets: [fragment.local.offsets[0] + range.lowerBound],
                            shape: Shape(checking: [range.count]))))
            }
        }
        return pieces
    }
}
