import CairnBase

/// What a pickle may cost and what it may not ask for.
package struct PickleLimits: Sendable {
    /// The most bytes of a pickle.
    package var byteCount = 1 << 30
    /// The most things that a pickle may make; each takes about 24 bytes of memory.
    package var nodeCount = 1 << 26
    /// The most bytes of one integer.
    package var integerByteCount = 1024

    package init() {}

    /// What a pickle may cost that was found compressed: in proportion to what is stored of it.
    init(storedByteCount: Int) {
        byteCount = min(byteCount, max(16 << 20, storedByteCount.multiplied(checked: 64) ?? byteCount))
        nodeCount = min(nodeCount, max(1 << 20, storedByteCount.multiplied(checked: 4) ?? nodeCount))
    }
}
