import CCairnKernels

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Byte planes: all bytes 0 of an array's elements, then all bytes 1, and so on.
///
/// The exponents of neighbouring weights resemble each other and their last mantissa bits do not: apart, the former
/// compress and the latter no longer get in the way. ("Shuffle" of HDF5 and Blosc.)
package enum BytePlanes {
    /// The element width and whether elements are rotated.
    package struct Cut: Sendable, Hashable {
        /// 1, 2, 4 or 8 bytes: as many planes.
        package let width: Int
        /// Whether each element is rotated left by one bit before: the sign of a float becomes its lowest bit, and its
        /// exponent fills the highest plane.
        package let rotates: Bool

        package init(width: Int, rotates: Bool = false) {
            precondition([1, 2, 4, 8].contains(width), "Byte planes exist for elements of 1, 2, 4 and 8 bytes.")
            self.width = width
            self.rotates = rotates && width > 1
        }

        /// The numbers inside the elements of a type: both parts of a complex number are cut alike, packed ones by the byte.
        package init(_ scalarType: ScalarType, rotatesFloats: Bool) {
            self.init(
                width: (scalarType.byteWidth ?? 1) / (scalarType.isComplex ? 2 : 1),
                rotates: rotatesFloats && (scalarType.isFloatingPoint || scalarType.isComplex))
        }
    }

    /// Writes the planes of `source`, least significant byte first as memory has it.
    ///
    /// Bytes at the end that fill no element follow unchanged.
    ///
    /// - Parameters:
    ///   - source: Elements of any number and alignment.
    ///   - destination: As many bytes as `source` has.
    ///   - level: The instructions to use (see `cairn_level.h`), so that tests reach every path.
    package static func split(
        _ source: RawSpan, _ cut: Cut, into destination: inout MutableRawSpan, level: Int = Int(CAIRN_LEVEL_HIGHEST)
    ) {
        precondition(source.byteCount == destination.byteCount, "Source and destination of byte planes differ in length.")
        source.withUnsafeBytes { from in
            destination.withUnsafeMutableBytes { to in
                guard let base = to.baseAddress else { return }
                let elements = from.count / cut.width
                split(from, cut, into: (0..<cut.width).map { base + $0 * elements }, level: level)
                copyRest(from, elements * cut.width, to)
            }
        }
    }

    /// Restores the elements from their planes: the inverse of ``split(_:_:into:level:)``.
    package static func join(
        _ source: RawSpan, _ cut: Cut, into destination: inout MutableRawSpan, level: Int = Int(CAIRN_LEVEL_HIGHEST)
    ) {
        precondition(source.byteCount == destination.byteCount, "Source and destination of byte planes differ in length.")
        source.withUnsafeBytes { from in
            destination.withUnsafeMutableBytes { to in
                guard let base = from.baseAddress else { return }
                let elements = from.count / cut.width
                join((0..<cut.width).map { base + $0 * elements }, cut, into: to, level: level)
                copyRest(from, elements * cut.width, to)
            }
        }
    }

    /// Writes each plane of the whole elements of `source` to a place of its own, which has room for it.
    package static func split(
        _ source: UnsafeRawBufferPointer, _ cut: Cut, into planes: [UnsafeMutableRawPointer],
        level: Int = Int(CAIRN_LEVEL_HIGHEST)
    ) {
        precondition(planes.count == cut.width, "There is a plane for each byte of an element.")
        let elements = source.count / cut.width
        guard cut.width > 1 else {
            if let base = source.baseAddress { planes[0].copyMemory(from: base, byteCount: elements) }
            return
        }
        let places = planes.map { $0.assumingMemoryBound(to: UInt8.self) as UnsafeMutablePointer<UInt8>? }
        cairn_planes_split(CInt(level), source.baseAddress, places, elements, CInt(cut.width), cut.rotates ? 1 : 0)
    }

    /// Restores as many whole elements as `destination` has from planes that lie apart.
    package static func join(
        _ planes: [UnsafeRawPointer], _ cut: Cut, into destination: UnsafeMutableRawBufferPointer,
        level: Int = Int(CAIRN_LEVEL_HIGHEST)
    ) {
        precondition(planes.count == cut.width, "There is a plane for each byte of an element.")
        let elements = destination.count / cut.width
        guard cut.width > 1 else { return destination.copyMemory(from: .init(start: planes[0], count: elements)) }
        let places = planes.map { $0.assumingMemoryBound(to: UInt8.self) as UnsafePointer<UInt8>? }
        cairn_planes_join(CInt(level), places, destination.baseAddress, elements, CInt(cut.width), cut.rotates ? 1 : 0)
    }

    /// The bits that a byte of each plane takes at least, by how often each value occurs in a sample of the elements (Shannon's
    /// entropy): 8 where all values are as frequent, 0 where there is one.
    package static func entropies(_ source: UnsafeRawBufferPointer, _ cut: Cut) -> [Float] {
        withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 256 * cut.width) { counts in
            let sampled = cairn_planes_sample(
                source.baseAddress, source.count / cut.width, CInt(cut.width), cut.rotates ? 1 : 0, counts.baseAddress)
            guard sampled > 0 else { return [Float](repeating: 0, count: cut.width) }
            let total = weightedLogarithms[sampled] / Float(sampled)
            return (0..<cut.width).map { plane in
                var sum: Float = 0
                for count in counts[plane * 256..<(plane + 1) * 256] { sum += weightedLogarithms[Int(count)] }
                return total - sum / Float(sampled)
            }
        }
    }

    /// n · log₂ n for each count that a sample can have.
    private static let weightedLogarithms = (0...Int(CAIRN_PLANES_SAMPLE)).map { count -> Float in
        count < 2 ? 0 : Float(count) * log2(Float(count))
    }

    private static func copyRest(_ source: UnsafeRawBufferPointer, _ begin: Int, _ destination: UnsafeMutableRawBufferPointer) {
        UnsafeMutableRawBufferPointer(rebasing: destination[begin...]).copyMemory(
            from: UnsafeRawBufferPointer(rebasing: source[begin...]))
    }
}
