/// A hash of 64 bits that is the same in every process and every version: FNV-1a (Fowler, Noll, Vo). It notices mistakes and
/// does not withstand forgers.
package struct Hash64: Sendable {
    /// The hash of what has been added.
    package private(set) var value: UInt64 = 0xCBF2_9CE4_8422_2325

    package init() {}

    /// Adds a word.
    package mutating func combine(_ word: UInt64) { value = (value ^ word) &* 0x100_0000_01B3 }

    /// Adds bytes.
    package mutating func combine(_ bytes: RawSpan) {
        for offset in bytes.byteOffsets { combine(UInt64(bytes.unsafeLoad(fromByteOffset: offset, as: UInt8.self))) }
    }

    /// Adds a text's bytes in UTF-8.
    package mutating func combine(_ text: String) {
        for byte in text.utf8 { combine(UInt64(byte)) }
    }
}

/// Random numbers whose whole state is one number: SplitMix64. (Steele, Lea and Flood, OOPSLA 2014)
package struct SplitMix64: RandomNumberGenerator, Sendable, Hashable {
    /// What the state grows by from number to number: 2^64 by the golden ratio.
    package static let increment: UInt64 = 0x9E37_79B9_7F4A_7C15

    /// Where it is.
    package private(set) var state: UInt64

    package init(seed: UInt64) { state = seed }

    package mutating func next() -> UInt64 {
        state &+= Self.increment
        return Self.mixed(state)
    }

    /// A word whose bits each depend on all bits of another. No two words give the same.
    package static func mixed(_ word: UInt64) -> UInt64 {
        var word = word
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return word ^ (word >> 31)
    }
}
