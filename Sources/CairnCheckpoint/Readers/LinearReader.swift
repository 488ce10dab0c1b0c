package import CairnBase

/// A reader that can also hand out runs of a tensor's bytes, cut where its checksums are cut.
///
/// Loading in such runs touches each chunk once, where slabs of whole rows would read the chunks at their ends twice.
package protocol LinearReader: CheckpointReader {
    /// The byte count at whose multiples a tensor is best cut, or `nil` when it must be read by region.
    func runByteCount(_ name: String) throws(CairnError) -> Int?

    /// Fills `destination` with the tensor's bytes from `offset` on, a multiple of ``runByteCount(_:)``.
    func read(_ name: String, at offset: Int, into destination: inout MutableRawSpan) throws(CairnError)
}
