import CCairnKernels

/// Byte planes: all bytes 0 of an array's elements, then all bytes 1, and so on.
///
/// The exponents of neighbouring weights resemble each other and their last mantissa bits do not: apart, the former
/// compress and the latter no longer get in the way. ("Shuffle" of HDF5 and Blosc.)
package enum BytePlanes {
    /// Writes the planes of `source`, least significant byte first as memory has it.
    ///
    /// Bytes at the end that fill no element follow unchanged.
    ///
    /// - Parameters:
    ///   - source: Elements of any number and alignment.
    ///   - elementWidth: 2, 4 or 8 bytes.
    ///   - destination: As many bytes as `source` has.
    package static func split(_ source: RawSpan, elementWidth: Int, into destination: inout MutableRawSpan) {
        split(source, elementWidth: elementWidth, into: &destination, level: Int(CAIRN_LEVEL_HIGHEST))
    }

    /// Restores the elements from their planes: the inverse of ``split(_:elementWidth:into:)``.
    package static func join(_ source: RawSpan, elementWidth: Int, into destination: inout MutableRawSpan) {
        join(source, elementWidth: elementWidth, into: &destination, level: Int(CAIRN_LEVEL_HIGHEST))
    }

    /// The split by the instructions of `level` (see `cairn_level.h`), so that tests reach every path.
    package static func split(
        _ source: RawSpan, elementWidth: Int, into destination: inout MutableRawSpan, level: Int
    ) {
        check(source.byteCount, destination.byteCount, elementWidth)
        source.withUnsafeBytes { from in
            destination.withUnsafeMutableBytes { to in
                cairn_planes_split(CInt(level), from.baseAddress, to.baseAddress, from.count, CInt(elementWidth))
            }
        }
    }

    /// The join by the instructions of `level`.
    package static func join(
        _ source: RawSpan, elementWidth: Int, into destination: inout MutableRawSpan, level: Int
    ) {
        check(source.byteCount, destination.byteCount, elementWidth)
        source.withUnsafeBytes { from in
            destination.withUnsafeMutableBytes { to in
                cairn_planes_join(CInt(level), from.baseAddress, to.baseAddress, from.count, CInt(elementWidth))
            }
        }
    }

    private static func check(_ sourceCount: Int, _ destinationCount: Int, _ elementWidth: Int) {
        precondition(sourceCount == destinationCount, "Source and destination of byte planes differ in length.")
        precondition([2, 4, 8].contains(elementWidth), "Byte planes exist for elements of 2, 4 and 8 bytes.")
    }
}
