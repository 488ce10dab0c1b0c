import CairnTensor

/// A number of NumPy as a value.
enum NumPyNumber {
    /// The value of one element, `nil` for half and complex numbers, which stay tensors without dimensions.
    ///
    /// - Parameter bytes: The element, little-endian.
    static func value(_ scalarType: ScalarType, _ bytes: some Collection<UInt8>) -> Value? {
        let bits = Array(bytes).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        switch scalarType {
        case .bool: return .bool(bits != 0)
        case .i8: return .integer(Int64(Int8(truncatingIfNeeded: bits)))
        case .i16: return .integer(Int64(Int16(truncatingIfNeeded: bits)))
        case .i32: return .integer(Int64(Int32(truncatingIfNeeded: bits)))
        case .i64: return .integer(Int64(bitPattern: bits))
        case .u8, .u16, .u32, .u64: return Int64(exactly: bits).map { .integer($0) } ?? .unsigned(bits)
        case .f32: return .double(Double(Float(bitPattern: UInt32(truncatingIfNeeded: bits))))
        case .f64: return .double(Double(bitPattern: bits))
        default: return nil
        }
    }
}
