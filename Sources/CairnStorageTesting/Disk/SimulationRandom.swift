import CairnTesting

/// Random numbers that a seed determines.
package struct SimulationRandom: RandomNumberGenerator, Sendable {
    private var generator: SeededGenerator

    package init(seed: UInt64) { generator = SeededGenerator(seed: seed) }

    package mutating func next() -> UInt64 { generator.next() }

    /// True `percent` times out of a hundred.
    mutating func isLucky(percent: UInt64) -> Bool { next() % 100 < percent }

    /// A number below `bound`, which is positive.
    mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
}
