import CairnTensor
import CairnTesting
import Testing

@Suite struct RegionIndexTests {
    @Test(arguments: 0..<200) func itFindsWhatLookingAtAllFinds(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let dimensions = Int.random(in: 0...3, using: &generator)
        func region() throws -> Region {
            let offsets = (0..<dimensions).map { _ in Int.random(in: 0...12, using: &generator) }
            let extents = (0..<dimensions).map { _ in Int.random(in: 0...6, using: &generator) }
            return try Region(offsets: offsets, shape: Shape(extents))
        }
        let regions = try (0..<Int.random(in: 0...40, using: &generator)).map { _ in try region() }
        let index = RegionIndex(regions)
        for _ in 0..<20 {
            let query = try region()
            let expected = regions.indices.filter { regions[$0].intersection(query) != nil }
            #expect(index.positions(meeting: query) == expected, "seed \(seed)")
            for position in regions.indices {
                #expect(regions[position].overlaps(query) == expected.contains(position), "seed \(seed)")
            }
        }
    }
}
