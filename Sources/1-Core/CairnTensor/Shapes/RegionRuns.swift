public import CairnBase

/// The contiguous runs of elements that a region has in its row-major tensor, in order.
///
/// Trailing dimensions that the region covers whole are folded into the run, so a whole tensor is one run.
package struct RegionRuns: Sequence, IteratorProtocol {
    /// Elements in each run.
    package let runLength: Int
    /// How many runs there are.
    package let count: Int

    private let outerExtents: [Int]
    private let outerStrides: [Int]
    private var index: [Int]
    private var offset: Int
    private var remaining: Int

    /// The runs of `region` in a tensor of `shape`; the region must lie inside.
    package init(of region: Region, in shape: Shape) {
        let strides = shape.strides
        // Dimensions from `inner` on form one run: all behind it are whole.
        var inner = shape.dimensionCount
        var length = 1
        while inner > 0 {
            inner -= 1
            length *= region.shape[inner]
            if region.shape[inner] != shape[inner] { break }
        }
        runLength = length
        outerExtents = Array(region.shape.extents.prefix(inner))
        outerStrides = Array(strides.prefix(inner))
        count = region.elementCount == 0 ? 0 : outerExtents.reduce(1, *)
        index = [Int](repeating: 0, count: inner)
        offset = zip(region.offsets, strides).reduce(0) { $0 + $1.0 * $1.1 }
        remaining = count
    }

    /// The element offset of the next run.
    package mutating func next() -> Int? {
        guard remaining > 0 else { return nil }
        remaining -= 1
        let current = offset
        var dimension = outerExtents.count - 1
        while dimension >= 0 {
            index[dimension] += 1
            offset += outerStrides[dimension]
            if index[dimension] < outerExtents[dimension] { break }
            offset -= outerStrides[dimension] * outerExtents[dimension]
            index[dimension] = 0
            dimension -= 1
        }
        return current
    }
}

/// Two regions with equally many elements in two row-major tensors, walked side by side in pieces that are contiguous in
/// both. The source offsets ascend.
///
/// The regions have the same extents, or one of them is contiguous in its tensor, such as a run of a flattened one.
package struct PairedRuns: Sequence, IteratorProtocol {
    /// Elements in each piece.
    package let pieceLength: Int
    /// How many pieces there are.
    package let count: Int

    private var source: Odometer
    private var destination: Odometer
    private var remaining: Int

    /// The pieces of `source`, a region of a tensor of `sourceShape`, and `destination`; both lie inside their tensors.
    ///
    /// - Returns: `nil` when the regions differ in their number of elements, or in their extents while neither is contiguous.
    package init?(
        from source: Region, of sourceShape: Shape, to destination: Region, of destinationShape: Shape
    ) {
        guard source.elementCount == destination.elementCount else { return nil }
        let sourceRuns = RegionRuns(of: source, in: sourceShape)
        let destinationRuns = RegionRuns(of: destination, in: destinationShape)
        guard source.shape == destination.shape || sourceRuns.count <= 1 || destinationRuns.count <= 1 else { return nil }
        // Of equal extents both lengths are products of trailing ones, so the shorter divides the longer.
        let piece = Swift.min(sourceRuns.runLength, destinationRuns.runLength)
        pieceLength = piece
        count = piece == 0 ? 0 : source.elementCount / piece
        self.source = Odometer(source, sourceShape, runLength: sourceRuns.runLength, piece: piece)
        self.destination = Odometer(destination, destinationShape, runLength: destinationRuns.runLength, piece: piece)
        remaining = count
    }

    /// The element offset of a piece in the source tensor.
    package func sourceOffset(ofPiece index: Int) -> Int { source.offset(at: index) }

    /// The first piece that ends behind an element offset of the source tensor; ``count`` if none does.
    package func firstPiece(endingAfter offset: Int) -> Int {
        var low = 0, high = count
        while low < high {
            let middle = (low + high) / 2
            if source.offset(at: middle) + pieceLength > offset { high = middle } else { low = middle + 1 }
        }
        return low
    }

    /// Goes to a piece, which ``next()`` then returns.
    package mutating func seek(to index: Int) {
        remaining = Swift.max(0, count - index)
        guard remaining > 0 else { return }
        source.seek(to: index)
        destination.seek(to: index)
    }

    /// The element offsets of the next piece in both tensors.
    package mutating func next() -> (source: Int, destination: Int)? {
        guard remaining > 0 else { return nil }
        remaining -= 1
        let piece = (source.current, destination.current)
        if remaining > 0 {
            source.advance()
            destination.advance()
        }
        return piece
    }
}

extension PairedRuns {
    /// Copies the source's elements to the destination's.
    ///
    /// - Throws: ``CairnError/Code/mismatch`` when a span is too short, ``CairnError/Code/unsupported`` when a piece of
    ///   packed elements does not begin and end at a byte.
    package func copy(
        _ source: RawSpan, into destination: inout MutableRawSpan, bitWidth bits: Int
    ) throws(CairnError) {
        try source.withUnsafeBytes { from throws(CairnError) in
            try destination.withUnsafeMutableBytes { into throws(CairnError) in
                let length = pieceLength * bits / 8
                for (source, target) in self {
                    guard pieceLength * bits % 8 == 0, source * bits % 8 == 0, target * bits % 8 == 0 else {
                        throw CairnError(
                            .unsupported, "a region of packed elements must begin and end at whole bytes")
                    }
                    guard source * bits / 8 + length <= from.count, target * bits / 8 + length <= into.count,
                        let fromBase = from.baseAddress, let intoBase = into.baseAddress
                    else {
                        throw CairnError(.mismatch, "a buffer is too small for its tensor")
                    }
                    (intoBase + target * bits / 8).copyMemory(from: fromBase + source * bits / 8, byteCount: length)
                }
            }
        }
    }
}

/// Counts through the pieces of a region.
private struct Odometer {
    private var extents: [Int]
    private var strides: [Int]
    private var index: [Int]
    private let start: Int
    private(set) var current: Int

    init(_ region: Region, _ shape: Shape, runLength: Int, piece: Int) {
        // The dimensions outside a run, and the place within the run as the innermost one.
        var inner = shape.dimensionCount
        while inner > 0 {
            inner -= 1
            if region.shape[inner] != shape[inner] { break }
        }
        extents = Array(region.shape.extents.prefix(inner))
        strides = Array(shape.strides.prefix(inner))
        if piece > 0, runLength > piece {
            extents.append(runLength / piece)
            strides.append(piece)
        }
        index = [Int](repeating: 0, count: extents.count)
        start = zip(region.offsets, shape.strides).reduce(0) { $0 + $1.0 * $1.1 }
        current = start
    }

    func offset(at position: Int) -> Int {
        var rest = position
        var offset = start
        for dimension in extents.indices.reversed() where extents[dimension] > 0 {
            let (quotient, remainder) = rest.quotientAndRemainder(dividingBy: extents[dimension])
            offset += remainder * strides[dimension]
            rest = quotient
        }
        return offset
    }

    mutating func seek(to position: Int) {
        var rest = position
        current = start
        for dimension in extents.indices.reversed() where extents[dimension] > 0 {
            let (quotient, remainder) = rest.quotientAndRemainder(dividingBy: extents[dimension])
            index[dimension] = remainder
            current += remainder * strides[dimension]
            rest = quotient
        }
    }

    mutating func advance() {
        for dimension in extents.indices.reversed() {
            index[dimension] += 1
            current += strides[dimension]
            if index[dimension] < extents[dimension] { return }
            current -= strides[dimension] * extents[dimension]
            index[dimension] = 0
        }
    }
}

/// Copies boxes of elements between row-major tensors.
public enum RegionCopy {
    /// Copies `sourceRegion` of a tensor of `sourceShape` to `destinationRegion` of one of `destinationShape`.
    ///
    /// Both regions have the same extents. For packed types each contiguous run must fill whole bytes at both ends.
    ///
    /// - Throws: ``CairnError/Code/mismatch`` when extents differ or a region or a buffer is too small,
    ///   ``CairnError/Code/unsupported`` when a packed run does not start and end at a byte.
    public static func copy(
        _ scalarType: ScalarType, from source: RawSpan, of sourceShape: Shape, region sourceRegion: Region,
        into destination: inout MutableRawSpan, of destinationShape: Shape, region destinationRegion: Region
    ) throws(CairnError) {
        guard sourceRegion.shape == destinationRegion.shape else {
            throw CairnError(
                .mismatch, "a region copy needs equal extents",
                .init(expected: "\(destinationRegion.shape)", found: "\(sourceRegion.shape)"))
        }
        try check(sourceRegion, inside: sourceShape, scalarType, byteCount: source.byteCount)
        try check(destinationRegion, inside: destinationShape, scalarType, byteCount: destination.byteCount)
        guard sourceRegion.elementCount > 0 else { return }
        var sources = RegionRuns(of: sourceRegion, in: sourceShape)
        var destinations = RegionRuns(of: destinationRegion, in: destinationShape)
        // Both lengths divide the region into equal pieces of the shorter one.
        let piece = min(sources.runLength, destinations.runLength)
        let bits = scalarType.bitWidth
        if scalarType.isPacked {
            for length in [piece, sources.runLength, destinations.runLength] where length * bits % 8 != 0 {
                throw packedError(scalarType)
            }
        }
        source.withUnsafeBytes { from in
            destination.withUnsafeMutableBytes { into in
                guard let fromBase = from.baseAddress, let intoBase = into.baseAddress else { return }
                let pieceBytes = piece * bits / 8
                var fromBegin = 0, fromLeft = 0, intoBegin = 0, intoLeft = 0
                while true {
                    if fromLeft == 0 {
                        guard let next = sources.next() else { return }
                        fromBegin = next
                        fromLeft = sources.runLength
                    }
                    if intoLeft == 0 {
                        guard let next = destinations.next() else { return }
                        intoBegin = next
                        intoLeft = destinations.runLength
                    }
                    intoBase.advanced(by: intoBegin * bits / 8)
                        .copyMemory(from: fromBase.advanced(by: fromBegin * bits / 8), byteCount: pieceBytes)
                    fromBegin += piece
                    fromLeft -= piece
                    intoBegin += piece
                    intoLeft -= piece
                }
            }
        }
    }

    private static func check(
        _ region: Region, inside shape: Shape, _ scalarType: ScalarType, byteCount: Int
    ) throws(CairnError) {
        try region.check(inside: shape)
        guard let needed = scalarType.byteCount(elementCount: shape.elementCount), needed <= byteCount else {
            throw CairnError(
                .mismatch, "a buffer is too small for its tensor",
                .init(expected: "\(scalarType)\(shape)", found: "\(byteCount) bytes"))
        }
        if scalarType.isPacked {
            for offset in RegionRuns(of: region, in: shape) where offset * scalarType.bitWidth % 8 != 0 {
                throw packedError(scalarType)
            }
        }
    }

    private static func packedError(_ scalarType: ScalarType) -> CairnError {
        CairnError(
            .unsupported, "a region of packed elements must begin and end at whole bytes",
            .init(found: "\(scalarType)", advice: "cut the last dimension at a multiple of 8 elements"))
    }
}
