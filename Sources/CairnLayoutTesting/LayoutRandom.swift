import CairnTesting

/// Random numbers that a seed determines.
package struct LayoutRandom: RandomNumberGenerator, Sendable {
    private var generator: SeededGenerator

    package init(seed: UInt64) { generator = SeededGenerator(seed: seed) }

    package mutating func next() -> UInt64 { generator.next() }

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
