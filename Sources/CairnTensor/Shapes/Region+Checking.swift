package import CairnBase

extension Region {
    /// The same box with its offsets counted on from `origin`.
    ///
    /// - Throws: ``CairnError/Code/malformed`` when an offset would be out of range.
    package func shifted(by origin: [Int]) throws(CairnError) -> Region {
        guard offsets.count == origin.count else {
            throw CairnError(
                .mismatch, "a region is moved by another number of dimensions than it has",
                .init(expected: "\(offsets.count)", found: "\(origin.count)"))
        }
        return try Region(offsets: zip(offsets, origin).map { $0.adding(clamped: $1) }, shape: shape)
    }

    /// Makes sure that a read of this region makes sense: it lies inside of the tensor, begins and ends at whole bytes, and
    /// fills the destination.
    ///
    /// - Throws: ``CairnError/Code/mismatch`` when it lies outside or the destination has another size,
    ///   ``CairnError/Code/unsupported`` when a run of packed elements does not begin and end at a byte.
    package func check(
        inside shape: Shape, of scalarType: ScalarType, filling destinationByteCount: Int
    ) throws(CairnError) {
        guard isInside(shape) else {
            throw CairnError(
                .mismatch, "a region lies outside its tensor", .init(expected: "inside \(shape)", found: "\(self)"))
        }
        if scalarType.isPacked, elementCount > 0 {
            let runs = RegionRuns(of: self, in: shape)
            let isWhole = { (count: Int) in count % 8 * scalarType.bitWidth % 8 == 0 }
            guard isWhole(runs.runLength), runs.allSatisfy(isWhole) else {
                throw CairnError(
                    .unsupported, "a region of packed elements must begin and end at whole bytes",
                    .init(found: "\(self) of \(scalarType)\(shape)"))
            }
        }
        guard scalarType.byteCount(elementCount: elementCount) == destinationByteCount else {
            throw CairnError(
                .mismatch, "the destination of a region has another size",
                .init(expected: "\(self) of \(scalarType)", found: "\(destinationByteCount) bytes"))
        }
    }
}
