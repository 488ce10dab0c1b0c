package import CairnBase
package import CairnTensor

/// One tensor that can be read by region: a foreign one, or a view of others.
package protocol TensorSource: Sendable {
    var scalarType: ScalarType { get }
    var shape: Shape { get }

    /// Fills `destination` with a region, row-major.
    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError)
}

extension TensorSource {
    /// The bytes of a region.
    func byteCount(of region: Region) throws(CairnError) -> Int {
        guard let count = scalarType.byteCount(elementCount: region.elementCount) else {
            throw CairnError(
                .unsupported, "a region of packed elements must begin and end at whole bytes",
                .init(found: "\(region) of \(scalarType)\(shape)"))
        }
        return count
    }

    /// Reads a region into memory of its own.
    func bytes(of region: Region) throws(CairnError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: try byteCount(of: region))
        var span = bytes.mutableSpan
        var raw = span.mutableBytes
        try read(region, into: &raw)
        return bytes
    }

    /// Checks what a caller asks for.
    func check(_ region: Region, destinationByteCount: Int) throws(CairnError) {
        guard region.isInside(shape) else {
            throw CairnError(
                .mismatch, "a region lies outside its tensor", .init(expected: "inside \(shape)", found: "\(region)"))
        }
        guard try byteCount(of: region) == destinationByteCount else {
            throw CairnError(
                .mismatch, "the destination of a region has another size",
                .init(expected: "\(scalarType)\(region.shape)", found: "\(destinationByteCount) bytes"))
        }
    }
}
