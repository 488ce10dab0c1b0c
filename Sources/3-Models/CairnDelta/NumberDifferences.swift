import CairnBase
import CairnCheckpoint
package import CairnTensor

/// The numbers that a tensor's bytes are, as far as a delta is concerned: of 1, 2, 4 or 8 bytes.
///
/// Both parts of a complex number are numbers by themselves; packed elements are taken by the byte.
package struct NumberWidth: Sendable, Hashable {
    /// 1, 2, 4 or 8.
    package let byteCount: Int

    package init(_ scalarType: ScalarType) { byteCount = BytePlanes.Cut(scalarType, rotatesFloats: false).width }

    /// The unsigned integers of this width: the type that differences are coded as.
    package var unsigned: ScalarType {
        switch byteCount {
        case 1: .u8
        case 2: .u16
        case 4: .u32
        default: .u64
        }
    }
}

/// Differences of two arrays of numbers, by their bits.
///
/// A difference is of the bits as unsigned integers, modulo two to the power of their width, and folded so that small ones of
/// either sign are small: 0, -1, 1, -2, … become 0, 1, 2, 3, …. A float that moves by one unit in the last place has the
/// difference 1 or -1, where an exclusive or would have any number of ones. Nothing of it is rounded, so that NaNs, infinities
/// and both zeros come back as they were.
enum NumberDifferences {
    /// How many bytes are compared at once.
    private static let stride = MemoryLayout<UInt64>.size

    /// Finds what differs between two arrays of as many bytes, in order.
    ///
    /// - Parameters:
    ///   - positions: Takes the indices of the numbers that differ.
    ///   - folded: Takes their differences, at least as many as `positions`.
    /// - Returns: How many differ; `nil` if they are more than `positions` has room for.
    static func find(
        _ base: UnsafeRawBufferPointer, _ result: UnsafeRawBufferPointer, _ width: NumberWidth,
        positions: UnsafeMutableBufferPointer<UInt32>, folded: UnsafeMutableRawPointer
    ) -> Int? {
        switch width.byteCount {
        case 1: find(base, result, as: UInt8.self, positions, folded)
        case 2: find(base, result, as: UInt16.self, positions, folded)
        case 4: find(base, result, as: UInt32.self, positions, folded)
        default: find(base, result, as: UInt64.self, positions, folded)
        }
    }

    /// The differences of all numbers of two arrays of as many bytes.
    static func all(
        _ base: UnsafeRawBufferPointer, _ result: UnsafeRawBufferPointer, _ width: NumberWidth,
        folded: UnsafeMutableRawPointer
    ) {
        switch width.byteCount {
        case 1: all(base, result, as: UInt8.self, folded)
        case 2: all(base, result, as: UInt16.self, folded)
        case 4: all(base, result, as: UInt32.self, folded)
        default: all(base, result, as: UInt64.self, folded)
        }
    }

    /// Adds differences to the numbers at some positions, which all lie inside `numbers`.
    ///
    /// - Parameter first: The position that the first number of `numbers` has.
    static func add(
        _ folded: UnsafeRawPointer, at positions: UnsafeBufferPointer<UInt32>, to numbers: UnsafeMutableRawBufferPointer,
        beginningAt first: Int, _ width: NumberWidth
    ) {
        switch width.byteCount {
        case 1: add(folded, at: positions, to: numbers, first, as: UInt8.self)
        case 2: add(folded, at: positions, to: numbers, first, as: UInt16.self)
        case 4: add(folded, at: positions, to: numbers, first, as: UInt32.self)
        default: add(folded, at: positions, to: numbers, first, as: UInt64.self)
        }
    }

    /// Adds differences to all numbers.
    static func add(_ folded: UnsafeRawPointer, to numbers: UnsafeMutableRawBufferPointer, _ width: NumberWidth) {
        switch width.byteCount {
        case 1: add(folded, to: numbers, as: UInt8.self)
        case 2: add(folded, to: numbers, as: UInt16.self)
        case 4: add(folded, to: numbers, as: UInt32.self)
        default: add(folded, to: numbers, as: UInt64.self)
        }
    }
}

extension NumberDifferences {
    private static func find<Bits: FixedWidthInteger & UnsignedInteger & BitwiseCopyable>(
        _ base: UnsafeRawBufferPointer, _ result: UnsafeRawBufferPointer, as: Bits.Type,
        _ positions: UnsafeMutableBufferPointer<UInt32>, _ folded: UnsafeMutableRawPointer
    ) -> Int? {
        guard let one = base.baseAddress, let other = result.baseAddress else { return 0 }
        let size = MemoryLayout<Bits>.size
        var found = 0
        /// Compares the numbers of some bytes one by one.
        func compare(_ range: Range<Int>) -> Bool {
            var offset = range.lowerBound
            while offset < range.upperBound {
                let old = one.loadUnaligned(fromByteOffset: offset, as: Bits.self)
                let new = other.loadUnaligned(fromByteOffset: offset, as: Bits.self)
                if old != new {
                    guard found < positions.count else { return false }
                    positions[found] = UInt32(truncatingIfNeeded: offset / size)
                    folded.storeBytes(
                        of: fold(Bits(littleEndian: new) &- Bits(littleEndian: old)).littleEndian, toByteOffset: found * size,
                        as: Bits.self)
                    found += 1
                }
                offset += size
            }
            return true
        }
        let whole = base.count / stride * stride
        var offset = 0
        while offset < whole {
            let old = one.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
            if old != other.loadUnaligned(fromByteOffset: offset, as: UInt64.self) {
                guard compare(offset..<offset + stride) else { return nil }
            }
            offset += stride
        }
        return compare(whole..<base.count) ? found : nil
    }

    private static func all<Bits: FixedWidthInteger & UnsignedInteger & BitwiseCopyable>(
        _ base: UnsafeRawBufferPointer, _ result: UnsafeRawBufferPointer, as: Bits.Type, _ folded: UnsafeMutableRawPointer
    ) {
        guard let one = base.baseAddress, let other = result.baseAddress else { return }
        for offset in Swift.stride(from: 0, to: base.count, by: MemoryLayout<Bits>.size) {
            let old = Bits(littleEndian: one.loadUnaligned(fromByteOffset: offset, as: Bits.self))
            let new = Bits(littleEndian: other.loadUnaligned(fromByteOffset: offset, as: Bits.self))
            folded.storeBytes(of: fold(new &- old).littleEndian, toByteOffset: offset, as: Bits.self)
        }
    }

    private static func add<Bits: FixedWidthInteger & UnsignedInteger & BitwiseCopyable>(
        _ folded: UnsafeRawPointer, at positions: UnsafeBufferPointer<UInt32>, to numbers: UnsafeMutableRawBufferPointer,
        _ first: Int, as: Bits.Type
    ) {
        guard let base = numbers.baseAddress else { return }
        let size = MemoryLayout<Bits>.size
        for index in positions.indices {
            let offset = (Int(positions[index]) - first) * size
            let difference = unfold(Bits(littleEndian: folded.loadUnaligned(fromByteOffset: index * size, as: Bits.self)))
            let old = Bits(littleEndian: base.loadUnaligned(fromByteOffset: offset, as: Bits.self))
            base.storeBytes(of: (old &+ difference).littleEndian, toByteOffset: offset, as: Bits.self)
        }
    }

    private static func add<Bits: FixedWidthInteger & UnsignedInteger & BitwiseCopyable>(
        _ folded: UnsafeRawPointer, to numbers: UnsafeMutableRawBufferPointer, as: Bits.Type
    ) {
        guard let base = numbers.baseAddress else { return }
        for offset in Swift.stride(from: 0, to: numbers.count, by: MemoryLayout<Bits>.size) {
            let difference = unfold(Bits(littleEndian: folded.loadUnaligned(fromByteOffset: offset, as: Bits.self)))
            let old = Bits(littleEndian: base.loadUnaligned(fromByteOffset: offset, as: Bits.self))
            base.storeBytes(of: (old &+ difference).littleEndian, toByteOffset: offset, as: Bits.self)
        }
    }

    /// 0, -1, 1, -2, … as 0, 1, 2, 3, ….
    @inline(__always)
    private static func fold<Bits: FixedWidthInteger & UnsignedInteger>(_ difference: Bits) -> Bits {
        (difference << 1) ^ (0 &- (difference >> (Bits.bitWidth - 1)))
    }

    @inline(__always)
    private static func unfold<Bits: FixedWidthInteger & UnsignedInteger>(_ folded: Bits) -> Bits {
        (folded >> 1) ^ (0 &- (folded & 1))
    }
}
