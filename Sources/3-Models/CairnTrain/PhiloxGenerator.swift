internal import CairnBase
package import CairnTensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A random number generator whose whole state is a key and a position.
///
/// Two generators with equal key and position draw equal numbers for ever after; ``value`` stores both.
package struct PhiloxGenerator: RandomNumberGenerator, Sendable, Hashable {
    /// What tells one sequence from another.
    package let key: UInt64
    /// Which of the sequences of the key is drawn from.
    package let stream: UInt64
    /// How many 64-bit numbers have been drawn.
    package private(set) var position: UInt64

    /// A generator at the start of a sequence.
    ///
    /// - Parameter stream: picks one of 2⁶⁴ independent sequences of the same key.
    package init(key: UInt64, stream: UInt64 = 0) {
        self.key = key
        self.stream = stream
        position = 0
    }

    package mutating func next() -> UInt64 {
        let counter = position >> 1
        let block = Philox.block(
            counter: SIMD4(
                UInt32(truncatingIfNeeded: counter), UInt32(truncatingIfNeeded: counter >> 32),
                UInt32(truncatingIfNeeded: stream), UInt32(truncatingIfNeeded: stream >> 32)),
            key: SIMD2(UInt32(truncatingIfNeeded: key), UInt32(truncatingIfNeeded: key >> 32)))
        defer { position &+= 1 }
        return position & 1 == 0
            ? UInt64(block.x) | UInt64(block.y) << 32 : UInt64(block.z) | UInt64(block.w) << 32
    }

    /// The next number of [0, 1), a multiple of 2⁻⁵³.
    package mutating func uniform() -> Double { Double(next() >> 11) * 0x1p-53 }

    /// The next number of the normal distribution (Box and Muller 1958; takes two draws).
    package mutating func normal() -> Double {
        // One minus keeps the logarithm away from zero.
        let radius = (-2 * log(1 - uniform())).squareRoot()
        return radius * cos(2 * Double.pi * uniform())
    }

    /// Continues as if ``normal()`` had been called `count` times.
    mutating func skipNormals(_ count: Int) { position &+= 2 &* UInt64(count) }

    /// Brings the elements into random order (Fisher and Yates).
    package mutating func shuffle<Element>(_ elements: inout [Element]) {
        guard elements.count > 1 else { return }
        for last in stride(from: elements.count - 1, to: 0, by: -1) {
            // The high half of the product is uniform up to a bias of count / 2⁶⁴.
            let other = Int(next().multipliedFullWidth(by: UInt64(last + 1)).high)
            elements.swapAt(last, other)
        }
    }

    /// The state as a value to store.
    package var value: Value {
        .dictionary([
            "kind": .string("philox4x32-10"), "key": .unsigned(key), "stream": .unsigned(stream),
            "position": .unsigned(position),
        ])
    }

    init(_ fields: ValueFields) throws(CairnError) {
        try fields.expect("kind", .string("philox4x32-10"))
        key = try fields.unsigned("key")
        stream = try fields.unsigned("stream")
        position = try fields.unsigned("position")
        try fields.allowOnly(["kind", "key", "stream", "position"])
    }
}

/// Philox4x32-10: a keyed bijection of 128-bit counters whose outputs pass as random.
///
/// Salmon, Moraes, Dror, Shaw: "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011. A draw depends on key and counter
/// alone, so a generator's whole state is two small numbers.
package enum Philox {
    /// The four words at `counter` under `key`.
    package static func block(
        counter: SIMD4<UInt32>, key: SIMD2<UInt32>
    ) -> SIMD4<UInt32> {
        var counter = counter
        var key = key
        for _ in 0..<10 {
            let first = UInt64(counter.x) &* 0xD251_1F53
            let second = UInt64(counter.z) &* 0xCD9E_8D57
            counter = SIMD4(
                UInt32(truncatingIfNeeded: second >> 32) ^ counter.y ^ key.x, UInt32(truncatingIfNeeded: second),
                UInt32(truncatingIfNeeded: first >> 32) ^ counter.w ^ key.y, UInt32(truncatingIfNeeded: first))
            key = SIMD2(key.x &+ 0x9E37_79B9, key.y &+ 0xBB67_AE85)
        }
        return counter
    }
}
