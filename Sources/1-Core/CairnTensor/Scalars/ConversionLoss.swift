import CCairnKernels
package import CairnBase

/// What a conversion of numbers from one type to another did to them beyond rounding.
///
/// Floats that become other floats are rounded, to zero too where they are small: that is what such a conversion is for, and no
/// loss here. A loss is a finite number that becomes infinite or NaN (or the largest number, where conversions saturate), an
/// infinity that the new type does not have, a sign or a zero that F8_E8M0 does not have, and every number that changes on
/// the way to, from or between integers and booleans.
package struct ConversionLoss: Sendable, Hashable {
    /// How many numbers were finite and are infinite, NaN or clipped.
    package var overflowCount = 0
    /// The largest of their magnitudes.
    package var greatestOverflow: Double = 0
    /// How many other numbers changed by more than a float's rounding.
    package var changeCount = 0

    package init() {}

    /// Whether nothing was lost.
    package var isEmpty: Bool { overflowCount == 0 && changeCount == 0 }

    package static func + (left: ConversionLoss, right: ConversionLoss) -> ConversionLoss {
        var sum = left
        sum.overflowCount += right.overflowCount
        sum.changeCount += right.changeCount
        sum.greatestOverflow = max(left.greatestOverflow, right.greatestOverflow)
        return sum
    }
}

extension ScalarConversion {
    /// Converts, and says what was lost. As fast as ``convert(_:from:into:to:overflow:)`` where nothing can be, and nearly where
    /// floats stay finite.
    package static func convertNotingLoss(
        _ source: RawSpan, from sourceType: ScalarType, into destination: inout MutableRawSpan,
        to destinationType: ScalarType, overflow: OverflowBehavior = .ieee
    ) throws(CairnError) -> ConversionLoss {
        try convert(source, from: sourceType, into: &destination, to: destinationType, overflow: overflow)
        guard canLose(from: sourceType, to: destinationType) else { return ConversionLoss() }
        return loss(from: source, sourceType, to: destination.bytes, destinationType, overflow)
    }

    /// Whether a conversion can do more to a number than round it.
    package static func canLose(from source: ScalarType, to destination: ScalarType) -> Bool {
        guard source != destination, let from = NumberRange(source), let to = NumberRange(destination) else { return false }
        return !to.holds(from)
    }

    /// Compares elements before and after a conversion.
    private static func loss(
        from source: RawSpan, _ sourceType: ScalarType, to result: RawSpan, _ resultType: ScalarType,
        _ overflow: OverflowBehavior
    ) -> ConversionLoss {
        source.withUnsafeBytes { before in
            result.withUnsafeBytes { after in
                let isRounding = sourceType.isFloatingPoint && resultType.isFloatingPoint && resultType != .f8e8m0
                // Mostly all is well, which the smaller of the two shows fast.
                if isRounding, overflow == .ieee, !hasSpecial(after, resultType) { return ConversionLoss() }
                let count = after.count / max(1, resultType.byteWidth ?? 1)
                var loss = ConversionLoss()
                for index in 0..<count {
                    guard let old = ExactNumber(before, index, sourceType), let new = ExactNumber(after, index, resultType)
                    else { continue }
                    loss.add(old, new, isRounding: isRounding, limit: overflow == .saturate ? resultType : nil)
                }
                return loss
            }
        }
    }

    /// Whether there is an infinity or a NaN among floats.
    private static func hasSpecial(_ bytes: UnsafeRawBufferPointer, _ type: ScalarType) -> Bool {
        func any(of mask: UInt64, equals value: UInt64) -> Bool {
            let width = type.byteWidth ?? 1
            return cairn_find_masked(bytes.baseAddress, bytes.count / width, Int32(width), mask, value) != 0
        }
        switch type {
        case .f16: return any(of: 0x7C00, equals: 0x7C00)
        case .bf16: return any(of: 0x7F80, equals: 0x7F80)
        case .f32: return any(of: 0x7F80_0000, equals: 0x7F80_0000)
        case .f64: return any(of: 0x7FF0_0000_0000_0000, equals: 0x7FF0_0000_0000_0000)
        case .f8e5m2: return any(of: 0x7C, equals: 0x7C)
        case .f8e4m3: return any(of: 0x7F, equals: 0x7F)
        case .f8e4m3fnuz, .f8e5m2fnuz: return any(of: 0xFF, equals: 0x80)
        default: return true
        }
    }
}

extension ConversionLoss {
    /// - Parameter limit: The type whose largest numbers overflows become, where they do.
    fileprivate mutating func add(_ old: ExactNumber, _ new: ExactNumber, isRounding: Bool, limit: ScalarType?) {
        if old.isNaN, new.isNaN { return }
        let isLost: Bool
        if isRounding {
            let clips = limit.flatMap { NumberRange($0) }.map { old.isFinite && old.magnitude > $0.greatest } ?? false
            isLost = clips || (old.isFinite != new.isFinite) || (!old.isFinite && old != new)
        } else {
            isLost = old != new
        }
        guard isLost else { return }
        if old.isFinite, isRounding || !new.isFinite {
            overflowCount += 1
            greatestOverflow = max(greatestOverflow, old.magnitude)
        } else {
            changeCount += 1
        }
    }
}

/// What numbers a type has, as far as whole ranges go.
private struct NumberRange {
    let isFloat: Bool
    /// The integers that it has without a gap.
    let integers: ClosedRange<Int128>
    /// The largest finite number.
    let greatest: Double
    let hasInfinity: Bool
    let hasNaN: Bool
    let hasZeroAndSign: Bool

    /// `nil` for types whose elements convert to no other.
    init?(_ type: ScalarType) {
        func float(_ precision: Int, _ greatest: Double, infinity: Bool = true) -> (Bool, ClosedRange<Int128>, Double, Bool) {
            let whole = Int128(1) << Int128(precision)
            return (true, -whole...whole, greatest, infinity)
        }
        func integer(_ range: ClosedRange<Int128>) -> (Bool, ClosedRange<Int128>, Double, Bool) {
            (false, range, Double(range.upperBound), false)
        }
        let found: (Bool, ClosedRange<Int128>, Double, Bool)
        switch type {
        case .bool: found = integer(0...1)
        case .u8: found = integer(0...Int128(UInt8.max))
        case .i8: found = integer(Int128(Int8.min)...Int128(Int8.max))
        case .u16: found = integer(0...Int128(UInt16.max))
        case .i16: found = integer(Int128(Int16.min)...Int128(Int16.max))
        case .u32: found = integer(0...Int128(UInt32.max))
        case .i32: found = integer(Int128(Int32.min)...Int128(Int32.max))
        case .u64: found = integer(0...Int128(UInt64.max))
        case .i64: found = integer(Int128(Int64.min)...Int128(Int64.max))
        case .f8e5m2: found = float(3, 57344)
        case .f8e4m3: found = float(4, 448, infinity: false)
        case .f8e4m3fnuz: found = float(4, 240, infinity: false)
        case .f8e5m2fnuz: found = float(3, 57344, infinity: false)
        case .f8e8m0: found = (true, 1...2, 0x1p127, false)
        case .f16: found = float(11, 65504)
        case .bf16: found = float(8, Double(Float(bitPattern: 0x7F7F_0000)))
        case .f32: found = float(24, Double(Float.greatestFiniteMagnitude))
        case .f64: found = float(53, .greatestFiniteMagnitude)
        case .f4, .f6e2m3, .f6e3m2, .c32, .c64, .c128: return nil
        }
        (isFloat, integers, greatest, hasInfinity) = found
        hasNaN = isFloat
        hasZeroAndSign = type != .f8e8m0
    }

    /// Whether a conversion from the other does no more than round floats.
    func holds(_ other: NumberRange) -> Bool {
        guard hasZeroAndSign || !other.hasZeroAndSign else { return false }
        if isFloat, other.isFloat {
            return greatest >= other.greatest && (hasInfinity || !other.hasInfinity)
        }
        if other.isFloat { return false }
        return integers.lowerBound <= other.integers.lowerBound && integers.upperBound >= other.integers.upperBound
    }
}

/// A number of any of the types that convert.
private enum ExactNumber {
    case integer(Int128)
    case float(Double)

    /// An element at any alignment.
    init?(_ bytes: UnsafeRawBufferPointer, _ index: Int, _ type: ScalarType) {
        func load<Number: BitwiseCopyable>(_ kind: Number.Type) -> Number {
            bytes.loadUnaligned(fromByteOffset: index * MemoryLayout<Number>.size, as: kind)
        }
        switch type {
        case .bool: self = .integer(load(UInt8.self) == 0 ? 0 : 1)
        case .u8: self = .integer(Int128(load(UInt8.self)))
        case .i8: self = .integer(Int128(load(Int8.self)))
        case .u16: self = .integer(Int128(UInt16(littleEndian: load(UInt16.self))))
        case .i16: self = .integer(Int128(Int16(littleEndian: load(Int16.self))))
        case .u32: self = .integer(Int128(UInt32(littleEndian: load(UInt32.self))))
        case .i32: self = .integer(Int128(Int32(littleEndian: load(Int32.self))))
        case .u64: self = .integer(Int128(UInt64(littleEndian: load(UInt64.self))))
        case .i64: self = .integer(Int128(Int64(littleEndian: load(Int64.self))))
        case .f32: self = .float(Double(Float(bitPattern: UInt32(littleEndian: load(UInt32.self)))))
        case .f64: self = .float(Double(bitPattern: UInt64(littleEndian: load(UInt64.self))))
        case .bf16: self = .float(Double(Float(bitPattern: UInt32(UInt16(littleEndian: load(UInt16.self))) << 16)))
        case .f16, .f8e5m2, .f8e4m3, .f8e8m0, .f8e4m3fnuz, .f8e5m2fnuz:
            let width = type.byteWidth ?? 1
            let element = UnsafeRawBufferPointer(rebasing: bytes[index * width..<(index + 1) * width])
            guard let number = Self.widened(element, type) else { return nil }
            self = .float(number)
        case .f4, .f6e2m3, .f6e3m2, .c32, .c64, .c128: return nil
        }
    }

    private static func widened(_ element: UnsafeRawBufferPointer, _ type: ScalarType) -> Double? {
        var number: Double = 0
        do throws(CairnError) {
            try withUnsafeMutableBytes(of: &number) { target throws(CairnError) in
                var destination = target.mutableBytes
                try ScalarConversion.convert(element.bytes, from: type, into: &destination, to: .f64)
            }
        } catch {
            return nil
        }
        return number
    }

    var isNaN: Bool { if case .float(let number) = self { number.isNaN } else { false } }
    var isFinite: Bool { if case .float(let number) = self { number.isFinite } else { true } }

    var magnitude: Double {
        switch self {
        case .integer(let number): Double(number.magnitude)
        case .float(let number): number.magnitude
        }
    }
}

extension ExactNumber: Equatable {
    static func == (left: ExactNumber, right: ExactNumber) -> Bool {
        switch (left, right) {
        case (.integer(let one), .integer(let other)): one == other
        case (.float(let one), .float(let other)): one == other
        case (.integer(let one), .float(let other)), (.float(let other), .integer(let one)):
            Int128(exactly: other) == one
        }
    }
}
