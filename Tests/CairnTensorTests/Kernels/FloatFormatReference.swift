import CairnTensor

/// A narrow float type spelled out: the value of each code from its definition, and the nearest code by search.
///
/// Written without the bit tricks of the kernels it checks. A midpoint of two neighbours is exact in `Double`.
struct FloatFormatReference: Sendable, CustomStringConvertible {
    let type: ScalarType
    let exponentBits: Int
    let mantissaBits: Int
    let bias: Int
    /// The code of the largest finite value.
    let largest: UInt16
    let hasInfinity: Bool
    /// One zero and one NaN, 0x80.
    let isUnsignedZero: Bool
    /// The finite magnitudes by code, then the one that would follow the largest.
    let magnitudes: [Double]

    var description: String { type.description }
    var width: Int { 1 + exponentBits + mantissaBits }
    var signBit: UInt16 { 1 << UInt16(width - 1) }

    init(
        _ type: ScalarType, exponentBits: Int, mantissaBits: Int, bias: Int, largest: UInt16, hasInfinity: Bool = false,
        isUnsignedZero: Bool = false
    ) {
        self.type = type
        self.exponentBits = exponentBits
        self.mantissaBits = mantissaBits
        self.bias = bias
        self.largest = largest
        self.hasInfinity = hasInfinity
        self.isUnsignedZero = isUnsignedZero
        magnitudes = (0...Int(largest) + 1).map { code in
            let exponent = code >> mantissaBits
            let fraction = Double(code & ((1 << mantissaBits) - 1)) / Double(1 << mantissaBits)
            return exponent == 0
                ? Double(sign: .plus, exponent: 1 - bias, significand: fraction)
                : Double(sign: .plus, exponent: exponent - bias, significand: 1 + fraction)
        }
    }

    static let f16 = Self(.f16, exponentBits: 5, mantissaBits: 10, bias: 15, largest: 0x7BFF, hasInfinity: true)
    static let bf16 = Self(.bf16, exponentBits: 8, mantissaBits: 7, bias: 127, largest: 0x7F7F, hasInfinity: true)
    static let e5m2 = Self(.f8e5m2, exponentBits: 5, mantissaBits: 2, bias: 15, largest: 0x7B, hasInfinity: true)
    static let e4m3 = Self(.f8e4m3, exponentBits: 4, mantissaBits: 3, bias: 7, largest: 0x7E)
    static let e5m2fnuz = Self(
        .f8e5m2fnuz, exponentBits: 5, mantissaBits: 2, bias: 16, largest: 0x7F, isUnsignedZero: true)
    static let e4m3fnuz = Self(
        .f8e4m3fnuz, exponentBits: 4, mantissaBits: 3, bias: 8, largest: 0x7F, isUnsignedZero: true)
    static let all = [f16, bf16, e5m2, e4m3, e5m2fnuz, e4m3fnuz]

    /// The value of a code; `nan` for every NaN.
    func value(_ code: UInt16) -> Double {
        if isUnsignedZero && code == 0x80 { return .nan }
        let magnitude = code & (signBit - 1)
        let sign: FloatingPointSign = code & signBit == 0 ? .plus : .minus
        if magnitude <= largest { return sign == .plus ? magnitudes[Int(magnitude)] : -magnitudes[Int(magnitude)] }
        return hasInfinity && magnitude == largest + 1 ? (sign == .plus ? .infinity : -.infinity) : .nan
    }

    func isNaN(_ code: UInt16) -> Bool { value(code).isNaN }

    /// The code nearest to a value that is not NaN, ties to even.
    func code(nearestTo value: Double, overflow: OverflowBehavior) -> UInt16 {
        let sign = value.sign == .minus ? signBit : 0
        var code = largest + 1
        if value.magnitude < magnitudes[Int(largest) + 1] {
            var low = 0, high = Int(largest) + 1  // magnitudes[low] <= value < magnitudes[high]
            while high - low > 1 {
                let middle = (low + high) / 2
                if magnitudes[middle] <= value.magnitude { low = middle } else { high = middle }
            }
            let midpoint = (magnitudes[low] + magnitudes[high]) / 2
            let isUpper = value.magnitude > midpoint || (value.magnitude == midpoint && low % 2 == 1)
            code = UInt16(isUpper ? high : low)
        }
        if code > largest {
            if overflow == .saturate { return sign | largest }
            return isUnsignedZero ? 0x80 : sign | (largest + 1)
        }
        return isUnsignedZero && code == 0 ? 0 : sign | code
    }

    /// Every code of the type.
    var codes: [UInt16] { (0..<UInt32(1) << UInt32(width)).map { UInt16($0) } }
}
