/// What a rank holds of one dimension: stretches of it, laid side by side in the local tensor.
struct DimensionPart: Sendable, Hashable {
    /// A stretch of the dimension.
    struct Piece: Sendable, Hashable {
        var global: Int
        var local: Int
        var count: Int

        var globalRange: Range<Int> { global..<global + count }
    }

    /// The local extent, padding included.
    var localExtent: Int
    /// In local order, adjacent ones merged, padding left out.
    var pieces: [Piece]

    /// Whether the local extent is one stretch without padding, so that it doesn't interrupt a run of elements.
    var isOneRun: Bool { pieces.count == 1 && pieces[0].count == localExtent }

    /// - Parameters:
    ///   - ranges: What the rank holds of the padded dimension, in local order.
    ///   - extent: Where padding begins.
    init(_ ranges: [Range<Int>], extent: Int) {
        pieces = []
        localExtent = 0
        for range in ranges where !range.isEmpty {
            let count = min(range.upperBound, extent) - range.lowerBound
            if count > 0 {
                if let last = pieces.last, last.global + last.count == range.lowerBound,
                    last.local + last.count == localExtent
                {
                    pieces[pieces.count - 1].count += count
                } else {
                    pieces.append(Piece(global: range.lowerBound, local: localExtent, count: count))
                }
            }
            localExtent += range.count
        }
    }
}
