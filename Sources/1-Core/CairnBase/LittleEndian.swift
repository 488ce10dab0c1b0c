extension [UInt8] {
    /// Appends an integer, the least significant byte first.
    @inlinable package mutating func append(littleEndian value: some FixedWidthInteger & UnsignedInteger) {
        var rest = value
        for _ in 0..<value.bitWidth / 8 {
            append(UInt8(truncatingIfNeeded: rest))
            rest >>= 8
        }
    }

    /// The integer that begins at an index, the least significant byte first. All of its bytes have to be there.
    @inlinable package func littleEndian<Number: FixedWidthInteger & UnsignedInteger>(
        _ type: Number.Type, at index: Int
    ) -> Number {
        self[index..<index + type.bitWidth / 8].reversed().reduce(0) { $0 << 8 | Number($1) }
    }
}
