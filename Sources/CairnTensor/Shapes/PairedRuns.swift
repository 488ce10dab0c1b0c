package import CairnBase

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
        var failure: CairnError?
        source.withUnsafeBytes { from in
            destination.withUnsafeMutableBytes { into in
                let length = pieceLength * bits / 8
                for (source, target) in self {
                    guard pieceLength * bits % 8 == 0, source * bits % 8 == 0, target * bits % 8 == 0 else {
                        failure = CairnError(
                            .unsupported, "a region of packed elements must begin and end at whole bytes")
                        return
                    }
                    guard source * bits / 8 + length <= from.count, target * bits / 8 + length <= into.count,
                        let fromBase = from.baseAddress, let intoBase = into.baseAddress
                    else {
                        failure = CairnError(.mismatch, "a buffer is too small for its tensor")
                        return
                    }
                    (intoBase + target * bits / 8).copyMemory(from: fromBase + source * bits / 8, byteCount: length)
                }
            }
        }
        if let failure { throw failure }
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
