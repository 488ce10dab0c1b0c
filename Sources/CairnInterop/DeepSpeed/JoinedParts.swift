import CairnBase
import CairnCheckpoint
import CairnTensor

/// A tensor that ranks hold parts of along one dimension; where it consists of sub-parameters, each rank has a part of
/// each.
struct JoinedParts: TensorContent {
    private struct Run {
        /// Where the run is in the whole and in the rank's part, along the dimension.
        var whole: Range<Int>
        var start: Int
        var content: any TensorContent
    }

    let scalarType: ScalarType
    let shape: Shape
    private let dimension: Int
    private let runs: [Run]

    private static let slabByteCount = 4 << 20

    /// - Parameter widths: For each sub-parameter, in order, the width of each rank's part.
    /// - Throws: ``CairnError/Code/mismatch`` when the parts do not fit each other.
    init(_ parts: [any TensorContent], dimension: Int, widths: [[Int]]) throws(CairnError) {
        guard let first = parts.first, dimension < first.shape.dimensionCount, !first.scalarType.isPacked else {
            throw Self.mismatch(parts)
        }
        var starts = [Int](repeating: 0, count: parts.count)
        var runs: [Run] = []
        var end = 0
        for list in widths {
            for (rank, width) in list.enumerated() {
                guard let next = end.adding(checked: width), let after = starts[rank].adding(checked: width) else {
                    throw Self.mismatch(parts)
                }
                if width > 0 { runs.append(Run(whole: end..<next, start: starts[rank], content: parts[rank])) }
                (end, starts[rank]) = (next, after)
            }
        }
        var extents = first.shape.extents
        extents[dimension] = end
        for (part, used) in zip(parts, starts) {
            var own = part.shape.extents
            guard part.scalarType == first.scalarType, own.count == extents.count, own[dimension] == used else {
                throw Self.mismatch(parts)
            }
            own[dimension] = end
            guard own == extents else { throw Self.mismatch(parts) }
        }
        scalarType = first.scalarType
        shape = try Shape(checking: extents)
        self.dimension = dimension
        self.runs = runs
    }

    private static func mismatch(_ parts: [any TensorContent]) -> CairnError {
        CairnError(
            .mismatch, "the ranks' parts do not fit each other",
            .init(found: parts.map { "\($0.scalarType)\($0.shape)" }.joined(separator: " ")))
    }

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        for run in runs {
            var offsets = region.offsets, extents = region.shape.extents
            let low = max(run.whole.lowerBound, offsets[dimension])
            let high = min(run.whole.upperBound, offsets[dimension] + extents[dimension])
            guard low < high else { continue }
            offsets[dimension] = low
            extents[dimension] = high - low
            let common = try Region(offsets: offsets, shape: Shape(checking: extents))
            try copy(common, of: run, to: region, &destination)
        }
    }

    /// Copies part of a run to its place, in slabs so that the extra memory stays bounded.
    private func copy(
        _ common: Region, of run: Run, to region: Region, _ destination: inout MutableRawSpan
    ) throws(CairnError) {
        let description = TensorDescription(name: "", scalarType: scalarType, shape: common.shape)
        for slab in SlabSequence(of: description, byteLimit: Self.slabByteCount) {
            let part = try Region(offsets: zip(slab.offsets, common.offsets).map { $0 + $1 }, shape: slab.shape)
            var offsets = part.offsets
            offsets[dimension] += run.start - run.whole.lowerBound
            var bytes = try Tensor(zeros: scalarType, part.shape)
            var span = bytes.mutableBytes
            try run.content.read(Region(offsets: offsets, shape: part.shape), into: &span)
            try RegionCopy.copy(
                scalarType, from: bytes.bytes, of: part.shape, region: Region(whole: part.shape),
                into: &destination, of: region.shape, region: part.relative(to: region.offsets))
        }
    }
}

/// A tensor that every rank holds whole. Reading makes sure that they are the same.
struct EqualParts: TensorContent {
    private let parts: [any TensorContent]
    let scalarType: ScalarType
    let shape: Shape

    /// - Throws: ``CairnError/Code/mismatch`` when types or shapes differ.
    init(_ parts: [any TensorContent]) throws(CairnError) {
        guard let first = parts.first,
            parts.allSatisfy({ $0.shape == first.shape && $0.scalarType == first.scalarType })
        else { throw CairnError(.mismatch, "the ranks' copies differ in type or shape") }
        self.parts = parts
        scalarType = first.scalarType
        shape = first.shape
    }

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        var bytes = [UInt8](repeating: 0, count: destination.byteCount)
        for (rank, part) in parts.enumerated() {
            if rank == 0 {
                try part.read(region, into: &destination)
                continue
            }
            var span = bytes.mutableSpan
            var raw = span.mutableBytes
            try part.read(region, into: &raw)
            let isEqual = destination.withUnsafeMutableBytes { found in
                bytes.withUnsafeBytes { $0.elementsEqual(found) }
            }
            guard isEqual else {
                throw CairnError(.mismatch, "the ranks' copies of a tensor differ", .init(rank: rank))
            }
        }
    }
}

/// The first rows of a tensor: what is left of a vocabulary without its padding.
struct LeadingRows: TensorContent {
    private let content: any TensorContent
    let shape: Shape
    var scalarType: ScalarType { content.scalarType }

    /// - Throws: ``CairnError/Code/mismatch`` when there are fewer rows.
    init(_ content: any TensorContent, count: Int) throws(CairnError) {
        var extents = content.shape.extents
        guard let rows = extents.first, count >= 0, count <= rows else {
            throw CairnError(
                .mismatch, "the vocabulary is larger than its tensor",
                .init(expected: "\(count) rows", found: "\(content.shape)"))
        }
        extents[0] = count
        shape = try Shape(checking: extents)
        self.content = content
    }

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try content.read(region, into: &destination)
    }
}

/// The elements of a tensor, in their order, under another shape.
struct ReshapedTensor: TensorContent {
    private let content: any TensorContent
    let shape: Shape
    var scalarType: ScalarType { content.scalarType }

    /// - Throws: ``CairnError/Code/mismatch`` when the number of elements differs.
    init(_ content: any TensorContent, shape: Shape) throws(CairnError) {
        guard content.shape.elementCount == shape.elementCount, !content.scalarType.isPacked else {
            throw CairnError(
                .mismatch, "a tensor has another number of elements than its shape",
                .init(expected: "\(shape)", found: "\(content.shape)"))
        }
        self.content = content
        self.shape = shape
    }

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        let width = scalarType.byteWidth ?? 1
        let runs = RegionRuns(of: region, in: shape)
        var written = 0
        for start in runs {
            // The run as boxes of the content: whole rows, and the beginnings and ends of rows.
            var element = start
            let end = start + runs.runLength
            while element < end {
                let box = try box(from: element, to: end)
                let byteCount = box.elementCount * width
                var part = destination._mutatingExtracting(written..<written + byteCount)
                try content.read(box, into: &part)
                written += byteCount
                element += box.elementCount
            }
        }
    }

    /// The largest box of the content that begins with an element and whose elements follow each other.
    private func box(from element: Int, to end: Int) throws(CairnError) -> Region {
        let extents = content.shape.extents
        var strides = [Int](repeating: 1, count: extents.count)
        for dimension in extents.indices.dropLast().reversed() {
            strides[dimension] = strides[dimension + 1] * extents[dimension + 1]
        }
        var offsets = [Int](repeating: 0, count: extents.count)
        var rest = element
        for dimension in extents.indices {
            (offsets[dimension], rest) = rest.quotientAndRemainder(dividingBy: strides[dimension])
        }
        var box = [Int](repeating: 1, count: extents.count)
        // The outermost dimension whose rows are all taken whole: everything inside begins at zero.
        for dimension in extents.indices {
            let startsRow = offsets[(dimension + 1)...].allSatisfy { $0 == 0 }
            guard startsRow, end - element >= strides[dimension] else { continue }
            box[dimension] = min(extents[dimension] - offsets[dimension], (end - element) / strides[dimension])
            for inner in extents.indices where inner > dimension { box[inner] = extents[inner] }
            break
        }
        return try Region(offsets: offsets, shape: Shape(checking: box))
    }
}
