import CairnBase
import CairnTesting
import Testing

@Suite struct AlignedMemoryTests {
    @Test func blocksOfAllSizesAreAlignedApartAndWhole() {
        let seed = UInt64.random(in: 0...UInt64.max)
        var random = SeededGenerator(seed: seed)
        let sizes =
            [0, 1, 63, 4_095, 4_096, HugePages.byteCount - 1, HugePages.byteCount, HugePages.byteCount + 1]
            + (0..<40).map { _ in Int.random(in: 0...(6 << 20), using: &random) }
        let blocks = sizes.map(AlignedMemory.init(byteCount:))
        for (index, block) in blocks.enumerated() {
            #if os(Linux)
            let isHuge = block.byteCount >= HugePages.byteCount
            #else
            let isHuge = false
            #endif
            let alignment = isHuge ? HugePages.byteCount : block.byteCount >= 4_096 ? 4_096 : 64
            #expect(Int(bitPattern: block.base) % alignment == 0)
            block.base.initializeMemory(as: UInt8.self, repeating: UInt8(index), count: block.byteCount)
        }
        for (index, block) in blocks.enumerated() {
            let isOwn = UnsafeRawBufferPointer(start: block.base, count: block.byteCount).allSatisfy { $0 == UInt8(index) }
            #expect(isOwn, "\(block.byteCount) bytes, seed \(seed)")
            block.deallocate()
        }
    }

    @Test func whatIsDeallocatedIsGivenBack() async {
        await #expect(processExitsWith: .success) {
            PeakMemory.requireGrowth(below: 64 << 20) {
                for round in 0..<40 {
                    let block = AlignedMemory(byteCount: 16 << 20 | round)
                    block.base.initializeMemory(as: UInt8.self, repeating: 1, count: block.byteCount)
                    block.deallocate()
                }
            }
        }
    }

    @Test func theHugePagesOfABlockAreTheWholeOnesInIt() {
        let huge = HugePages.byteCount
        for (begin, count, expected) in [
            (0, 2 * huge, 0..<2 * huge), (0, 2 * huge - 1, 0..<huge), (1, 2 * huge, huge - 1..<2 * huge - 1),
            (4_096, 4_096, 0..<0), (0, huge - 1, 0..<0), (0, 0, 0..<0),
        ] {
            // Nothing is read there.
            let block = UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: 512 * huge + begin), count: count)
            #expect(HugePages.range(of: block) == expected, "\(count) bytes from \(begin)")
        }
        #expect(HugePages.range(of: UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: 1), count: huge)).isEmpty)
        #expect(HugePages.range(of: UnsafeRawBufferPointer(start: nil, count: 0)).isEmpty)
    }
}
