/// The two numbers of the rule by which ``WritePlan`` cuts.
package struct WriteRule: Sendable, Hashable {
    /// Tensors of fewer bytes are written whole by one replica.
    package var smallestCutByteCount: Int
    /// A dimension of this extent is cut finely enough.
    package var fineExtent: Int

    package init(smallestCutByteCount: Int, fineExtent: Int) {
        self.smallestCutByteCount = smallestCutByteCount
        self.fineExtent = fineExtent
    }

    /// Of the format: 1 MiB, 256 rows.
    package static let norm = WriteRule(smallestCutByteCount: 1 << 20, fineExtent: 256)
}
