import CairnBase
import CairnCheckpoint
import CairnTensor

/// By how much two tensors of one shape differ, gathered block by block.
///
/// Without a tolerance elements are equal when their bits are (their values, where the types differ). With one, when they are
/// no further apart than that: the zeros are then equal, and so is NaN to NaN.
struct TensorDifference {
    let tolerance: Double?
    private(set) var count = 0
    /// How many elements differ.
    private(set) var differingCount = 0
    /// The first element that differs, counted row-major.
    private(set) var firstIndex: Int?
    /// The greatest distance between finite elements that differ; `nil` when there are none, or they are not numbers.
    private(set) var greatestAbsolute: Double?
    /// The greatest distance in proportion to the larger magnitude of the two.
    private(set) var greatestRelative: Double?
    /// How many pairs that differ have a NaN or an infinity.
    private(set) var nonFiniteCount = 0

    init(tolerance: Double?) { self.tolerance = tolerance }

    /// Reads both tensors and compares them; they must have the same shape.
    ///
    /// - Parameter progress: called with the bytes of each block.
    /// - Throws: the readers' errors, ``CairnError/Code/unsupported`` when the types differ and cannot be converted.
    static func gather(
        _ left: (tensor: TensorDescription, blocks: TensorBlocks),
        _ right: (tensor: TensorDescription, blocks: TensorBlocks), tolerance: Double?, progress: (Int) -> Void
    ) throws -> TensorDifference {
        var difference = TensorDifference(tolerance: tolerance)
        var leftValues = DoubleBlock(), rightValues = DoubleBlock()
        let sameType = left.tensor.scalarType == right.tensor.scalarType
        let numeric = DoubleBlock.canHold(left.tensor.scalarType) && DoubleBlock.canHold(right.tensor.scalarType)
        // One side's blocks decide for both, so that the regions agree where the types do not.
        for region in left.blocks.regions(of: left.tensor) {
            try left.blocks.withBlock(left.tensor, region) { first in
                try right.blocks.withBlock(right.tensor, region) { second in
                    progress(first.count)
                    if sameType, first.count == second.count, first.elementsEqual(second) {
                        difference.count += region.elementCount
                        return
                    }
                    guard numeric else {
                        difference.addBits(first, second, of: left.tensor.scalarType, count: region.elementCount)
                        return
                    }
                    if sameType, let isSigned = left.tensor.scalarType.isSignedLongInteger {
                        difference.addIntegers(first, second, isSigned: isSigned)
                        return
                    }
                    try leftValues.load(first, of: left.tensor.scalarType)
                    try rightValues.load(second, of: right.tensor.scalarType)
                    difference.add(
                        leftValues.values.span, rightValues.values.span,
                        bits: sameType && tolerance == nil ? (first, second) : nil)
                }
            }
        }
        return difference
    }

    private mutating func add(
        _ left: Span<Double>, _ right: Span<Double>, bits: (UnsafeRawBufferPointer, UnsafeRawBufferPointer)?
    ) {
        let width = bits.map { $0.0.count / max(1, left.count) } ?? 0
        for index in left.indices {
            let first = left[index], second = right[index]
            let distance = abs(first - second)
            let equal: Bool
            if let bits {
                let range = index * width..<(index + 1) * width
                equal = bits.0[range].elementsEqual(bits.1[range])
            } else {
                equal = first == second || distance <= tolerance ?? 0 || (first.isNaN && second.isNaN)
            }
            if equal { continue }
            note(index: count + index)
            guard first.isFinite, second.isFinite else {
                nonFiniteCount += 1
                continue
            }
            greatestAbsolute = max(greatestAbsolute ?? 0, distance)
            let magnitude = max(abs(first), abs(second))
            greatestRelative = max(greatestRelative ?? 0, magnitude > 0 ? distance / magnitude : 0)
        }
        count += left.count
    }

    /// Compares integers of 64 bits, whose distances doubles would round away.
    private mutating func addIntegers(
        _ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer, isSigned: Bool
    ) {
        // Two's complement with the sign's bit flipped is in the order of the numbers.
        let flip: UInt64 = isSigned ? 1 << 63 : 0
        func number(_ bits: UInt64) -> Double { isSigned ? Double(Int64(bitPattern: bits)) : Double(bits) }
        for index in 0..<left.count / 8 {
            let first = UInt64(littleEndian: left.loadUnaligned(fromByteOffset: 8 * index, as: UInt64.self))
            let second = UInt64(littleEndian: right.loadUnaligned(fromByteOffset: 8 * index, as: UInt64.self))
            let (one, other) = (first ^ flip, second ^ flip)
            let distance = Double(one > other ? one - other : other - one)
            if distance == 0 || distance <= tolerance ?? 0 { continue }
            note(index: count + index)
            greatestAbsolute = max(greatestAbsolute ?? 0, distance)
            greatestRelative = max(greatestRelative ?? 0, distance / max(abs(number(first)), abs(number(second))))
        }
        count += left.count / 8
    }

    /// Compares elements that are not numbers or not whole bytes by their bits.
    private mutating func addBits(
        _ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer, of scalarType: ScalarType, count added: Int
    ) {
        let width = scalarType.bitWidth
        for index in 0..<added {
            let bits = index * width..<(index + 1) * width
            let isEqual = bits.allSatisfy { bit in
                let mask = UInt8(1) << UInt8(bit % 8)
                return left[bit / 8] & mask == right[bit / 8] & mask
            }
            if !isEqual { note(index: count + index) }
        }
        count += added
    }

    private mutating func note(index: Int) {
        differingCount += 1
        if firstIndex == nil { firstIndex = index }
    }
}

extension ScalarType {
    /// Whether it is a signed or an unsigned integer of 64 bits; `nil` for other types.
    fileprivate var isSignedLongInteger: Bool? {
        switch self {
        case .i64: true
        case .u64: false
        default: nil
        }
    }
}
