public import CairnBase

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
        guard region.isInside(shape) else {
            throw CairnError(
                .mismatch, "a region lies outside its tensor", .init(expected: "inside \(shape)", found: "\(region)"))
        }
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
