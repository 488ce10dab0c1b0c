import CairnBase
import CairnTensor

/// A flattening step: which stretch of the row-major run of a local tensor each coordinate holds.
struct FlatCut: Sendable {
    /// The position of the mesh axis.
    let axis: Int
    let axisName: String
    let parts: Int
    private let flattening: Flattening

    init(_ flattening: Flattening, axis: Int, axisName: String, parts: Int) {
        self.flattening = flattening
        self.axis = axis
        self.axisName = axisName
        self.parts = parts
    }

    /// Checks that the parts hold a local tensor of `count` elements whole.
    func check(_ count: Int) throws(CairnError) {
        let start = flattening.start
        let end = start.adding(checked: count)
        switch flattening.partition {
        case .perTensor: return
        case .equal(let size):
            guard let end, end <= size * parts else {
                throw error("\(start) + \(count) elements in at most \(parts) x \(size)", end)
            }
        case .cuts(let cuts):
            guard let end, cuts[0] <= start, end <= cuts[parts] else {
                throw error("elements \(cuts[0])..<\(cuts[parts])", end)
            }
        }
    }

    private func error(_ expected: String, _ end: Int?) -> CairnError {
        CairnError(
            .invalidArgument, "the flat buffer of axis \"\(axisName)\" does not hold the whole tensor",
            .init(
                expected: expected, found: "\(flattening.start)..<\(end.map { "\($0)" } ?? "more than fits")",
                advice: "make starts and parts with Flattening.group from the local element counts"))
    }

    /// What a coordinate holds of a local tensor of `count` elements.
    func run(of coordinate: Int, count: Int) -> Range<Int> {
        start(of: coordinate, count: count)..<start(of: coordinate + 1, count: count)
    }

    /// The coordinate that holds an element of the local tensor.
    func coordinate(at position: Int, count: Int) -> Int {
        (0..<parts).firstPosition { start(of: $0 + 1, count: count) > position }
    }

    private func start(of coordinate: Int, count: Int) -> Int {
        let boundary =
            switch flattening.partition {
            case .perTensor:
                count.dividedRoundingUp(by: parts).multiplied(checked: coordinate) ?? count
            case .equal(let size): size * coordinate - flattening.start
            case .cuts(let cuts): cuts[coordinate] - flattening.start
            }
        return min(max(boundary, 0), count)
    }
}

/// Boxes of the whole tensor that make up a stretch of a local tensor's row-major run.
///
/// Source: a run over a tensor of `d` dimensions is at most `2 d - 1` boxes: a head, whole rows, a tail, and so again
/// inside head and tail (ByteCheckpoint, Wan et al., NSDI 2025, on irregular shards).
enum FlatFragments {
    /// The boxes of the elements `run` of the local tensor that `parts` form, in order, padding left out.
    static func fragments(of run: Range<Int>, parts: [DimensionPart]) -> [LocalFragment] {
        guard !run.isEmpty else { return [] }
        let locals = parts.map(\.localExtent)
        // Dimensions behind this one do not interrupt the run.
        guard let broken = parts.lastIndex(where: { !$0.isOneRun }) else {
            var fragments: [LocalFragment] = []
            append(
                run, ofBlock: parts.map { $0.pieces[0].global }, extents: locals, at: -run.lowerBound, to: &fragments)
            return fragments
        }
        var fragments: [LocalFragment] = []
        let inner = locals[(broken + 1)...].reduce(1, *)
        let rowCount = locals[broken] * inner
        var offsets = parts.map { $0.pieces.first?.global ?? 0 }
        var extents = locals
        for dimension in 0..<broken { extents[dimension] = 1 }
        for row in run.lowerBound / rowCount...(run.upperBound - 1) / rowCount {
            guard place(row, in: parts, before: broken, into: &offsets) else { continue }
            for piece in parts[broken].pieces {
                let start = row * rowCount + piece.local * inner
                let selected = run.clamped(to: start..<start + piece.count * inner)
                guard !selected.isEmpty else { continue }
                offsets[broken] = piece.global
                extents[broken] = piece.count
                append(
                    selected.lowerBound - start..<selected.upperBound - start, ofBlock: offsets, extents: extents,
                    at: start - run.lowerBound, to: &fragments)
            }
        }
        return fragments
    }

    /// Sets the outer offsets to those of a row; false when the row is padding.
    private static func place(
        _ row: Int, in parts: [DimensionPart], before end: Int, into offsets: inout [Int]
    ) -> Bool {
        var rest = row
        for dimension in (0..<end).reversed() {
            let local = rest % parts[dimension].localExtent
            rest /= parts[dimension].localExtent
            let pieces = parts[dimension].pieces
            let index = pieces.firstPosition { $0.local > local } - 1
            guard index >= 0, local < pieces[index].local + pieces[index].count else { return false }
            offsets[dimension] = pieces[index].global + local - pieces[index].local
        }
        return true
    }

    /// Appends the boxes of `run` of a block; the block's first element stands at `position` of the rank's run.
    private static func append(
        _ run: Range<Int>, ofBlock offsets: [Int], extents: [Int], at position: Int,
        to fragments: inout [LocalFragment]
    ) {
        var rowSizes = [Int](repeating: 1, count: extents.count)
        for dimension in extents.indices.dropLast().reversed() {
            rowSizes[dimension] = rowSizes[dimension + 1] * extents[dimension + 1]
        }
        var box = offsets
        var boxExtents = extents

        func emit(_ count: Int, at start: Int) {
            fragments.append(
                LocalFragment(
                    global: Region(trustedOffsets: box, shape: Shape(boxExtents)),
                    local: Region(trustedOffsets: [position + start], shape: Shape([count]))))
        }

        /// `range` counts within the block of the dimensions from `dimension` on, which begins at element `origin`.
        func split(_ range: Range<Int>, from dimension: Int, origin: Int) {
            guard dimension < extents.count else { return emit(range.count, at: origin + range.lowerBound) }
            let size = rowSizes[dimension]
            func descend(_ part: Range<Int>) {
                let row = part.lowerBound / size
                box[dimension] = offsets[dimension] + row
                boxExtents[dimension] = 1
                split(
                    part.lowerBound - row * size..<part.upperBound - row * size, from: dimension + 1,
                    origin: origin + row * size)
                box[dimension] = offsets[dimension]
                boxExtents[dimension] = extents[dimension]
            }
            let firstWhole = range.lowerBound.dividedRoundingUp(by: size)
            let endWhole = range.upperBound / size
            guard firstWhole <= endWhole else { return descend(range) }
            if range.lowerBound < firstWhole * size { descend(range.lowerBound..<firstWhole * size) }
            if firstWhole < endWhole {
                box[dimension] = offsets[dimension] + firstWhole
                boxExtents[dimension] = endWhole - firstWhole
                emit((endWhole - firstWhole) * size, at: origin + firstWhole * size)
                box[dimension] = offsets[dimension]
                boxExtents[dimension] = extents[dimension]
            }
            if endWhole * size < range.upperBound { descend(endWhole * size..<range.upperBound) }
        }

        split(run, from: 0, origin: 0)
    }
}
