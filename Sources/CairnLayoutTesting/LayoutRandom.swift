/// Random numbers that a seed determines: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
package struct LayoutRandom: RandomNumberGenerator, Sendable {
    private var state: UInt64

    package init(seed: UInt64) { state = seed }

    package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }

    /// A number in the range, which is not empty.
    package mutating func pick(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &self) }

    /// True `percent` times out of a hundred.
    package mutating func isLucky(_ percent: Int) -> Bool { pick(1...100) <= percent }

    /// One of the elements, of which there is at least one.
    package mutating func element<Element>(of list: [Element]) -> Element { list[pick(0...list.count - 1)] }

    /// Sizes of `parts` parts, some perhaps empty, that sum to `total` units of `unit`.
    package mutating func sizes(of total: Int, parts: Int, unit: Int = 1) -> [Int] {
        let borders = [0] + (1..<parts).map { _ in pick(0...total / unit) * unit }.sorted() + [total]
        return zip(borders, borders.dropFirst()).map { $1 - $0 }
    }
}
