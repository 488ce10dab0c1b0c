package import CairnBase
package import CairnTensor

/// Where each element of a tensor comes from, in boxes.
package protocol RegionMapping: Sendable {
    /// The shape of the result.
    var shape: Shape { get }
    /// Whether some elements come from nowhere and are zero.
    var hasPadding: Bool { get }
    /// The boxes that make up a region: disjoint, and all of it but for padding.
    func pieces(of region: Region) throws(CairnError) -> [MappedPiece]
}

extension RegionMapping {
    package var hasPadding: Bool { false }
}

/// A box of the result and where its elements are: as many, in the same row-major order.
package struct MappedPiece: Sendable, Hashable {
    /// Which of the inputs.
    package var input: Int
    /// The box there.
    package var source: Region
    /// The box in the result.
    package var target: Region

    package init(input: Int, source: Region, target: Region) {
        self.input = input
        self.source = source
        self.target = target
    }
}

extension Region {
    /// The box with another stretch along one dimension.
    package func replacing(_ dimension: Int, offset: Int, extent: Int) throws(CairnError) -> Region {
        var offsets = self.offsets
        var extents = shape.extents
        offsets[dimension] = offset
        extents[dimension] = extent
        return try Region(offsets: offsets, shape: Shape(checking: extents))
    }

    /// The box without a dimension.
    package func removing(_ dimension: Int) throws(CairnError) -> Region {
        var offsets = self.offsets
        var extents = shape.extents
        offsets.remove(at: dimension)
        extents.remove(at: dimension)
        return try Region(offsets: offsets, shape: Shape(checking: extents))
    }

    /// The box with a dimension of one element more.
    package func inserting(_ dimension: Int, offset: Int) throws(CairnError) -> Region {
        var offsets = self.offsets
        var extents = shape.extents
        offsets.insert(offset, at: dimension)
        extents.insert(1, at: dimension)
        return try Region(offsets: offsets, shape: Shape(checking: extents))
    }

    /// The stretch along a dimension.
    package func range(_ dimension: Int) -> Range<Int> { offsets[dimension]..<offsets[dimension] + shape[dimension] }
}

extension Shape {
    /// The shape with another extent.
    package func replacing(_ dimension: Int, with extent: Int) throws(CairnError) -> Shape {
        var extents = self.extents
        extents[dimension] = extent
        return try Shape(checking: extents)
    }
}

/// A tensor whose boxes lie in other tensors: split, fused, stacked, padded, sharded, reshaped.
package struct MappedView: TensorView {
    private let inputs: [any TensorView]
    private let mapping: any RegionMapping
    package let scalarType: ScalarType
    package var shape: Shape { mapping.shape }
    package var hasChecksums: Bool { !inputs.isEmpty && inputs.allSatisfy(\.hasChecksums) }

    /// - Parameter scalarType: The type of the elements, which all inputs have.
    package init(_ inputs: [any TensorView], _ mapping: any RegionMapping, _ scalarType: ScalarType) {
        self.inputs = inputs
        self.mapping = mapping
        self.scalarType = scalarType
    }

    /// A view of one tensor.
    package init(_ input: any TensorView, _ mapping: any RegionMapping) {
        self.init([input], mapping, input.scalarType)
    }

    package func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try check(region, destinationByteCount: destination.byteCount)
        guard region.elementCount > 0 else { return }
        if mapping.hasPadding {
            destination.withUnsafeMutableBytes { _ = $0.initializeMemory(as: UInt8.self, repeating: 0) }
        }
        var produced = 0
        for piece in try mapping.pieces(of: region) {
            try inputs[piece.input].read(piece.source, as: piece.target, of: region, into: &destination)
            produced += piece.target.elementCount
        }
        guard produced == region.elementCount || (mapping.hasPadding && produced < region.elementCount) else {
            throw CairnError(
                .mismatch, "a region is not produced exactly once",
                .init(expected: "\(region.elementCount) elements", found: "\(produced)"))
        }
    }
}

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
