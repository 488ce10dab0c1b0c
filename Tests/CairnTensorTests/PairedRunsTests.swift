import CairnTensor
import CairnTesting
import Testing

@Suite struct PairedRunsTests {
    private static func shape(_ generator: inout SeededGenerator) -> Shape {
        Shape((0..<Int.random(in: 0...4, using: &generator)).map { _ in Int.random(in: 0...6, using: &generator) })
    }

    private static func region(_ shape: Shape, _ generator: inout SeededGenerator) throws -> Region {
        var offsets: [Int] = [], extents: [Int] = []
        for extent in shape.extents {
            let offset = Int.random(in: 0...extent, using: &generator)
            offsets.append(offset)
            extents.append(Int.random(in: 0...(extent - offset), using: &generator))
        }
        return try Region(offsets: offsets, shape: Shape(extents))
    }

    /// The offsets of a region's elements, one by one.
    private static func elements(_ region: Region, _ shape: Shape) -> [Int] {
        var offsets = [0]
        for dimension in region.offsets.indices {
            let range = region.offsets[dimension]..<region.offsets[dimension] + region.shape[dimension]
            offsets = offsets.flatMap { base in range.map { base + $0 * shape.strides[dimension] } }
        }
        return offsets
    }

    @Test func piecesNameEveryElementOfBothRegionsInOrder() throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        var generator = SeededGenerator(seed: seed)
        for round in 0..<2000 {
            let shape = Self.shape(&generator)
            let region = try Self.region(shape, &generator)
            var other = shape
            var destination = Region(whole: region.shape)
            if Bool.random(using: &generator) {
                // A larger tensor that holds the region somewhere, or a flat run.
                let offsets = region.offsets.map { _ in Int.random(in: 0...3, using: &generator) }
                destination = try Region(offsets: offsets, shape: region.shape)
                other = Shape(zip(offsets, region.shape.extents).map { $0 + $1 + Int.random(in: 0...2, using: &generator) })
            } else {
                let offset = Int.random(in: 0...5, using: &generator)
                destination = try Region(offsets: [offset], shape: [region.elementCount])
                other = [offset + region.elementCount + 2]
            }
            var runs = try #require(PairedRuns(from: region, of: shape, to: destination, of: other))
            let expected = Array(zip(Self.elements(region, shape), Self.elements(destination, other)))
            var found: [(Int, Int)] = []
            for (source, target) in runs {
                for step in 0..<runs.pieceLength { found.append((source + step, target + step)) }
            }
            #expect(found.map(\.0) == expected.map(\.0), "seed \(seed), round \(round): \(region) of \(shape)")
            #expect(found.map(\.1) == expected.map(\.1), "seed \(seed), round \(round): \(destination) of \(other)")
            guard runs.count > 0 else { continue }
            let piece = Int.random(in: 0..<runs.count, using: &generator)
            #expect(runs.sourceOffset(ofPiece: piece) == expected[piece * runs.pieceLength].0)
            runs.seek(to: piece)
            #expect(runs.next()?.destination == expected[piece * runs.pieceLength].1)
            let offset = Int.random(in: 0...shape.elementCount, using: &generator)
            let first = (0..<runs.count).first { expected[$0 * runs.pieceLength].0 + runs.pieceLength > offset }
            #expect(runs.firstPiece(endingAfter: offset) == first ?? runs.count)
        }
    }

    @Test func regionsThatDifferAreRefused() throws {
        #expect(PairedRuns(from: Region(whole: [2, 3]), of: [2, 3], to: Region(whole: [5]), of: [5]) == nil)
        let column = try Region(offsets: [0, 0], shape: [4, 1])
        let row = try Region(offsets: [0, 0], shape: [2, 2])
        #expect(PairedRuns(from: column, of: [4, 4], to: row, of: [4, 4]) == nil)
    }
}
