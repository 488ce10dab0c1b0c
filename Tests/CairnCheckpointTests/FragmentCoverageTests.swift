import CairnBase
import CairnCheckpoint
import CairnTensor
import CairnTesting
import Testing

/// Regions make up a tensor or they do not, whatever their number and shapes.
@Suite struct FragmentCoverageTests {
    private func box(_ offsets: [Int], _ extents: [Int]) throws -> Region {
        try Region(offsets: offsets, shape: Shape(extents))
    }

    private func code(_ regions: [Region], _ shape: Shape) -> CairnError.Code? {
        do throws(CairnError) {
            try FragmentCoverage.check(regions, of: shape)
            return nil
        } catch {
            return error.code
        }
    }

    /// What counting every element says.
    private func counted(_ regions: [Region], _ shape: Shape) -> Bool {
        var counts = [Int](repeating: 0, count: shape.elementCount)
        for region in regions {
            for start in RegionRuns(of: region, in: shape) {
                for index in 0..<RegionRuns(of: region, in: shape).runLength { counts[start + index] += 1 }
            }
        }
        return counts.allSatisfy { $0 == 1 }
    }

    @Test func randomCutsAgreeWithCountingEveryElement() throws {
        let seed: UInt64 = 77
        var generator = SeededGenerator(seed: seed)
        var wrong = 0
        for number in 0..<4000 {
            let extents = (0..<Int.random(in: 0...4, using: &generator)).map { _ in Int.random(in: 1...6, using: &generator) }
            let shape = Shape(extents)
            var regions = [Region(whole: shape)]
            for _ in 0..<Int.random(in: 0...12, using: &generator) where !extents.isEmpty {
                let index = Int.random(in: 0..<regions.count, using: &generator)
                let axis = Int.random(in: 0..<extents.count, using: &generator)
                let region = regions[index]
                guard region.shape[axis] > 1 else { continue }
                let cut = Int.random(in: 1..<region.shape[axis], using: &generator)
                var (offsets, left, right) = (region.offsets, region.shape.extents, region.shape.extents)
                left[axis] = cut
                right[axis] -= cut
                regions[index] = try box(offsets, left)
                offsets[axis] += cut
                regions.append(try box(offsets, right))
            }
            if number % 2 == 1, let last = regions.last, !extents.isEmpty {
                // One box moves or grows, inside the tensor: the sum of elements often stays.
                var (offsets, sizes) = (last.offsets, last.shape.extents)
                let axis = Int.random(in: 0..<extents.count, using: &generator)
                if offsets[axis] > 0 {
                    offsets[axis] -= 1
                } else if offsets[axis] + sizes[axis] < extents[axis] {
                    sizes[axis] += 1
                }
                regions[regions.count - 1] = try box(offsets, sizes)
            }
            regions.shuffle(using: &generator)
            let isPartition = counted(regions, shape)
            if !isPartition { wrong += 1 }
            #expect((code(regions, shape) == nil) == isPartition, "seed \(seed), number \(number): \(regions) of \(shape)")
        }
        #expect(wrong > 500)
    }

    /// Boxes that all begin at another place and all reach to the end, in every dimension but one: a sweep has all of them
    /// at hand all of the time.
    @Test func aMillionLongBoxesAreCheckedInReasonableTime() throws {
        let count = 500_000
        var regions: [Region] = []
        regions.reserveCapacity(2 * count)
        for index in 0..<count {
            regions.append(try box([index, index], [count - index, 1]))
            if index > 0 { regions.append(try box([0, index], [index, 1])) }
        }
        #expect(code(regions, [count, count]) == nil)
        // The same number of elements, one box where another is.
        regions[regions.count - 2] = regions[regions.count - 4]
        #expect(code(regions, [count, count]) != nil)
        regions.removeLast()
        #expect(code(regions, [count, count]) != nil)
    }
}
