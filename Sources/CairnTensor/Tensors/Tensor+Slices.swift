import CairnBase

extension Tensor {
    /// The elements of `region`, under the shape of the region: the same bytes where they are contiguous and begin at a
    /// whole byte, else a copy.
    ///
    /// - Throws: ``CairnError/Code/mismatch`` when the region lies outside, ``CairnError/Code/unsupported`` when packed
    ///   elements would begin or end inside a byte.
    public func slice(_ region: Region, pool: BufferPool? = nil) throws -> Tensor {
        guard region.isInside(shape) else {
            throw CairnError(
                .mismatch, "a region lies outside its tensor", .init(expected: "inside \(shape)", found: "\(region)"))
        }
        var runs = RegionRuns(of: region, in: shape)
        let bits = scalarType.bitWidth
        if runs.count == 1, let first = runs.next(), let count = scalarType.byteCount(elementCount: region.elementCount),
            first % 8 * bits % 8 == 0
        {
            return Tensor(
                storage: storage, byteOffset: byteOffset + first / 8 * bits + first % 8 * bits / 8, scalarType,
                region.shape, byteCount: count)
        }
        return try copy(of: region, pool: pool)
    }
}
