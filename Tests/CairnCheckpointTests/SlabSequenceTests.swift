import CairnCheckpoint
import CairnTensor
import Testing

@Suite struct SlabSequenceTests {
    @Test(arguments: [1, 7, 16, 40, 64, 1000]) func slabsFollowEachOtherAndCoverTheTensor(limit: Int) {
        for extents in [[], [0], [1], [17], [3, 5], [4, 1, 6], [2, 3, 4, 5], [5, 0, 2]] as [[Int]] {
            for type in [ScalarType.f32, .u8] {
                let tensor = TensorDescription(name: "t", scalarType: type, shape: Shape(extents))
                var next = 0
                for region in SlabSequence(of: tensor, byteLimit: limit) {
                    let first = zip(region.offsets, tensor.shape.strides).reduce(0) { $0 + $1.0 * $1.1 }
                    #expect(first == next, "\(extents) limit \(limit)")
                    let runs = RegionRuns(of: region, in: tensor.shape)
                    #expect(runs.count == 1)
                    #expect(region.elementCount * type.bitWidth / 8 <= max(limit, type.bitWidth / 8))
                    next += region.elementCount
                }
                #expect(next == tensor.shape.elementCount, "\(extents) limit \(limit)")
            }
        }
    }

    @Test func packedSlabsEndAtBytes() {
        for extents in [[64], [3, 8], [16, 2], [2, 3, 4], [5, 1, 2]] as [[Int]] {
            let tensor = TensorDescription(name: "t", scalarType: .f4, shape: Shape(extents))
            var next = 0
            for region in SlabSequence(of: tensor, byteLimit: 2) {
                #expect(next * 4 % 8 == 0)
                next += region.elementCount
            }
            #expect(next == tensor.shape.elementCount, "\(extents)")
        }
    }
}
