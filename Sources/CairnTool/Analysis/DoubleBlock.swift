import CairnBase
import CairnTensor

/// Elements of any numeric type as doubles, in memory that is used again.
struct DoubleBlock {
    private(set) var values: [Double] = []

    /// Whether elements of this type have a value as a double.
    static func canHold(_ scalarType: ScalarType) -> Bool {
        ScalarConversion.isSupported(from: scalarType, to: .f64)
    }

    /// Replaces the values by those of `bytes`. Integers beyond 2^53 are rounded.
    ///
    /// - Throws: ``CairnError/Code/unsupported`` for packed and complex types.
    mutating func load(_ bytes: UnsafeRawBufferPointer, of scalarType: ScalarType) throws(CairnError) {
        let count = bytes.count / (scalarType.byteWidth ?? 1)
        if values.count != count { values = [Double](repeating: 0, count: count) }
        var span = values.mutableSpan
        var destination = span.mutableBytes
        try ScalarConversion.convert(bytes.bytes, from: scalarType, into: &destination, to: .f64)
    }
}
