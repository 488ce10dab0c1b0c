import CairnTesting

/// Numbers that are the same on every rank.
package struct ConformanceRandom: RandomNumberGenerator {
    private var generator: SeededGenerator

    package init(seed: UInt64) { generator = SeededGenerator(seed: seed) }

    package mutating func next() -> UInt64 { generator.next() }

    /// `count` values of very different magnitudes, whose sum depends on the order it is taken in.
    static func values(_ count: Int, rank: Int, salt: UInt64) -> [Float] {
        var random = ConformanceRandom(seed: salt &* 1_000_003 &+ UInt64(rank))
        return (0..<count).map { _ in
            let magnitude = Float(sign: .plus, exponent: Int.random(in: -20...20, using: &random), significand: 1)
            return Float.random(in: -1...1, using: &random) * magnitude
        }
    }

    /// `count` bytes of `rank`.
    static func bytes(_ count: Int, rank: Int, salt: UInt64) -> [UInt8] {
        var random = ConformanceRandom(seed: salt &* 1_000_003 &+ UInt64(rank))
        return (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    }

    /// Sizes around the cuts that implementations make, and random ones.
    mutating func sizes() -> [Int] {
        [0, 1, 15, 16, 17, 2_047, 2_049] + (0..<4).map { _ in Int.random(in: 0...40_000, using: &self) }
    }

    /// A count for each rank, some of them zero.
    mutating func counts(_ size: Int, upTo limit: Int) -> [Int] {
        (0..<size).map { _ in Bool.random(using: &self) ? Int.random(in: 0...limit, using: &self) : 0 }
    }
}
