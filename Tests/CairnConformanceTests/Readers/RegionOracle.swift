import CairnBase
import CairnCheckpoint
import CairnTensor
import CairnTesting

/// What a region of a tensor is, element by element, computed from the whole by nothing that readers use.
enum RegionOracle {
    /// The elements of a region in row-major order; `nil` where a run of packed elements does not fill whole bytes.
    static func bytes(_ whole: [UInt8], _ type: ScalarType, _ shape: Shape, _ region: Region) -> [UInt8]? {
        let positions = positions(shape, region)
        guard let width = type.byteWidth else { return packed(whole, type.bitWidth, positions) }
        return positions.flatMap { whole[$0 * width..<($0 + 1) * width] }
    }

    /// The row-major position of every element in the whole.
    private static func positions(_ shape: Shape, _ region: Region) -> [Int] {
        var positions = [0]
        for dimension in region.offsets.indices {
            let range = region.offsets[dimension]..<region.offsets[dimension] + region.shape[dimension]
            positions = positions.flatMap { position in range.map { position * shape[dimension] + $0 } }
        }
        return positions
    }

    /// Bits lie from the lowest of each byte on.
    private static func packed(_ whole: [UInt8], _ width: Int, _ positions: [Int]) -> [UInt8]? {
        var runs: [Range<Int>] = []
        for position in positions {
            if let last = runs.last, last.upperBound == position {
                runs[runs.count - 1] = last.lowerBound..<position + 1
            } else {
                runs.append(position..<position + 1)
            }
        }
        guard runs.allSatisfy({ $0.lowerBound * width % 8 == 0 && $0.upperBound * width % 8 == 0 }) else { return nil }
        return runs.flatMap { whole[$0.lowerBound * width / 8..<$0.upperBound * width / 8] }
    }
}

extension Region {
    /// All of a tensor, nothing of it, one element, a slab, and boxes inside.
    static func samples(of shape: Shape, using generator: inout SeededGenerator) throws -> [Region] {
        var regions = [Region(whole: shape)]
        guard shape.dimensionCount > 0 else { return regions }
        let zeros = [Int](repeating: 0, count: shape.dimensionCount)
        regions.append(try Region(offsets: zeros, shape: Shape(zeros)))
        // Nothing, at the very end.
        regions.append(try Region(offsets: shape.extents, shape: Shape(zeros)))
        guard shape.elementCount > 0 else { return regions }
        for _ in 0..<2 {
            let element = shape.extents.map { Int.random(in: 0..<$0, using: &generator) }
            regions.append(try Region(offsets: element, shape: Shape(zeros.map { _ in 1 })))
        }
        for _ in 0..<6 {
            var offsets: [Int] = [], extents: [Int] = []
            for extent in shape.extents {
                let ends = [Int.random(in: 0...extent, using: &generator), Int.random(in: 0...extent, using: &generator)].sorted()
                // Often all of a dimension, so that runs fold together.
                let isWhole = Int.random(in: 0..<3, using: &generator) == 0
                offsets.append(isWhole ? 0 : ends[0])
                extents.append(isWhole ? extent : ends[1] - ends[0])
            }
            regions.append(try Region(offsets: offsets, shape: Shape(extents)))
        }
        return regions
    }
}

extension CheckpointReader {
    /// A region in memory of its own.
    func bytes(_ name: String, _ region: Region, count: Int? = nil) throws(CairnError) -> [UInt8] {
        let type = try description(of: name).scalarType
        var bytes = [UInt8](repeating: 0xA5, count: count ?? type.leastByteCount(elementCount: region.elementCount))
        var span = bytes.mutableSpan
        var raw = span.mutableBytes
        try read(name, region: region, into: &raw)
        return bytes
    }

    /// All of a tensor, as an array.
    ///
    /// Not inlined: Swift 6.3.1 destroys the tensor twice then, which its own verifier notices.
    @inline(never) func whole(_ name: String) throws -> [UInt8] {
        let tensor = try tensor(name)
        return tensor.bytes.withUnsafeBytes { Array($0) }
    }
}
