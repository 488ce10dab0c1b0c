public import CairnBase
import CairnTensor

extension ShardedShape {
    /// Proves that every element of every partial value is held by some rank, and that whatever overlaps is a replica.
    ///
    /// Steps cover by construction, which ``init(_:shape:)`` checked: each shards whatever extent the earlier ones
    /// left into parts that follow on each other from its beginning to its end, and a flat buffer holds the local
    /// tensor whole. So the parts of a dimension are a partition of it, and the boxes one of the tensor. Explicit
    /// regions are swept: see the errors.
    ///
    /// - Throws: ``CairnError/Code/incomplete``, naming the first hole; ``CairnError/Code/invalidArgument`` when two
    ///   regions overlap and neither contains the other; ``CairnError/Code/unsupported`` when they overlap so much that
    ///   the proof would take too long.
    public func proveCoverage() throws(CairnError) {
        if case .explicit(let regions) = arrangement { _ = try regions.tiles(of: shape) }
    }
}
