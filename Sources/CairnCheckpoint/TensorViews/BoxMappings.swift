package import CairnBase
package import CairnTensor

/// A box of a tensor as a tensor of its own.
package struct WindowMapping: RegionMapping {
    private let window: Region
    package var shape: Shape { window.shape }

    /// - Throws: ``CairnError/Code/mismatch`` when the box does not lie inside of a tensor of `original`.
    package init(_ window: Region, of original: Shape) throws(CairnError) {
        guard window.isInside(original) else {
            throw CairnError(
                .mismatch, "a part lies outside its tensor", .init(expected: "inside \(original)", found: "\(window)"))
        }
        self.window = window
    }

    package func pieces(of region: Region) throws(CairnError) -> [MappedPiece] {
        [MappedPiece(input: 0, source: try region.shifted(by: window.offsets), target: region)]
    }
}

/// A tensor with zeros behind it along some dimensions.
package struct PaddedMapping: RegionMapping {
    package let shape: Shape
    private let original: Shape

    package var hasPadding: Bool { true }

    package init(shape: Shape, original: Shape) {
        self.shape = shape
        self.original = original
    }

    package func pieces(of region: Region) throws(CairnError) -> [MappedPiece] {
        guard let inner = region.intersection(Region(whole: original)) else { return [] }
        return [MappedPiece(input: 0, source: inner, target: inner)]
    }
}

/// A tensor that is stored in boxes, which cover it exactly.
package struct BoxesMapping: RegionMapping {
    package let shape: Shape
    private let boxes: [Region]
    /// Finds the boxes that a region meets; of few, all are looked at.
    private let index: RegionIndex?

    private static let fewBoxes = 8

    /// - Parameter boxes: Where each input is. That they cover the tensor is for the caller to check (``FragmentCoverage``).
    package init(_ boxes: [Region], shape: Shape) {
        self.boxes = boxes
        self.shape = shape
        index = boxes.count > Self.fewBoxes ? RegionIndex(boxes) : nil
    }

    package func pieces(of region: Region) throws(CairnError) -> [MappedPiece] {
        (index?.positions(meeting: region) ?? Array(boxes.indices)).compactMap { position in
            boxes[position].intersection(region).map {
                MappedPiece(input: position, source: $0.relative(to: boxes[position].offsets), target: $0)
            }
        }
    }
}

/// Parts of tensors one behind the other along a dimension; of several sections, each tensor has a part of each.
package struct ConcatenationMapping: RegionMapping {
    private struct Run {
        var input: Int
        /// Where the run is in the whole and in its input, along the dimension.
        var whole: Range<Int>
        var start: Int
    }

    package let shape: Shape
    private let dimension: Int
    private let runs: [Run]

    /// - Parameter widths: For each section, in order, the width of each input's part.
    /// - Throws: ``CairnError/Code/mismatch`` when the shapes do not fit each other.
    package init(_ shapes: [Shape], dimension: Int, widths: [[Int]]) throws(CairnError) {
        func mismatch() -> CairnError {
            CairnError(
                .mismatch, "the ranks' parts do not fit each other",
                .init(found: shapes.map(\.description).joined(separator: " ")))
        }
        guard let first = shapes.first, first.extents.indices.contains(dimension) else { throw mismatch() }
        var starts = [Int](repeating: 0, count: shapes.count)
        var runs: [Run] = []
        var end = 0
        for section in widths {
            for (input, width) in section.enumerated() {
                guard width >= 0, input < shapes.count, let next = end.adding(checked: width),
                    let after = starts[input].adding(checked: width)
                else { throw mismatch() }
                if width > 0 { runs.append(Run(input: input, whole: end..<next, start: starts[input])) }
                (end, starts[input]) = (next, after)
            }
        }
        for (shape, used) in zip(shapes, starts) {
            guard shape.dimensionCount == first.dimensionCount, shape[dimension] == used,
                try shape.replacing(dimension, with: 0) == first.replacing(dimension, with: 0)
            else { throw mismatch() }
        }
        shape = try first.replacing(dimension, with: end)
        self.dimension = dimension
        self.runs = runs
    }

    package func pieces(of region: Region) throws(CairnError) -> [MappedPiece] {
        var pieces: [MappedPiece] = []
        let wanted = region.range(dimension)
        for run in runs where run.whole.overlaps(wanted) {
            let common = run.whole.clamped(to: wanted)
            pieces.append(
                MappedPiece(
                    input: run.input,
                    source: try region.replacing(
                        dimension, offset: common.lowerBound - run.whole.lowerBound + run.start, extent: common.count),
                    target: try region.replacing(dimension, offset: common.lowerBound, extent: common.count)))
        }
        return pieces
    }
}
