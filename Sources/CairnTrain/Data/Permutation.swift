/// A random order of `0..<count` that is computed, not stored: any element of it in constant time and no memory.
///
/// A Feistel network over the smallest even number of bits that holds `count`, with Philox as round function; results out
/// of range walk on along their cycle (Black and Rogaway 2002), so what remains is a bijection of `0..<count`.
package struct Permutation: Sendable {
    package let count: Int
    private let key: SIMD2<UInt32>
    private let variant: UInt64
    private let halfBits: Int

    /// - Parameter variant: which of the key's orders; the epoch, say.
    package init(count: Int, key: UInt64, variant: UInt64) {
        self.count = count
        self.key = SIMD2(UInt32(truncatingIfNeeded: key), UInt32(truncatingIfNeeded: key >> 32))
        self.variant = variant
        let bits = Int.bitWidth - max(1, count - 1).leadingZeroBitCount
        halfBits = min(31, (bits + 1) / 2)
    }

    /// The element at `index` of the order.
    package subscript(index: Int) -> Int {
        var element = encrypt(UInt64(index))
        while element >= UInt64(count) { element = encrypt(element) }
        return Int(element)
    }

    private func encrypt(_ value: UInt64) -> UInt64 {
        let mask = UInt64(1) << UInt64(halfBits) - 1
        var left = value >> UInt64(halfBits)
        var right = value & mask
        for round in 0..<6 {
            let mixed = Philox.block(
                counter: SIMD4(
                    UInt32(truncatingIfNeeded: right), UInt32(round), UInt32(truncatingIfNeeded: variant),
                    UInt32(truncatingIfNeeded: variant >> 32)),
                key: key)
            (left, right) = (right, left ^ UInt64(mixed.x) & mask)
        }
        return left << UInt64(halfBits) | right
    }
}
